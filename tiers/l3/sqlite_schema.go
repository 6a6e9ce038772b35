package l3

import (
	"context"
	"database/sql/driver"
	"fmt"
)

// applicationID marks the file as ours in its header ("edge" in ASCII).
const applicationID = 0x65646765

// A migration leads from the schema version before it to version. It only adds.
type migration struct {
	version   int64
	minBinary int64  // the oldest schema version whose binary can use the result
	needs     string // that binary, in words of releases
	sql       string
}

// sqliteMigrations are all steps; the last one's version is what this binary
// writes and the newest that it knows.
var sqliteMigrations = []migration{{version: 1, minBinary: 1, needs: "edgenode 0.1", sql: `
CREATE TABLE {schema_info} (
	id INTEGER PRIMARY KEY CHECK (id = 1),
	version INTEGER NOT NULL,
	min_binary INTEGER NOT NULL,
	needs TEXT NOT NULL
);
CREATE TABLE {meta} (
	id INTEGER PRIMARY KEY CHECK (id = 1),
	last_seq INTEGER NOT NULL,
	trimmed_seq INTEGER NOT NULL,
	max_version INTEGER NOT NULL,
	rules_epoch INTEGER NOT NULL
);
` + sqliteItems + `CREATE TABLE {tombstones} (
	key BLOB PRIMARY KEY NOT NULL,
	version INTEGER NOT NULL,
	content_version INTEGER NOT NULL,
	stored_at INTEGER NOT NULL,
	head BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX tombstones_version ON {tombstones} (version);
CREATE TABLE {tags} (
	tag TEXT NOT NULL,
	key BLOB NOT NULL,
	PRIMARY KEY (tag, key)
) WITHOUT ROWID;
CREATE TABLE {changes} (
	seq INTEGER PRIMARY KEY,
	at INTEGER NOT NULL,
	op INTEGER NOT NULL,
	version INTEGER NOT NULL,
	key BLOB NOT NULL,
	rule BLOB
);
CREATE TABLE {rules} (
	id INTEGER PRIMARY KEY,
	version INTEGER NOT NULL,
	digest BLOB NOT NULL,
	stored_at INTEGER NOT NULL,
	swept INTEGER NOT NULL,
	position BLOB,
	record BLOB NOT NULL,
	UNIQUE (version, digest)
);
INSERT INTO {meta} VALUES (1, 0, 0, 0, 0);
INSERT INTO {schema_info} VALUES (1, 0, 0, '');
`}, {version: 2, minBinary: 1, needs: "edgenode 0.1", sql: `
CREATE TABLE {nodes} (
	id TEXT PRIMARY KEY NOT NULL,
	name TEXT NOT NULL,
	addr TEXT NOT NULL,
	incarnation TEXT NOT NULL,
	applied_seq INTEGER NOT NULL,
	lease_until INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE {leases} (
	name TEXT PRIMARY KEY NOT NULL,
	holder TEXT NOT NULL,
	lease_until INTEGER NOT NULL
) WITHOUT ROWID;
`}, {version: 3, minBinary: 1, needs: "edgenode 0.1", sql: `
CREATE TABLE {mappings} (
	name TEXT PRIMARY KEY NOT NULL,
	version INTEGER NOT NULL,
	prefix BLOB NOT NULL,
	state INTEGER NOT NULL,
	position BLOB
) WITHOUT ROWID;
CREATE INDEX mappings_version ON {mappings} (version);
`}, {version: 4, minBinary: 1, needs: "edgenode 0.1", sql: `
CREATE TABLE {merkle} (
	key BLOB PRIMARY KEY NOT NULL,
	value BLOB NOT NULL
) WITHOUT ROWID;
`}, {version: 5, minBinary: 5, needs: "edgenode 0.1", sql: `
-- From here on heads are records of format 2 (package item); those of format 1 stay as they are.
`}}

