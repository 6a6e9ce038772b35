package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// PoolTLS says how https origins of a pool are known. The zero value asks for a
// certificate for the origin's own name, by the system's authorities.
type PoolTLS struct {
	ServerName string // asked for (SNI) and verified instead of the origin's own
	CA         string // PEM file of the only authorities that are believed
	Cert, Key  string // PEM files of the certificate that the node shows
	Insecure   bool   // verify nothing: anybody on the way can be the origin
}

// load reads the files and returns the configuration of connections, on top of
// base if that is not nil.
func (t *PoolTLS) load(base *tls.Config) (*tls.Config, error) {
	conf := &tls.Config{}
	if base != nil {
		conf = base.Clone()
	}
	conf.MinVersion = max(conf.MinVersion, tls.VersionTLS12)
	if t.ServerName != "" {
		conf.ServerName = t.ServerName
	}
	conf.InsecureSkipVerify = conf.InsecureSkipVerify || t.Insecure
	if t.CA != "" {
		pem, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, fmt.Errorf("tls.ca: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tls.ca: %s holds no certificate", t.CA)
		}
	}
	if (t.Cert == "") != (t.Key == "") {
		return nil, errors.New("tls.cert and tls.key: one without the other")
	}
	if t.Cert != "" {
		pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
		if err != nil {
			return nil, fmt.Errorf("tls.cert: %w", err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	return conf, nil
}

// A dialer opens connections to the origins of a pool.
type dialer struct {
	net     net.Dialer
	tls     *tls.Config
	timeout time.Duration // for TCP and TLS together
}

func (d *dialer) plain(ctx context.Context, network, address string) (net.Conn, error) {
	return d.net.DialContext(ctx, network, address)
}

func (d *dialer) secure(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	t := tls.Dialer{NetDialer: &d.net, Config: d.tls}
	return t.DialContext(ctx, network, address)
}
