package l3

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strings"
)

// mysqlNames are the tables in a server's database.
var mysqlNames = tables(mysqlPrefix, baseTable)

const mysqlPrefix = "edgenode_"

// mysqlMigrations are as sqliteMigrations, and count in the same numbers. A
// server commits each statement by itself, so a step must be one that can be
// made again after a half of it: it creates what is not there.
//
// items.json is the content as text where it is JSON to the server too, which
// allows less depth than Go does, else NULL. What is not UTF-8 in it is a "?".
var mysqlMigrations = []migration{{version: 2, minBinary: 2, needs: "edgenode 0.1", sql: `
CREATE TABLE IF NOT EXISTS {meta} (
	id TINYINT NOT NULL PRIMARY KEY,
	last_seq BIGINT NOT NULL,
	trimmed_seq BIGINT NOT NULL,
	max_version BIGINT NOT NULL,
	rules_epoch BIGINT NOT NULL
) OPTIONS;
` + mysqlItems + `;
CREATE TABLE IF NOT EXISTS {tombstones} (
	item_key VARBINARY(1025) NOT NULL PRIMARY KEY,
	version BIGINT NOT NULL,
	content_version BIGINT NOT NULL,
	stored_at BIGINT NOT NULL,
	head LONGBLOB NOT NULL,
	KEY tombstones_version (version)
) OPTIONS;
CREATE TABLE IF NOT EXISTS {tags} (
	tag VARBINARY(2000) NOT NULL,
	item_key VARBINARY(1025) NOT NULL,
	PRIMARY KEY (tag, item_key)
) OPTIONS;
CREATE TABLE IF NOT EXISTS {changes} (
	seq BIGINT NOT NULL PRIMARY KEY,
	at BIGINT NOT NULL,
	op TINYINT NOT NULL,
	version BIGINT NOT NULL,
	item_key VARBINARY(8193) NOT NULL,
	rule LONGBLOB
) OPTIONS;
CREATE TABLE IF NOT EXISTS {rules} (
	id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
	version BIGINT NOT NULL,
	digest BINARY(32) NOT NULL,
	stored_at BIGINT NOT NULL,
	swept TINYINT NOT NULL,
	position VARBINARY(4096),
	record LONGBLOB NOT NULL,
	UNIQUE KEY rules_version (version, digest)
) OPTIONS;
CREATE TABLE IF NOT EXISTS {nodes} (
	id VARBINARY(64) NOT NULL PRIMARY KEY,
	name VARBINARY(255) NOT NULL,
	addr VARBINARY(255) NOT NULL,
	incarnation VARBINARY(64) NOT NULL,
	applied_seq BIGINT NOT NULL,
	lease_until BIGINT NOT NULL
) OPTIONS;
CREATE TABLE IF NOT EXISTS {leases} (
	name VARBINARY(64) NOT NULL PRIMARY KEY,
	holder VARBINARY(64) NOT NULL,
	lease_until BIGINT NOT NULL
) OPTIONS;
INSERT INTO {meta} VALUES (1, 0, 0, 0, 0) ON DUPLICATE KEY UPDATE id = 1;
`}, {version: 3, minBinary: 2, needs: "edgenode 0.1", sql: `
CREATE TABLE IF NOT EXISTS {mappings} (
	name VARBINARY(64) NOT NULL PRIMARY KEY,
	version BIGINT NOT NULL,
	prefix VARBINARY(1025) NOT NULL,
	state TINYINT NOT NULL,
	position VARBINARY(1026),
	KEY mappings_version (version)
) OPTIONS;
`}, {version: 4, minBinary: 2, needs: "edgenode 0.1", sql: `
CREATE TABLE IF NOT EXISTS {merkle} (
	item_key VARBINARY(1200) NOT NULL PRIMARY KEY,
	value MEDIUMBLOB NOT NULL
) OPTIONS;
`}, {version: 5, minBinary: 5, needs: "edgenode 0.1"}} // heads are records of format 2, as in SQLite

// mysqlItems is the table of items, and that of a mapping.
const mysqlItems = `CREATE TABLE IF NOT EXISTS {items} (
	id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
	item_key VARBINARY(1025) NOT NULL,
	version BIGINT NOT NULL,
	content_version BIGINT NOT NULL,
	metadata_version BIGINT NOT NULL,
	updated_at BIGINT NOT NULL,
	expires_at BIGINT,
	is_json TINYINT NOT NULL,
	state VARBINARY(255),
	head LONGBLOB NOT NULL,
	content LONGBLOB NOT NULL,
	json LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin GENERATED ALWAYS AS
		(CASE WHEN is_json = 1 AND JSON_VALID(CONVERT(content USING utf8mb4)) THEN CONVERT(content USING utf8mb4) END) VIRTUAL,
	UNIQUE KEY items_key (item_key),
	KEY items_state (state, item_key),
	KEY items_expiry (expires_at, item_key)
) OPTIONS`

