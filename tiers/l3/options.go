package l3

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// Defaults and limits of Options.
const (
	DefaultWALMax    = 64 << 20
	MinWALMax        = 1 << 20
	DefaultReadConns = 4
	MaxReadConns     = 64
	// DefaultWriteConns is the default of sql_write_concurrency.
	DefaultWriteConns = 4
	MaxWriteConns     = 64
	DefaultTimeout    = 10 * time.Second
	MinTimeout        = 100 * time.Millisecond
	DefaultRetryFor   = 5 * time.Second
	// MaxPayload is the greatest content the store takes, in bytes: SQLite
	// allows 1,000,000,000 bytes for a row, of which a part is left for the
	// rest of the item.
	MaxPayload = 900_000_000
)

// Options of Open.
type Options struct {
	// Path is an SQLite file, URL a database of a MySQL or MariaDB server: one of
	// them is given. The file is created, but its directory is not; beside it
	// SQLite keeps Path-wal and Path-shm.
	Path string
	// URL is mysql://user:password@host:3306/database with, after "?":
	// tls=true (the server must prove its name), skip-verify, preferred or false,
	// the default; tls_ca=FILE, the authorities of a server of one's own, with
	// tls=true; socket=FILE instead of host and port.
	URL string
	// Password, if not empty, is used instead of that in URL.
	Password string
	// WALMax is the size in bytes above which the write-ahead log is emptied
	// between two batches. 0 means DefaultWALMax. At four times WALMax, which
	// only a reader of another process can cause, writes are refused.
	WALMax int64
	// ReadConns is the number of connections that read, 0 means
	// DefaultReadConns. With SQLite each costs up to 4 MiB of page cache; the
	// writer has 16 MiB.
	ReadConns int
	// WriteConns is the number of transactions at a time on a server, 0 means
	// DefaultWriteConns. SQLite has one.
	WriteConns int
	// Timeout bounds connecting to a server and each wait for an answer, beside
	// the context of the call. 0 means DefaultTimeout. A connection that ran into
	// it is given up.
	Timeout time.Duration
	// RetryFor is how long a transaction is tried anew on a server while others
	// are in its way (deadlocks, waits for locks), 0 means DefaultRetryFor.
	RetryFor time.Duration
	// MaxPayload is the greatest content in bytes, 0 means the constant.
	MaxPayload int64
	// Clock returns Unix milliseconds; nil means the system's. It stamps the
	// change rows and decides what is expired.
	Clock func() int64
	// Logger receives changes of state; nil means none.
	Logger *slog.Logger
	// Metrics receives the metrics of the store until Close; nil means none.
	Metrics *metrics.Set
}

func (o Options) withDefaults() Options {
	if o.WALMax == 0 {
		o.WALMax = DefaultWALMax
	}
	if o.ReadConns == 0 {
		o.ReadConns = DefaultReadConns
	}
	if o.WriteConns == 0 {
		o.WriteConns = DefaultWriteConns
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.RetryFor == 0 {
		o.RetryFor = DefaultRetryFor
	}
	if o.MaxPayload == 0 {
		o.MaxPayload = MaxPayload
	}
	if o.Clock == nil {
		o.Clock = func() int64 { return time.Now().UnixMilli() }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// validate reports every fault at once.
func (o *Options) validate() error {
	var errs []error
	if o.Path == "" && o.URL == "" {
		errs = append(errs, errors.New("l3: Path and URL are empty, one must name the database: an SQLite file or mysql://user:password@host/database"))
	}
	if o.Path != "" && o.URL != "" {
		errs = append(errs, errors.New("l3: Path and URL both name a database, remove one"))
	}
	if o.WALMax < MinWALMax {
		errs = append(errs, fmt.Errorf("l3: WALMax is %d bytes, it must be at least %d", o.WALMax, MinWALMax))
	}
	if o.ReadConns < 1 || o.ReadConns > MaxReadConns {
		errs = append(errs, fmt.Errorf("l3: ReadConns is %d, allowed are 1 to %d", o.ReadConns, MaxReadConns))
	}
	if o.WriteConns < 1 || o.WriteConns > MaxWriteConns {
		errs = append(errs, fmt.Errorf("l3: WriteConns is %d, allowed are 1 to %d", o.WriteConns, MaxWriteConns))
	}
	if o.Timeout < MinTimeout || o.RetryFor < 0 {
		errs = append(errs, fmt.Errorf("l3: Timeout is %v and RetryFor %v, they must be at least %v and 0", o.Timeout, o.RetryFor, MinTimeout))
	}
	if o.MaxPayload < 1 || o.MaxPayload > MaxPayload {
		errs = append(errs, fmt.Errorf("l3: MaxPayload is %d bytes, allowed are 1 to %d", o.MaxPayload, MaxPayload))
	}
	return errors.Join(errs...)
}
