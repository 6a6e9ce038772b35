package tiers

import (
	"errors"
	"fmt"

	"github.com/edgenode/edgenode/tiers/pressure"
)

func (e *Engine) applyReloadable(o Options) {
	e.defaultDurability.Store(int32(o.Durability))
	e.maxPayload.Store(e.payloadLimit(o.MaxPayloadBytes))
	e.thresholds.Store(&o.Pressure)
	e.batch.Store(&batchLimits{wait: o.BatchFlush, count: o.BatchFlushCount, bytes: o.BatchFlushBytes})
}

// recordSlack is what a record may need beside its content.
const recordSlack = 256 << 10

// payloadLimit returns the greatest content that both the configuration and the
// journal, if it is open, take.
func (e *Engine) payloadLimit(configured int64) int64 {
	if e.journal == nil {
		return configured
	}
	return min(configured, e.journal.MaxPayload()-recordSlack)
}

// MaxPayload returns the greatest content of an item that is taken now.
func (e *Engine) MaxPayload() int64 { return e.maxPayload.Load() }

// Reload takes over the fields of o that can change while the engine runs:
// Durability, L1MaxBytes, MaxPayloadBytes, BatchFlush, BatchFlushCount,
// BatchFlushBytes, Pressure. The others must be as they are, or nothing changes
// and the error names them.
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
	fixed("tombstone_retention", o.TombstoneRetention == old.TombstoneRetention)
	fixed("max_lifetime", o.MaxLifetime == old.MaxLifetime)
	fixed("clock_skew_max", o.ClockSkewMax == old.ClockSkewMax)
	fixed("expiry_sweep", o.ExpirySweep == old.ExpirySweep)
	fixed("dead_letter_tries", o.DeadLetterTries == old.DeadLetterTries)
	fixed("L3Timeout", o.L3Timeout == old.L3Timeout)
	fixed("MaxWaiters", o.MaxWaiters == old.MaxWaiters)
	if err := errors.Join(errs...); err != nil {
		return err
	}
	e.applyReloadable(o)
	e.l1.Resize(o.L1MaxBytes)
	signal(e.dirty.now)
	return nil
}

// Thresholds returns the pressures at which levels begin.
func (e *Engine) Thresholds() pressure.Thresholds { return *e.thresholds.Load() }
