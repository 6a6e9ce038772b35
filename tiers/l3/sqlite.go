package l3

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/edgenode/edgenode/tiers/item"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

const (
	busyTimeout       = 5 * time.Second        // waiting for another process
	checkpointTimeout = 500 * time.Millisecond // waiting for a reader, with writers stopped
	writerCache       = 16 << 20
	readerCache       = 4 << 20
)

// sqliteDialect keeps one SQLite file.
type sqliteDialect struct {
	path   string // absolute
	walMax int64
	driver *sqlite.Driver // of our own: nothing registered elsewhere reaches it
}

func newSQLite(path string, walMax int64) (*sqliteDialect, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	return &sqliteDialect{path: abs, walMax: walMax, driver: &sqlite.Driver{}}, nil
}

func (d *sqliteDialect) name() string                      { return d.path }
func (d *sqliteDialect) server() bool                      { return false }
func (d *sqliteDialect) prepares(role, statement) bool     { return true }
func (d *sqliteDialect) fits(item.View) error              { return nil }
func (d *sqliteDialect) maxPayload() int64                 { return 0 }
func (d *sqliteDialect) durable() (ok bool, reason string) { return true, "" }
func (d *sqliteDialect) prepare(context.Context) error     { return d.migrate(sqliteMigrations) }

// migrate creates the file if need be and brings it to the last of the steps.
func (d *sqliteDialect) migrate(steps []migration) error {
	if err := d.create(); err != nil {
		return err
	}
	if err := d.refuseForeign(steps); err != nil {
		return err
	}
	conn, err := d.connect(background, roleWriter)
	if err != nil {
		return err
	}
	err = migrate(conn, d.path, steps)
	return errors.Join(d.classify(err), conn.Close())
}

// refuseForeign looks at the database before any setting writes to it.
func (d *sqliteDialect) refuseForeign(steps []migration) error {
	conn, err := d.driver.Open(d.uri())
	if err != nil {
		return d.openFault(err)
	}
	_, err = schemaOf(conn, d.path, steps[len(steps)-1].version)
	if err != nil {
		err = d.openFault(err)
	}
	return errors.Join(err, conn.Close())
}

// create makes sure that the file exists, is writable and is in its directory
// for good, before SQLite sees it: its messages do not say what is wrong.
func (d *sqliteDialect) create() error {
	dir := filepath.Dir(d.path)
	file, err := os.OpenFile(d.path, os.O_RDWR|os.O_CREATE, 0o600)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("%w: directory %s does not exist; create it or set another path: %w", ErrUnavailable, dir, err)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%w: %s is not writable for this user; change its owner or mode, or set another path: %w", ErrUnavailable, d.path, err)
	case err != nil:
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if err := file.Close(); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return d.syncDir(dir)
}

func (d *sqliteDialect) syncDir(dir string) error {
	handle, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("%w: directory %s must be readable and writable: %w", ErrUnavailable, dir, err)
	}
	if err := errors.Join(handle.Sync(), handle.Close()); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return nil
}

// A setting is one PRAGMA and the value that it must read back.
type setting struct{ name, value string }

// settings of a connection. journal_mode comes first: the others speak of it.
func (d *sqliteDialect) settings(r role) []setting {
	timeout, cache, queryOnly := busyTimeout, int64(writerCache), "0"
	switch r {
	case roleReader:
		cache, queryOnly = readerCache, "1"
	case roleCheckpointer:
		timeout, cache = checkpointTimeout, readerCache
	}
	return []setting{
		{"busy_timeout", fmt.Sprint(timeout.Milliseconds())},
		{"journal_mode", "wal"},
		{"synchronous", "2"}, // FULL: a commit is on disk when it returns
		{"wal_autocheckpoint", "0"},
		{"journal_size_limit", fmt.Sprint(d.walMax)},
		{"foreign_keys", "0"},
		{"trusted_schema", "0"},
		{"cell_size_check", "1"},
		{"cache_size", fmt.Sprint(-cache / 1024)},
		{"mmap_size", "0"},
		{"temp_store", "2"},
		{"query_only", queryOnly},
	}
}

// uri names the file to SQLite, whatever characters are in it.
func (d *sqliteDialect) uri() string {
	u := url.URL{Scheme: "file", Path: d.path, RawQuery: "_defensive=1&_dqs=0&_error_rc=1"}
	return u.String()
}

// connect opens a connection, makes its settings and reads each back.
func (d *sqliteDialect) connect(_ context.Context, r role) (driver.Conn, error) {
	conn, err := d.driver.Open(d.uri())
	if err != nil {
		return nil, d.openFault(err)
	}
	if err := d.set(conn, r); err != nil {
		return nil, errors.Join(d.openFault(err), conn.Close())
	}
	return conn, nil
}

func (d *sqliteDialect) set(conn driver.Conn, r role) error {
	for _, s := range d.settings(r) {
		if err := execAll(conn, "PRAGMA "+s.name+" = "+s.value); err != nil {
			return fmt.Errorf("set %s: %w", s.name, err)
		}
	}
	got, err := d.readSettings(conn, r)
	if err != nil {
		return err
	}
	for _, s := range d.settings(r) {
		if got[s.name] != s.value {
			return fmt.Errorf("%w: %s reads back as %s, want %s, on the %s connection", ErrSetting, s.name, got[s.name], s.value, r)
		}
	}
	return nil
}

// readSettings asks the connection for its settings.
func (d *sqliteDialect) readSettings(conn driver.Conn, r role) (map[string]string, error) {
	got := make(map[string]string)
	for _, s := range d.settings(r) {
		row, err := queryRow(conn, "PRAGMA "+s.name)
		switch {
		case err == io.EOF: // this kind of database does not have it
		case err != nil:
			return nil, fmt.Errorf("read %s: %w", s.name, err)
		default:
			got[s.name] = strings.ToLower(fmt.Sprint(row[0]))
		}
	}
	return got, nil
}

// openFault words what may go wrong when a database is opened.
func (d *sqliteDialect) openFault(err error) error {
	err = d.classify(err)
	switch code := sqliteCode(err); code & 0xff {
	case sqlite3.SQLITE_NOTADB:
		return fmt.Errorf("%w: %s is no SQLite database; move it away or set another path: %w", ErrNotOurs, d.path, err)
	case sqlite3.SQLITE_BUSY:
		return fmt.Errorf("%s is locked by another process; end it (fuser %s names it): %w", d.path, d.path, err)
	}
	return err
}

// sqliteCode returns the extended result code in err, 0 for none.
func sqliteCode(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code()
	}
	return 0
}

// classify adds ErrUnavailable, ErrCorrupt or ErrRejected by result code.
func (d *sqliteDialect) classify(err error) error {
	marker := sqliteMarker(err)
	if marker == nil || errors.Is(err, marker) {
		return err
	}
	return fmt.Errorf("%w: %w", marker, err)
}

func sqliteMarker(err error) error {
	code := sqliteCode(err)
	switch code {
	case sqlite3.SQLITE_IOERR_CORRUPTFS, sqlite3.SQLITE_IOERR_DATA:
		return ErrCorrupt
	}
	switch code & 0xff {
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT:
		return ErrCorrupt
	case sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_BUSY,
		sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM,
		sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_NOLFS:
		return ErrUnavailable
	case sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_RANGE:
		return ErrRejected
	}
	if errors.Is(err, driver.ErrBadConn) {
		return ErrUnavailable
	}
	return nil
}
