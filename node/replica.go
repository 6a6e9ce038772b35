package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/edgenode/edgenode/node/admin"
	"github.com/edgenode/edgenode/node/api"
	"github.com/edgenode/edgenode/node/config"
	"github.com/edgenode/edgenode/node/replica"
	"github.com/edgenode/edgenode/tiers"
)

var (
	_ api.Replica    = (*replica.Replica)(nil)
	_ replica.Engine = (*tiers.Engine)(nil)
	_ admin.Engine   = followingEngine{}
)

// openReplica begins to follow the hub, if there is one. Its own goroutine waits for
// the hub: a node starts without it.
func (n *Node) openReplica(cfg *config.Config, set *metrics.Set) error {
	c := &cfg.Replica
	if c.From == "" {
		return nil
	}
	conf, err := hubTLS(&c.TLS)
	if err != nil {
		return fmt.Errorf("node: replica: %w", err)
	}
	n.replica, err = replica.Open(replica.Options{
		Engine: n.engine, From: c.From, Prefixes: c.Prefixes, Token: c.Token, Client: hubTransport(conf),
		Dir: cfg.DataDir, Self: n.engine.Identity().ID, Forward: c.Writes == "forward", MaxPayload: int64(cfg.MaxPayloadBytes),
		Grace: c.PartitionGrace.Std(), Refuse: c.OnPartition == "refuse", Now: n.now, Log: n.log, Metrics: set,
	})
	return err
}

// hubTransport connects to the hub: a few connections, one of which waits for
// changes.
func hubTransport(conf *tls.Config) *http.Transport {
	dialer := net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}
	return &http.Transport{
		DialContext: dialer.DialContext, TLSClientConfig: conf, TLSHandshakeTimeout: 5 * time.Second,
		MaxIdleConnsPerHost: 16, IdleConnTimeout: 50 * time.Second, DisableCompression: true,
	}
}

// hubTLS reads the files of connections to the hub.
func hubTLS(t *config.ReplicaTLS) (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	if t.CA != "" {
		pem, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, fmt.Errorf("tls.ca: %w", err)
		}
		if conf.RootCAs = x509.NewCertPool(); !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tls.ca: %s holds no certificate", t.CA)
		}
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

// apiReplica returns what the items API asks about the hub; nil without one.
func (n *Node) apiReplica() api.Replica {
	if n.replica == nil {
		return nil
	}
	return n.replica
}

// A followingEngine is the engine as /healthz sees it: a hub that is not followed
// degrades the node.
type followingEngine struct {
	*tiers.Engine
	replica *replica.Replica
}

// Health is that of the engine, and why the hub is not followed.
func (e followingEngine) Health(ctx context.Context) tiers.Health {
	h := e.Engine.Health(ctx)
	if e.replica == nil {
		return h
	}
	if reasons := e.replica.Health().Reasons; len(reasons) > 0 {
		h.Reasons = append(h.Reasons, reasons...)
		if h.Verdict == "ok" {
			h.Verdict = "degraded"
		}
	}
	return h
}

// replicaHealth is shown in /healthz; nil without a hub.
func (n *Node) replicaHealth() any {
	if n.replica == nil {
		return nil
	}
	return n.replica.Health()
}
