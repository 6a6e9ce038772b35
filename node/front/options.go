package front

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// Defaults of [Options].
const (
	DefaultHeaderTimeout            = 10 * time.Second
	DefaultIdleTimeout              = 60 * time.Second
	DefaultMaxHeaderBytes           = 32 << 10
	DefaultMaxURLBytes              = 8 << 10
	DefaultMaxBodyBytes             = 16 << 20
	DefaultMinBodyRate              = 1 << 10
	DefaultMaxConnections           = 10_000
	DefaultMaxConnectionsPerAddress = 1_000
	DefaultMaxRequestsPerConnection = 100_000
)

// None switches a numeric limit of [Options] off where its zero means the
// default.
const None = -1

// Options configure one listener. Zero fields take the defaults above.
type Options struct {
	// Name is the listener's label in metrics and logs: "data" or "admin".
	Name string
	// Address is host:port; an empty host means every interface, port 0 one
	// that is free.
	Address string
	// Listener is used in place of Address if it is set (socket activation,
	// tests). The server closes it.
	Listener net.Listener
	// TLS makes the listener speak TLS only, if its Cert is set.
	TLS TLS

	// HeaderTimeout is the time from a request's first byte to its last header
	// line, and the time for a TLS handshake. Time-outs are enforced within
	// half a second.
	HeaderTimeout time.Duration
	// IdleTimeout is the longest wait for a request's first byte, and the
	// longest stall of a client that does not take an answer.
	IdleTimeout time.Duration
	// MaxHeaderBytes bounds the header lines of a request; above it 431.
	MaxHeaderBytes int
	// MaxURLBytes bounds the request target; above it 414.
	MaxURLBytes int
	// MaxBodyBytes bounds a request's body; above it 413. None is no bound.
	MaxBodyBytes int64
	// MinBodyRate is the least average rate of a body in bytes per second,
	// after ten seconds of grace; only time spent waiting for the client
	// counts. None is no such limit.
	MinBodyRate int64
	// MaxConnections bounds the open connections.
	MaxConnections int
	// MaxConnectionsPerAddress bounds those of one IPv4 address or IPv6 /64;
	// trusted proxies are exempt.
	MaxConnectionsPerAddress int
	// MaxRequestsPerConnection closes a connection after that many answers;
	// None is never.
	MaxRequestsPerConnection int

	// TrustedProxies are the networks whose Forwarded and X-Forwarded-For are
	// believed. See [Server.SetTrustedProxies].
	TrustedProxies []netip.Prefix

	// ProxyProtocol makes trusted proxies begin each connection with a header of
	// the PROXY protocol, version 1 or 2: the address in it is the peer. A trusted
	// proxy that sends none is cut off; nobody else may send one.
	ProxyProtocol bool

	// Problem makes the content of answers to what is no valid request; nil
	// makes a plain problem+json.
	Problem Problem
	// Logger hears of changes of state; nil is slog.Default.
	Logger *slog.Logger
	// Metrics is the set for the server's metrics; nil is none.
	Metrics *metrics.Set
	// Now is the clock for the Date field; nil is time.Now.
	Now func() time.Time
}

// fill sets the defaults.
func (o *Options) fill() {
	set(&o.Name, "data")
	set(&o.HeaderTimeout, DefaultHeaderTimeout)
	set(&o.IdleTimeout, DefaultIdleTimeout)
	set(&o.MaxHeaderBytes, DefaultMaxHeaderBytes)
	set(&o.MaxURLBytes, DefaultMaxURLBytes)
	set(&o.MaxBodyBytes, DefaultMaxBodyBytes)
	set(&o.MinBodyRate, DefaultMinBodyRate)
	set(&o.MaxConnections, DefaultMaxConnections)
	set(&o.MaxConnectionsPerAddress, DefaultMaxConnectionsPerAddress)
	set(&o.MaxRequestsPerConnection, DefaultMaxRequestsPerConnection)
	if o.Problem == nil {
		o.Problem = plainProblem
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
}

func set[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// validate reports every fault of filled options at once.
func (o *Options) validate() error {
	var faults []error
	fault := func(ok bool, key string, value any, want string) {
		if !ok {
			faults = append(faults, fmt.Errorf("front: option %s = %v: want %s", key, value, want))
		}
	}
	fault(o.Address != "" || o.Listener != nil, "Address", `""`, `host:port, such as ":8080"`)
	fault(o.HeaderTimeout > 0, "HeaderTimeout", o.HeaderTimeout, "more than 0")
	fault(o.IdleTimeout > 0, "IdleTimeout", o.IdleTimeout, "more than 0")
	fault(o.MaxHeaderBytes >= 1<<10 && o.MaxHeaderBytes <= 1<<20, "MaxHeaderBytes", o.MaxHeaderBytes, "1 KiB to 1 MiB")
	fault(o.MaxURLBytes >= 256 && o.MaxURLBytes <= 64<<10, "MaxURLBytes", o.MaxURLBytes, "256 B to 64 KiB")
	fault(o.MaxBodyBytes >= None, "MaxBodyBytes", o.MaxBodyBytes, "at least 0, or None")
	fault(o.MinBodyRate >= None, "MinBodyRate", o.MinBodyRate, "at least 0, or None")
	fault(o.MaxConnections > 0, "MaxConnections", o.MaxConnections, "at least 1")
	fault(o.MaxConnectionsPerAddress > 0, "MaxConnectionsPerAddress", o.MaxConnectionsPerAddress, "at least 1")
	fault(o.MaxRequestsPerConnection >= None, "MaxRequestsPerConnection", o.MaxRequestsPerConnection, "at least 1, or None")
	fault(o.TLS.Cert != "" || o.TLS.Key == "" && o.TLS.ClientCA == "", "TLS", o.TLS, "Cert set, when Key or ClientCA is")
	fault(o.TLS.Cert == "" || o.TLS.Key != "", "TLS", o.TLS, "Key set, when Cert is")
	return errors.Join(faults...)
}

// listen opens the listener; a failure names address and remedy.
func (o *Options) listen() (net.Listener, error) {
	if o.Listener != nil {
		return o.Listener, nil
	}
	var lc net.ListenConfig
	lc.SetMultipathTCP(false) // what watches connections is tried on plain TCP only
	ln, err := lc.Listen(context.Background(), "tcp", o.Address)
	if err == nil {
		return ln, nil
	}
	return nil, fmt.Errorf("front: listen %s address %q: %w: %s", o.Name, o.Address, err, remedy(err))
}
