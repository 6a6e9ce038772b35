package tiers

import (
	"errors"
	"fmt"
	"time"

	"github.com/edgenode/edgenode/tiers/l2"
	"github.com/edgenode/edgenode/tiers/pressure"
)

func (e *Engine) applyReloadable(o Options) {
	e.defaultDurability.Store(int32(o.Durability))
	e.configuredPayload.Store(o.MaxPayloadBytes)
	e.maxPayload.Store(e.payloadLimit(o.MaxPayloadBytes))
	e.thresholds.Store(&o.Pressure)
	e.l3Timeout.Store(int64(o.L3Timeout))
	e.applyTimeout.Store(int64(o.L3ApplyTimeout))
	e.l3WaitMax.Store(int64(o.L3WaitMax))
	e.redisTimeout.Store(int64(o.RedisTimeout))
	e.followInterval.Store(int64(o.FollowInterval))
	e.expirySweep.Store(int64(o.ExpirySweep))
	e.retention.Store(int64(o.TombstoneRetention))
	e.maxLifetime.Store(int64(o.MaxLifetime))
	e.deadLetterTries.Store(int64(o.DeadLetterTries))
	e.filterInterval.Store(int64(o.FilterSnapshotInterval))
	e.filterChanges.Store(int64(o.FilterSnapshotChanges))
	if e.filter != nil {
		e.filter.SetMaxLag(e.filterMaxLag())
	}
	e.batch.Store(&batchLimits{wait: o.BatchFlush, count: o.BatchFlushCount, bytes: o.BatchFlushBytes})
}

func (e *Engine) l3TimeoutNow() time.Duration { return time.Duration(e.l3Timeout.Load()) }
func (e *Engine) triesNow() int               { return int(e.deadLetterTries.Load()) }

// recordSlack is what a record may need beside its content.
const recordSlack = 256 << 10

// payloadLimit returns the greatest content that the configuration takes, and the
// journal and L3 as far as they are open.
func (e *Engine) payloadLimit(configured int64) int64 {
	if e.l3Payload != nil {
		configured = min(configured, e.l3Payload())
	}
	if e.journal == nil {
		return configured
	}
	return min(configured, e.journal.MaxPayload()-recordSlack)
}

// MaxPayload returns the greatest content of an item that is taken now.
func (e *Engine) MaxPayload() int64 { return e.maxPayload.Load() }

// Reload takes over the fields of o that can change while the engine runs:
// Durability, L1MaxBytes, Namespaces, MaxPayloadBytes, BatchFlush, BatchFlushCount,
// BatchFlushBytes, Pressure, the retentions, lifetimes and intervals, the time
// limits of L2 and L3, DeadLetterTries, L2QueueBytes, and the eviction of L2. The
// others must be as they are, or nothing changes and the error names them.
func (e *Engine) Reload(o Options) error {
	o.fillDefaults()
	old := &e.options
	errs := []error{o.validate()}
	fixed := func(name string, same bool) {
		if !same {
			errs = append(errs, fmt.Errorf("tiers: %s cannot change while running; restart", name))
		}
	}
	fixed("data_dir", o.DataDir == old.DataDir)
	fixed("node_name", o.NodeName == old.NodeName)
	fixed("sqlite_path", o.SQLitePath == old.SQLitePath)
	fixed("eviction", o.Eviction == old.Eviction)
	fixed("journal_max_bytes", o.JournalMaxBytes == old.JournalMaxBytes)
	fixed("sqlite_wal_max", o.SQLiteWALMax == old.SQLiteWALMax)
	fixed("clock_skew_max", o.ClockSkewMax == old.ClockSkewMax)
	fixed("sql_url", o.SQLURL == old.SQLURL && o.SQLPassword == old.SQLPassword)
	fixed("sql_write_concurrency", o.SQLWriteConcurrency == old.SQLWriteConcurrency)
	fixed("l3_shared", o.L3Shared == old.L3Shared)
	fixed("merkle_redis_max_items", o.L2TreeItems == old.L2TreeItems)
	fixed("merkle_calc_enabled", o.MerkleCalc == old.MerkleCalc && o.MerkleJitter == old.MerkleJitter)
	fixed("redis_url", o.RedisURL == old.RedisURL)
	fixed("redis_password", o.RedisPassword == old.RedisPassword && o.RedisSentinelPassword == old.RedisSentinelPassword)
	fixed("redis_prefix", o.RedisPrefix == old.RedisPrefix)
	fixed("filter_enabled", o.FilterOff == old.FilterOff)
	fixed("l1_snapshot", o.L1Snapshot == old.L1Snapshot)
	fixed("MaxWaiters", o.MaxWaiters == old.MaxWaiters)
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if e.l2 != nil && e.l2.evict != nil {
		err := e.l2.evict.Reload(l2.Limits{
			Timeout: o.RedisTimeout, L2MaxTTL: o.L2MaxTTL, EvictionStart: o.RedisEvictionStart, EvictionTarget: o.RedisEvictionTarget,
		})
		if err != nil {
			return fmt.Errorf("tiers: reload: %w", err)
		}
	}
	if err := e.l1.SetNamespaces(o.namespaces()); err != nil {
		return fmt.Errorf("tiers: reload: %w", err)
	}
	e.applyReloadable(o)
	if e.l2 != nil {
		e.l2.copies.limit(o.L2QueueBytes)
	}
	e.l1.Resize(o.L1MaxBytes)
	signal(e.dirty.now)
	return nil
}

// Thresholds returns the pressures at which levels begin.
func (e *Engine) Thresholds() pressure.Thresholds { return *e.thresholds.Load() }
