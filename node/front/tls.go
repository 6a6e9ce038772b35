package front

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// TLS names the PEM files of a listener.
type TLS struct {
	Cert     string // chain, leaf first; empty is no TLS
	Key      string
	ClientCA string // if set, clients must show a certificate signed by one of these
}

// filesCheckEvery is how often the files of a listener are looked at.
const filesCheckEvery = 5 * time.Second

// A certificates holds the TLS configuration made of a listener's files, and
// makes it anew when they changed. It is safe for concurrent use.
type certificates struct {
	files   TLS
	current atomic.Pointer[tls.Config]

	mu   sync.Mutex // guards seen; is held during a load
	seen [3]stamp
}

// A stamp tells whether a file was replaced or written.
type stamp struct {
	size int64
	time time.Time
}

// newCertificates loads files; without Cert it returns nil.
func newCertificates(files TLS) (*certificates, error) {
	if files.Cert == "" {
		return nil, nil
	}
	c := &certificates{files: files}
	return c, c.load()
}

// config returns the configuration of the listener, which asks for the current
// files at every handshake.
func (c *certificates) config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"http/1.1"},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return c.current.Load(), nil
		},
	}
}

// load reads the files. On an error the configuration in use stays.
func (c *certificates) load() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	seen := c.stamps()
	pair, err := tls.LoadX509KeyPair(c.files.Cert, c.files.Key)
	if err != nil {
		return fmt.Errorf("front: load certificate %q with key %q: %w: check that both are PEM, belong together and are readable", c.files.Cert, c.files.Key, err)
	}
	conf := &tls.Config{
		MinVersion:   tls.VersionTLS12,
		NextProtos:   []string{"http/1.1"},
		Certificates: []tls.Certificate{pair},
	}
	if c.files.ClientCA != "" {
		pem, err := os.ReadFile(c.files.ClientCA)
		if err != nil {
			return fmt.Errorf("front: load client CA: %w", err)
		}
		conf.ClientAuth, conf.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
		if !conf.ClientCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("front: load client CA %q: it holds no PEM certificate", c.files.ClientCA)
		}
	}
	c.current.Store(conf)
	c.seen = seen
	return nil
}

// changed reports whether a file differs from the one that was loaded.
func (c *certificates) changed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stamps() != c.seen
}

func (c *certificates) stamps() (s [3]stamp) {
	for i, name := range [...]string{c.files.Cert, c.files.Key, c.files.ClientCA} {
		if name == "" {
			continue
		}
		if info, err := os.Stat(name); err == nil {
			s[i] = stamp{info.Size(), info.ModTime()}
		}
	}
	return s
}
