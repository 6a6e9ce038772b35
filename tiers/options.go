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
	"github.com/edgenode/edgenode/tiers/l2"
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
	DefaultL3ApplyTimeout     = 30 * time.Second
	DefaultL3WaitMax          = 30 * time.Second
	DefaultRedisPrefix        = "edgenode:"
	DefaultRedisTimeout       = 5 * time.Second
	DefaultL2MaxTTL           = time.Hour
	DefaultL2QueueBytes       = 16 << 20
	DefaultFollowInterval     = time.Second
	DefaultCDCMaxLen          = 100_000
	DefaultMerkleJitter       = time.Second
	DefaultRedisEvictionStart = 0.75
	DefaultRedisEvictionTo    = 0.60
	DefaultFilterInterval     = 30 * time.Second
	DefaultFilterChanges      = 10_000
)

// Options configure an engine. The zero value of a field stands for the
// default named beside it.
type Options struct {
	DataDir    string // ./edgenode-data; journal, SQLite, identity; one engine at a time
	NodeName   string // the host's name
	SQLitePath string // edgenode.db in DataDir, unless SQLURL is set

	SQLURL              string // of a MySQL or MariaDB server, instead of SQLitePath; see package l3
	SQLPassword         string // comes before the one in SQLURL
	SQLWriteConcurrency int    // 4 transactions at a time on such a server

	Durability      item.Durability // sync; for writes that do not say
	L1MaxBytes      int64           // 256 MiB; everything that L1 and the pending index hold
	MaxPayloadBytes int64           // 16 MiB; content of one item
	Eviction        string          // auto; objects, bytes, tan or lru

	// Namespaces are parts of what is in L1 with a weight or a budget of their own,
	// NamespaceOf says in which of them a record is, see l1.Namespaces.Of.
	Namespaces  []Namespace
	NamespaceOf func(record item.View) int

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
	L3ApplyTimeout     time.Duration // 30 s for one batch; then it is sent again
	L3WaitMax          time.Duration // 30 s that a write of durability l3 waits for its commit
	L3Shared           bool          // other nodes write to this L3: conditions are decided in it

	RedisURL              string        // of L2; empty is no L2
	RedisPassword         string        // comes before the one in RedisURL
	RedisSentinelPassword string        // of the sentinels
	RedisPrefix           string        // edgenode:; before every key
	RedisTimeout          time.Duration // 5 s for one call of L2
	L2MaxTTL              time.Duration // 1 h; longest life of a copy in L2 of an item with L3
	L2QueueBytes          int64         // 16 MiB; copies that wait to be written to L2
	MerkleCalc            bool          // this node may calculate the tree of hashes in L3
	MerkleJitter          time.Duration // 1 s; the greatest random part of the pause between two looks at it
	FollowInterval        time.Duration // 1 s between two looks at L3's change sequence
	RedisEvictionStart    float64       // 0.75 of Redis' memory; copies are evicted from here
	RedisEvictionTarget   float64       // 0.60; down to here

	// L2TreeItems is the greatest number of items of the items API for which L2 keeps
	// a copy of the tree of hashes; it costs some 60 bytes of Redis for each. 0 means
	// no copy: a repair of L2 asks for each row. See shadow.go.
	L2TreeItems int

	CDCEnabled bool // a stream of changes is kept in L2
	CDCMaxLen  int  // 100,000 entries that it has, about
	// FormatEvent appends the text of an event, a JSON object, to dst; needed with
	// CDCEnabled. It must not keep ev.
	FormatEvent func(dst []byte, ev *Event) []byte

	L1Snapshot bool // L1 is written to a file at an orderly end, and read at the next start
	// Restored is called when such a file has been read, or was of no use: with
	// how many records are back. It is for tests.
	Restored func(records int)

	FilterOff              bool          // no filter: every miss asks L3
	FilterSnapshotInterval time.Duration // 30 s; age of its snapshot at which the next is written
	FilterSnapshotChanges  int           // 10,000; changes after which it is written sooner
	FilterMinItems         uint64        // see filter.Options.MinItems; smaller for tests

	Now     func() int64 // Unix ms; the process's start time plus its monotonic clock
	Logger  *slog.Logger // slog.Default()
	Metrics *metrics.Set // nil keeps none

	// Seams for tests. JournalFS is the file system under the journal.
	// WrapStore puts a layer of faults between the engine and L3, WrapL2 between
	// the engine and L2. OpenL2, if set, takes the place of the Redis client,
	// also where RedisURL is empty.
	JournalFS journal.FS
	WrapStore func(Store) Store
	WrapL2    func(L2Store) L2Store
	OpenL2    func() (L2Store, error)

	shadowEvery time.Duration // for tests: between two looks at the tree
	merkleBatch int           // for tests: changes in one step of the tree; 0 is the tree's own default
}

