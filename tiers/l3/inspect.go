package l3

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Ping reads one row, that of the counters: LastSeq and MaxVersion are what it
// says then.
func (s *Store) Ping(ctx context.Context) error { return s.wrap("ping", s.load(ctx)) }

// ConnSettings are the settings of one connection, read back from it.
type ConnSettings struct {
	Role   string // writer, reader
	Values map[string]string
}

// Settings reads the settings of every connection back. It waits until each has
// been free.
func (s *Store) Settings(ctx context.Context) (list []ConnSettings, err error) {
	if err := s.prepared(ctx); err != nil {
		return nil, s.wrap("read settings", err)
	}
	for _, p := range []*pool{s.writers, s.readers} {
		part, err := p.settings(ctx, s.dialect)
		if err != nil {
			return nil, s.wrap("read settings", err)
		}
		list = append(list, part...)
	}
	return list, nil
}

// settings holds all sessions of the pool at once, so that each is asked.
func (p *pool) settings(ctx context.Context, d dialect) (list []ConnSettings, err error) {
	for range p.sessions {
		ses, err := p.acquire(ctx)
		if err != nil {
			return nil, err
		}
		defer p.release(ses)
		values, err := d.readSettings(ses.conn, ses.role)
		if err != nil {
			return nil, d.classify(err)
		}
		list = append(list, ConnSettings{Role: ses.role.String(), Values: values})
	}
	return list, nil
}

// Verify lets the database check the structure of all its tables, on a
// connection of its own. Damage is ErrCorrupt with the first findings. Cost: it
// reads everything; ctx interrupts it.
func (s *Store) Verify(ctx context.Context) error {
	select {
	case <-s.closed:
		return s.wrap("verify", ErrClosed)
	default:
	}
	return s.wrap("verify", s.dialect.verify(ctx))
}

func (d *sqliteDialect) verify(ctx context.Context) (err error) {
	conn, err := d.connect(ctx, roleReader)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	rows, err := conn.(driver.QueryerContext).QueryContext(ctx, "PRAGMA quick_check(10)", nil)
	if err != nil {
		return orCause(ctx, d.classify(err))
	}
	findings, err := allText(rows)
	if err != nil {
		return orCause(ctx, d.classify(err))
	}
	if len(findings) == 1 && findings[0] == "ok" {
		return nil
	}
	return fmt.Errorf("%w: %s; restore %s from a copy", ErrCorrupt, strings.Join(findings, "; "), d.path)
}

func orCause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func allText(rows driver.Rows) (texts []string, err error) {
	row := make([]driver.Value, len(rows.Columns()))
	for err = rows.Next(row); err == nil; err = rows.Next(row) {
		texts = append(texts, fmt.Sprint(row[0]))
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return texts, errors.Join(err, rows.Close())
}

// Checkpoint moves the whole write-ahead log into the file and cuts it to
// nothing, between two batches, as before a copy of the file. It fails with
// ErrUnavailable if a reader is in the way. On a server it does nothing.
func (s *Store) Checkpoint(ctx context.Context) error {
	return s.wrap("checkpoint", s.checkpointNow(ctx))
}

func (s *Store) checkpointNow(ctx context.Context) error {
	if s.wal == nil {
		return nil
	}
	writer, err := s.writers.acquire(ctx)
	if err != nil {
		return err
	}
	defer s.writers.release(writer)
	state, err := s.wal.checkpoint(stmtWALTruncate)
	if err != nil {
		return err
	}
	if state.busy {
		return fmt.Errorf("%w: the write-ahead log of %s is in use by a reader of another process; end it", ErrUnavailable, s.opts.Path)
	}
	s.wal.bytes.Store(0)
	return nil
}