const (
	mysqlOptions    = `ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARACTER SET binary`
	mysqlSchemaInfo = `CREATE TABLE IF NOT EXISTS {schema_info} (
		id TINYINT NOT NULL PRIMARY KEY, version BIGINT NOT NULL, min_binary BIGINT NOT NULL, needs VARBINARY(255) NOT NULL) OPTIONS`
)

// prepare brings the database to the newest of the migrations or refuses it.
// Nodes that start together do so one after the other, by a lock of the server's
// that ends with its connection.
func (d *mysqlDialect) prepare(ctx context.Context) (err error) {
	conn, err := d.connect(ctx, roleWriter)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if err := d.lock(ctx, conn); err != nil {
		return err
	}
	have, err := d.schema(ctx, conn)
	if err != nil {
		return d.openFault(ctx, err)
	}
	for _, m := range d.steps {
		if m.version <= have {
			continue
		}
		if err := d.step(ctx, conn, m); err != nil {
			return d.openFault(ctx, fmt.Errorf("migrate to schema %d: %w", m.version, err))
		}
	}
	return nil
}

// lock waits for the lock, as long as the server may be silent.
func (d *mysqlDialect) lock(ctx context.Context, conn driver.Conn) error {
	wait := max(1, int(d.plain.ReadTimeout.Seconds())/2)
	row, err := d.first(ctx, conn, fmt.Sprintf("SELECT GET_LOCK(CONCAT('edgenode ', MD5(DATABASE())), %d)", wait))
	switch {
	case err != nil:
		return d.openFault(ctx, err)
	case row == nil || intOf(row[0]) != 1:
		return fmt.Errorf("%w: another node is migrating %s", ErrUnavailable, d.title)
	}
	return nil
}

// schema returns the schema version of the database, 0 for a new one.
func (d *mysqlDialect) schema(ctx context.Context, conn driver.Conn) (int64, error) {
	if err := d.run(ctx, conn, mysqlSchemaInfo); err != nil {
		return 0, err
	}
	row, err := d.first(ctx, conn, mysqlNames.Replace("SELECT version, min_binary, needs FROM {schema_info}"))
	if err != nil || row == nil {
		return 0, err
	}
	if known := d.steps[len(d.steps)-1].version; intOf(row[1]) > known {
		return 0, fmt.Errorf("%w: %s has schema %d and needs %s or newer; this binary knows schemas up to %d: use the newer binary or another database",
			ErrNewer, d.title, intOf(row[0]), bytesOf(row[2]), known)
	}
	return intOf(row[0]), nil
}

// step makes one migration; its number comes last.
func (d *mysqlDialect) step(ctx context.Context, conn driver.Conn, m migration) error {
	for text := range strings.SplitSeq(m.sql, ";\n") {
		if strings.TrimSpace(text) == "" {
			continue
		}
		if err := d.run(ctx, conn, text); err != nil {
			return err
		}
	}
	return d.run(ctx, conn, fmt.Sprintf(`INSERT INTO {schema_info} VALUES (1, %d, %d, '%s')
		ON DUPLICATE KEY UPDATE version = VALUES(version), min_binary = VALUES(min_binary), needs = VALUES(needs)`, m.version, m.minBinary, m.needs))
}

func (d *mysqlDialect) tableName(table string) string {
	return tables(mysqlPrefix, table).Replace("{items}")
}

func (d *mysqlDialect) createTable(ctx context.Context, conn driver.Conn, table string) error {
	return d.run(ctx, conn, tables(mysqlPrefix, table).Replace(mysqlItems))
}

func (d *mysqlDialect) run(ctx context.Context, conn driver.Conn, text string) error {
	text = strings.ReplaceAll(mysqlNames.Replace(text), "OPTIONS", mysqlOptions)
	_, err := conn.(driver.ExecerContext).ExecContext(ctx, text, nil)
	return err
}

// first returns the first row, nil if there is none.
func (d *mysqlDialect) first(ctx context.Context, conn driver.Conn, text string) ([]driver.Value, error) {
	rows, err := conn.(driver.QueryerContext).QueryContext(ctx, text, nil)
	if err != nil {
		return nil, err
	}
	row := make([]driver.Value, len(rows.Columns()))
	err = rows.Next(row)
	own(row)
	if cerr := rows.Close(); err == nil {
		err = cerr
	}
	if err == io.EOF {
		return nil, nil
	}
	return row, err
}