// sqliteItems is the table of items, and that of a mapping.
const sqliteItems = `CREATE TABLE IF NOT EXISTS {items} (
	id INTEGER PRIMARY KEY,
	key BLOB NOT NULL,
	version INTEGER NOT NULL,
	content_version INTEGER NOT NULL,
	metadata_version INTEGER NOT NULL,
	updated_at INTEGER NOT NULL,
	expires_at INTEGER,
	is_json INTEGER NOT NULL,
	state TEXT,
	head BLOB NOT NULL,
	content BLOB NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS {index}_key ON {items} (key);
CREATE INDEX IF NOT EXISTS {index}_state ON {items} (state, key) WHERE state IS NOT NULL;
CREATE INDEX IF NOT EXISTS {index}_expiry ON {items} (expires_at, key) WHERE expires_at IS NOT NULL;
`

func (*sqliteDialect) tableName(table string) string { return tables("", table).Replace("{items}") }

func (d *sqliteDialect) createTable(_ context.Context, conn driver.Conn, table string) error {
	err := execAll(conn, "BEGIN IMMEDIATE", tables("", table).Replace(sqliteItems), "COMMIT")
	if err != nil {
		_ = execAll(conn, "ROLLBACK") // the first error counts
	}
	return err
}

// migrate brings the database of conn to the newest of the migrations, each
// step in a transaction of its own, or refuses it.
func migrate(conn driver.Conn, path string, steps []migration) error {
	known := steps[len(steps)-1].version
	have, err := schemaOf(conn, path, known)
	if err != nil {
		return err
	}
	for _, m := range steps {
		if m.version <= have {
			continue
		}
		if err := execAll(conn, "BEGIN IMMEDIATE"); err != nil {
			return err
		}
		err := execAll(conn, sqliteNames.Replace(m.sql), fmt.Sprintf(`PRAGMA application_id = %d`, applicationID),
			fmt.Sprintf(sqliteNames.Replace(`UPDATE {schema_info} SET version=%d, min_binary=%d, needs='%s'`), m.version, m.minBinary, m.needs), "COMMIT")
		if err != nil {
			_ = execAll(conn, "ROLLBACK") // the first error counts; the connection is closed
			return fmt.Errorf("migrate to schema %d: %w", m.version, err)
		}
	}
	return nil
}

// schemaOf returns the schema version of the database, 0 for a new one.
func schemaOf(conn driver.Conn, path string, known int64) (int64, error) {
	app, err := queryInt(conn, "PRAGMA application_id")
	if err != nil {
		return 0, err
	}
	tables, err := queryInt(conn, "SELECT count(*) FROM sqlite_schema")
	if err != nil {
		return 0, err
	}
	if app == 0 && tables == 0 {
		return 0, nil
	}
	if app != applicationID {
		return 0, fmt.Errorf("%w: %s has application id %#x, want %#x; give another path", ErrNotOurs, path, app, applicationID)
	}
	row, err := queryRow(conn, sqliteNames.Replace("SELECT version, min_binary, needs FROM {schema_info}"))
	if err != nil || len(row) != 3 {
		return 0, fmt.Errorf("%w: %s has no schema_info row; restore it from a copy: %w", ErrCorrupt, path, err)
	}
	if intOf(row[1]) > known {
		return 0, fmt.Errorf("%w: %s has schema %d and needs %v or newer; this binary knows schemas up to %d: use the newer binary or another path",
			ErrNewer, path, intOf(row[0]), row[2], known)
	}
	return intOf(row[0]), nil
}

// execAll runs each text, which may hold several statements.
func execAll(conn driver.Conn, texts ...string) error {
	for _, text := range texts {
		if _, err := conn.(driver.ExecerContext).ExecContext(context.Background(), text, nil); err != nil {
			return err
		}
	}
	return nil
}

// queryRow returns the first row, nil if there is none.
func queryRow(conn driver.Conn, text string) ([]driver.Value, error) {
	rows, err := conn.(driver.QueryerContext).QueryContext(context.Background(), text, nil)
	if err != nil {
		return nil, err
	}
	row := make([]driver.Value, len(rows.Columns()))
	err = rows.Next(row)
	if cerr := rows.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, err
	}
	return row, nil
}

func queryInt(conn driver.Conn, text string) (int64, error) {
	row, err := queryRow(conn, text)
	if err != nil {
		return 0, err
	}
	return intOf(row[0]), nil
}
