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
	// MaxPayload is the greatest content the store takes, in bytes: SQLite
	// allows 1,000,000,000 bytes for a row, of which a part is left for the
	// rest of the item.
	MaxPayload = 900_000_000
)

// Options of Open.
type Options struct {
	// Path is the database file. It is created, but its directory is not.
	// Beside it SQLite keeps Path-wal and Path-shm.
	Path string
	// WALMax is the size in bytes above which the write-ahead log is emptied
	// between two batches. 0 means DefaultWALMax. At four times WALMax, which
	// only a reader of another process can cause, writes are refused.
	WALMax int64
	// ReadConns is the number of connections that read, 0 means
	// DefaultReadConns. Each costs up to 4 MiB of page cache; the writer has
	// 16 MiB.
	ReadConns int
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
	if o.Path == "" {
		errs = append(errs, errors.New("l3: Path is empty, it must name the database file"))
	}
	if o.WALMax < MinWALMax {
		errs = append(errs, fmt.Errorf("l3: WALMax is %d bytes, it must be at least %d", o.WALMax, MinWALMax))
	}
	if o.ReadConns < 1 || o.ReadConns > MaxReadConns {
		errs = append(errs, fmt.Errorf("l3: ReadConns is %d, allowed are 1 to %d", o.ReadConns, MaxReadConns))
	}
	if o.MaxPayload < 1 || o.MaxPayload > MaxPayload {
		errs = append(errs, fmt.Errorf("l3: MaxPayload is %d bytes, allowed are 1 to %d", o.MaxPayload, MaxPayload))
	}
	return errors.Join(errs...)
}
