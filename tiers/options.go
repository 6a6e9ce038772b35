package tiers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/journal"
	"github.com/edgenode/edgenode/tiers/l1"
	"github.com/edgenode/edgenode/tiers/l3"
	"github.com/edgenode/edgenode/tiers/pressure"
)

// Defaults of Options.
const (
	DefaultDataDir            = "./edgenode-data"
	DefaultL1MaxBytes         = 256 << 20
	DefaultMaxPayloadBytes    = 16 << 20
	DefaultBatchFlush         = 100 * time.Millisecond
	DefaultBatchFlushCount    = 1000
	DefaultBatchFlushBytes    = 1 << 20
	DefaultJournalMaxBytes    = 1 << 30
	DefaultSQLiteWALMax       = 64 << 20
	DefaultTombstoneRetention = 24 * time.Hour
	DefaultMaxLifetime        = 30 * 24 * time.Hour
	DefaultClockSkewMax       = 60 * time.Second
	DefaultExpirySweep        = time.Second
	DefaultL3Timeout          = 5 * time.Second
	DefaultMaxWaiters         = 50_000
	DefaultDeadLetterTries    = 5
)

// Options configure an engine. The zero value of a field stands for the
// default named beside it.
type Options struct {
	DataDir    string // ./edgenode-data; journal, SQLite, identity; one engine at a time
	NodeName   string // the host's name
	SQLitePath string // edgenode.db in DataDir

	Durability      item.Durability // sync; for writes that do not say
	L1MaxBytes      int64           // 256 MiB; everything that L1 and the pending index hold
	MaxPayloadBytes int64           // 16 MiB; content of one item
	Eviction        string          // auto; objects, bytes or tan
	Scorer          l1.Scorer       // ranks candidates beside the built-in score; nil is none

	BatchFlush      time.Duration // 100 ms; longest time that a write waits for its batch
	BatchFlushCount int           // 1,000 items
	BatchFlushBytes int64         // 1 MiB

	Pressure        pressure.Thresholds
	JournalMaxBytes int64 // 1 GiB
	SQLiteWALMax    int64 // 64 MiB

	TombstoneRetention time.Duration // 24 h
	MaxLifetime        time.Duration // 30 d; longest lifetime of a stored answer
	ClockSkewMax       time.Duration // 60 s
	ExpirySweep        time.Duration // 1 s between two sweeps for expired rows
	L3Timeout          time.Duration // 5 s for one read of L3
	MaxWaiters         int           // 50,000 readers waiting for one item
	DeadLetterTries    int           // 5; how often L3 may refuse a row before it is set aside

	Now     func() int64 // Unix ms; the process's start time plus its monotonic clock
	Logger  *slog.Logger // slog.Default()
	Metrics *metrics.Set // nil keeps none

	// Seams for tests. JournalFS is the file system under the journal.
	// WrapStore puts a layer of faults between the engine and L3.
	JournalFS journal.FS
	WrapStore func(Store) Store
}

func (o *Options) fillDefaults() {
	setDefault(&o.DataDir, DefaultDataDir)
	setDefault(&o.SQLitePath, filepath.Join(o.DataDir, "edgenode.db"))
	setDefault(&o.Durability, item.DurabilitySync)
	setDefault(&o.L1MaxBytes, DefaultL1MaxBytes)
	setDefault(&o.MaxPayloadBytes, DefaultMaxPayloadBytes)
	setDefault(&o.Eviction, "auto")
	setDefault(&o.BatchFlush, DefaultBatchFlush)
	setDefault(&o.BatchFlushCount, DefaultBatchFlushCount)
	setDefault(&o.BatchFlushBytes, DefaultBatchFlushBytes)
	setDefault(&o.Pressure, pressure.Default())
	setDefault(&o.JournalMaxBytes, DefaultJournalMaxBytes)
	setDefault(&o.SQLiteWALMax, DefaultSQLiteWALMax)
	setDefault(&o.TombstoneRetention, DefaultTombstoneRetention)
	setDefault(&o.MaxLifetime, DefaultMaxLifetime)
	setDefault(&o.ClockSkewMax, DefaultClockSkewMax)
	setDefault(&o.ExpirySweep, DefaultExpirySweep)
	setDefault(&o.L3Timeout, DefaultL3Timeout)
	setDefault(&o.MaxWaiters, DefaultMaxWaiters)
	setDefault(&o.DeadLetterTries, DefaultDeadLetterTries)
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// validate reports every fault of filled options.
func (o *Options) validate() error {
	errs := []error{o.Pressure.Validate()}
	f := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("tiers: "+format, args...))
		}
	}
	f(o.L1MaxBytes >= 16<<20, "l1_max_bytes = %d is below 16 MiB", o.L1MaxBytes)
	f(o.JournalMaxBytes >= 16<<20, "journal_max_bytes = %d is below 16 MiB", o.JournalMaxBytes)
	f(o.MaxPayloadBytes > 0 && o.MaxPayloadBytes <= o.JournalMaxBytes/8,
		"max_payload_bytes = %d must be at most an eighth of journal_max_bytes = %d", o.MaxPayloadBytes, o.JournalMaxBytes)
	f(o.BatchFlush > 0 && o.BatchFlushCount > 0 && o.BatchFlushBytes > 0, "batch_flush_* must be above zero")
	f(o.Durability > item.DurabilityDefault && o.Durability <= item.DurabilityL3, "unknown durability %d", o.Durability)
	_, known := rankings[o.Eviction]
	f(known, "unknown eviction %q, allowed are auto, objects, bytes and tan", o.Eviction)
	return errors.Join(errs...)
}

// A Store is L3 as the engine uses it; *l3.Store is one. Its contract is
// documented there and held by the contract test of that package.
type Store interface {
	Get(ctx context.Context, key item.Key, dst []byte) (record []byte, found bool, err error)
	GetMany(ctx context.Context, keys []item.Key, fn func(i int, v item.View) error) error
	Scan(ctx context.Context, q l3.ScanQuery, fn func(v item.View) error) error
	Count(ctx context.Context, q l3.ScanQuery, limit int) (n int64, exact bool, err error)

	Apply(ctx context.Context, ops []l3.Op, rules []item.Rule, out []l3.Outcome) (lastSeq uint64, err error)
	SweepRule(ctx context.Context, rule item.Rule, limit int) (deleted int, more bool, err error)
	Expire(ctx context.Context, now int64, limit int) (n int, err error)
	PurgeTombstones(ctx context.Context, olderThan item.Version, storedBefore int64, limit int) (n int, err error)

	Rules(ctx context.Context) ([]l3.StoredRule, error)
	DropRules(ctx context.Context, olderThan item.Version, storedBefore int64) (n int, err error)
	MaxVersion() item.Version
	LastSeq() uint64
	Ping(ctx context.Context) error
	Close() error
}

var _ Store = (*l3.Store)(nil)