func (o *Options) fillDefaults() {
	setDefault(&o.DataDir, DefaultDataDir)
	if o.SQLURL == "" {
		setDefault(&o.SQLitePath, filepath.Join(o.DataDir, "edgenode.db"))
	}
	setDefault(&o.SQLWriteConcurrency, l3.DefaultWriteConns)
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
	setDefault(&o.L3ApplyTimeout, DefaultL3ApplyTimeout)
	setDefault(&o.L3WaitMax, DefaultL3WaitMax)
	setDefault(&o.RedisPrefix, DefaultRedisPrefix)
	setDefault(&o.RedisTimeout, DefaultRedisTimeout)
	setDefault(&o.L2MaxTTL, DefaultL2MaxTTL)
	setDefault(&o.L2QueueBytes, DefaultL2QueueBytes)
	setDefault(&o.FollowInterval, DefaultFollowInterval)
	setDefault(&o.CDCMaxLen, DefaultCDCMaxLen)
	setDefault(&o.MerkleJitter, DefaultMerkleJitter)
	setDefault(&o.RedisEvictionStart, DefaultRedisEvictionStart)
	setDefault(&o.RedisEvictionTarget, DefaultRedisEvictionTo)
	setDefault(&o.FilterSnapshotInterval, DefaultFilterInterval)
	setDefault(&o.FilterSnapshotChanges, DefaultFilterChanges)
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
	errs := []error{o.Pressure.Validate(), o.namespaces().Check()}
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
	f(o.RedisEvictionStart > 0 && o.RedisEvictionStart <= 1 && o.RedisEvictionTarget > 0 && o.RedisEvictionTarget < o.RedisEvictionStart,
		"redis_eviction_target = %v must be above 0 and below redis_eviction_start = %v, which is at most 1", o.RedisEvictionTarget, o.RedisEvictionStart)
	f(o.RedisTimeout >= time.Millisecond, "redis_timeout = %v is below 1 ms", o.RedisTimeout)
	f(o.L2MaxTTL >= time.Second, "l2_max_ttl = %v is below 1 s", o.L2MaxTTL)
	f(o.L3Timeout >= time.Millisecond && o.L3ApplyTimeout >= o.L3Timeout, "L3ApplyTimeout = %v must be at least L3Timeout = %v", o.L3ApplyTimeout, o.L3Timeout)
	f(o.L2QueueBytes > 0 && o.FollowInterval >= time.Millisecond, "L2QueueBytes and follow_interval must be above zero")
	f(!o.CDCEnabled || (o.RedisURL != "" || o.OpenL2 != nil) && o.FormatEvent != nil, "cdc_enabled needs redis_url, and FormatEvent")
	f(o.CDCMaxLen > 0, "cdc_maxlen = %d must be above zero", o.CDCMaxLen)
	f(o.FilterSnapshotInterval >= time.Millisecond && o.FilterSnapshotChanges > 0, "filter_snapshot_interval and filter_snapshot_changes must be above zero")
	_, known := rankings[o.Eviction]
	f(known, "unknown eviction %q, allowed are auto, objects, bytes, tan and lru", o.Eviction)
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

	Changes(ctx context.Context, after uint64, limit int, fn func(c l3.Change) error) error
	TrimChanges(ctx context.Context, upTo uint64, limit int) (n int, err error)
	AbandonChanges(ctx context.Context, seen uint64) (abandoned bool, err error)
	RegisterNode(ctx context.Context, n l3.NodeInfo) error
	Nodes(ctx context.Context) ([]l3.NodeInfo, error)
	RemoveNode(ctx context.Context, id string) (existed bool, err error)
	AcquireLease(ctx context.Context, name, holder string, ttl time.Duration) (held bool, err error)
	ReleaseLease(ctx context.Context, name, holder string) error
	Rules(ctx context.Context) ([]l3.StoredRule, error)
	DropRules(ctx context.Context, olderThan item.Version, storedBefore int64) (n int, err error)
	MaxVersion() item.Version
	LastSeq() uint64
	Ping(ctx context.Context) error
	Close() error
}

var _ Store = (*l3.Store)(nil)

// An L2Store is L2 as the engine uses it; *l2.Store is one. Its contract is
// documented there and held by the contract test of that package. One that also
// has Evict and Reload, as *l2.Store has, is asked to evict and reloaded.
type L2Store interface {
	Probe(ctx context.Context) (l2.Server, error)
	Generation() uint64
	Get(ctx context.Context, key item.Key, dst []byte) (record []byte, found bool, err error)
	GetMany(ctx context.Context, keys []item.Key, fn func(i int, v item.View) error) error
	Apply(ctx context.Context, ops []l2.Op, out []l2.Outcome) error
	ReadMark(ctx context.Context) (l2.Mark, bool, error)
	WriteMark(ctx context.Context, m l2.Mark, generation uint64) error
	Sweep(ctx context.Context, drop func(head item.View) bool) (visited, dropped int64, err error)
	Close() error
}

var _ L2Store = (*l2.Store)(nil)
