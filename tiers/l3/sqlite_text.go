package l3

import "strings"

// sqliteNames are the tables in an SQLite file.
var sqliteNames = tables("", baseTable)

// text returns the SQL of st for SQLite.
func (*sqliteDialect) text(st statement, table string) string {
	names := sqliteNames
	if table != baseTable {
		names = tables("", table)
	}
	if st < firstWide {
		return names.Replace(sqliteTexts[st])
	}
	return names.Replace(widen(sqliteWide[:], st))
}

// widen writes out a statement of several widths, see sqliteWide.
func widen(texts []string, st statement) string {
	n := int(st - firstWide)
	text, width := texts[n/len(widths)], widths[n%len(widths)]
	text = strings.ReplaceAll(text, "LIST", "(?"+strings.Repeat(",?", width-1)+")")
	text = strings.ReplaceAll(text, "KEYS", "(VALUES (?)"+strings.Repeat(",(?)", width-1)+") AS list")
	if head, rest, insertion := strings.Cut(text, " ROWS "); insertion {
		row, tail, _ := strings.Cut(rest, "THEN ")
		text = head + " VALUES " + row + strings.Repeat(","+row, width-1) + " " + tail
	}
	if head, each, any := strings.Cut(text, " ANY "); any {
		text = head + " " + each + strings.Repeat(" OR "+each, width-1)
	}
	return text
}

// rows returns how many rows a statement writes at most. What updates, and what
// may meet a row, is made one by one: SQLite gains nothing by more.
func (*sqliteDialect) rows(first statement) int {
	switch first {
	case stmtPutIn, stmtTagIn, stmtChangeIn:
		return 100
	case stmtDropIn, stmtUnburyIn, stmtMerkleDropIn:
		return maxWidth
	}
	return 1
}

// sqliteWide are the statements of several widths: LIST stands for a list of
// parameters, KEYS for a table of them, the row after ROWS (up to THEN) is
// repeated, and so is the condition after ANY.
//
// Look-ups by key join a table of values: it is not sorted and kept as a list
// after IN is, which halves their time.
var sqliteWide = [...]string{
	`SELECT i.key, id, head FROM KEYS CROSS JOIN {items} AS i ON i.key = list.column1`,
	`SELECT d.key, head FROM KEYS CROSS JOIN {tombstones} AS d ON d.key = list.column1`,
	`SELECT key, version, content_version FROM {items} WHERE id IN LIST`,
	`SELECT key, version, content_version FROM {tombstones} WHERE key IN LIST`,
	`SELECT i.key, head, content FROM KEYS CROSS JOIN {items} AS i ON i.key = list.column1
	 UNION ALL SELECT d.key, head, NULL FROM KEYS CROSS JOIN {tombstones} AS d ON d.key = list.column1`,
	`DELETE FROM {items} WHERE id IN LIST`,
	`DELETE FROM {tombstones} WHERE key IN LIST`,
	`INSERT INTO {items} (key, version, content_version, metadata_version, updated_at, expires_at,
		is_json, state, head, content) ROWS (?,?,?,?,?,?,?,?,?,?)`,
	`UPDATE {items} SET version=?, content_version=?, metadata_version=?, updated_at=?, expires_at=?,
		is_json=?, state=?, head=?, content=? WHERE id=? AND key=?`,
	`UPDATE {items} SET version=?, content_version=?, metadata_version=?, updated_at=?, expires_at=?,
		is_json=?, state=?, head=? WHERE id=? AND key=?`,
	`INSERT INTO {tombstones} (key, version, content_version, stored_at, head) ROWS (?,?,?,?,?)`,
	`INSERT INTO {tombstones} (key, version, content_version, stored_at, head) ROWS (?,?,?,?,?)
		THEN ON CONFLICT (key) DO UPDATE SET version=excluded.version, content_version=excluded.content_version,
		stored_at=excluded.stored_at, head=excluded.head`,
	`INSERT OR IGNORE INTO {tags} (tag, key) ROWS (?,?)`,
	`DELETE FROM {tags} WHERE ANY tag=? AND key=?`,
	`INSERT INTO {changes} (seq, at, op, version, key) ROWS (?,?,?,?,?)`,
	`SELECT i.key, head FROM KEYS CROSS JOIN {items} AS i ON i.key = list.column1`,
	`SELECT m.key, value FROM KEYS CROSS JOIN {merkle} AS m ON m.key = list.column1`,
	`INSERT INTO {merkle} (key, value) ROWS (?,?) THEN ON CONFLICT (key) DO UPDATE SET value=excluded.value`,
	`DELETE FROM {merkle} WHERE key IN LIST`,
}

var sqliteTexts = [...]string{
	stmtBegin:     `BEGIN IMMEDIATE`,
	stmtBeginRead: `BEGIN`,
	stmtCommit:    `COMMIT`,
	stmtRollback:  `ROLLBACK`,

	stmtGetRow: `SELECT head, content FROM {items} WHERE key = ?`, // never asked: a union costs nothing here
	stmtGet: `SELECT head, content FROM {items} WHERE key = ?
		UNION ALL SELECT head, NULL FROM {tombstones} WHERE key = ?
		UNION ALL SELECT NULL, ifnull(max(version), 0) FROM {mappings}`,
	stmtRuleChange:    `INSERT INTO {changes} (seq, at, op, version, key, rule) VALUES (?,?,?,?,?,?)`,
	stmtReadBackRange: `SELECT key, version, content_version FROM {items} WHERE id >= ? AND id <= ?`,
	stmtMeta:          `SELECT last_seq, trimmed_seq, max_version, rules_epoch FROM {meta}`,
	stmtLockMeta:      `SELECT last_seq, trimmed_seq, max_version, rules_epoch FROM {meta}`, // BEGIN IMMEDIATE has the lock
	stmtSetMeta:       `UPDATE {meta} SET last_seq=?, max_version=?, rules_epoch=?`,

	stmtAddRule: `INSERT INTO {rules} (version, digest, stored_at, swept, record) VALUES (?,?,?,0,?)
		ON CONFLICT (version, digest) DO NOTHING`,
	stmtRules:        `SELECT version, stored_at, swept, record FROM {rules} ORDER BY version, digest`,
	stmtRulePosition: `SELECT id, swept, position FROM {rules} WHERE version=? AND digest=?`,
	stmtMoveRule:     `UPDATE {rules} SET swept=?, position=? WHERE id=?`,
	stmtDropRules:    `DELETE FROM {rules} WHERE version < ? AND stored_at < ? AND swept = 1`,

	stmtSweepKeys: `SELECT id, key, head FROM {items} WHERE key >= ? AND key < ? ORDER BY key LIMIT ?`,
	stmtSweepTags: `SELECT tag, key FROM {tags} WHERE (tag, key) > (?, ?) AND tag < ? ORDER BY tag, key LIMIT ?`,
	stmtExpired:   `SELECT id, key, head FROM {items} WHERE expires_at <= ? ORDER BY expires_at, key LIMIT ?`,
	stmtPurgeTombstones: `DELETE FROM {tombstones} WHERE key IN
		(SELECT key FROM {tombstones} WHERE version < ? AND stored_at < ? ORDER BY version LIMIT ?)`,
	stmtTombstoneList: `SELECT key, head FROM {tombstones} WHERE key >= ? AND key < ? ORDER BY key LIMIT ?`,

	stmtScanKey:        `SELECT key, head FROM {items} WHERE key >= ? AND key < ? ORDER BY key LIMIT ?`,
	stmtScanKeyContent: `SELECT key, head, content FROM {items} WHERE key >= ? AND key < ? ORDER BY key LIMIT ?`,
	stmtScanState:      `SELECT key, head FROM {items} WHERE key >= ? AND key < ? AND state = ? ORDER BY key LIMIT ?`,
	stmtScanStateContent: `SELECT key, head, content FROM {items}
		WHERE key >= ? AND key < ? AND state = ? ORDER BY key LIMIT ?`,
	stmtScanTag: `SELECT t.key, i.head FROM {tags} AS t CROSS JOIN {items} AS i ON i.key = t.key
		WHERE t.key >= ? AND t.key < ? AND t.tag = ? ORDER BY t.key LIMIT ?`,
	stmtScanTagContent: `SELECT t.key, i.head, i.content FROM {tags} AS t CROSS JOIN {items} AS i ON i.key = t.key
		WHERE t.key >= ? AND t.key < ? AND t.tag = ? ORDER BY t.key LIMIT ?`,

	// All in range; and of the first expired ones anywhere, how many were looked
	// at and how many of them are in range: one snapshot.
	stmtCountKey: `SELECT
		(SELECT count(*) FROM (SELECT 1 FROM {items} INDEXED BY {index}_key WHERE key >= ? AND key < ? LIMIT ?)),
		count(*), ifnull(sum(key >= ? AND key < ?), 0) FROM
		(SELECT key FROM {items} INDEXED BY {index}_expiry WHERE expires_at <= ? LIMIT ?)`,
	stmtCountState: `SELECT
		(SELECT count(*) FROM (SELECT 1 FROM {items} INDEXED BY {index}_state WHERE key >= ? AND key < ? AND state = ? LIMIT ?)),
		count(*), ifnull(sum(key >= ? AND key < ? AND state IS ?), 0) FROM
		(SELECT key, state FROM {items} INDEXED BY {index}_expiry WHERE expires_at <= ? LIMIT ?)`,
	stmtCountTag: `SELECT
		(SELECT count(*) FROM (SELECT 1 FROM {tags} WHERE key >= ? AND key < ? AND tag = ? LIMIT ?)),
		count(*), ifnull(sum(e.key >= ? AND e.key < ? AND EXISTS (SELECT 1 FROM {tags} AS t WHERE t.tag = ? AND t.key = e.key)), 0) FROM
		(SELECT key FROM {items} INDEXED BY {index}_expiry WHERE expires_at <= ? LIMIT ?) AS e`,

	stmtChanges:     `SELECT seq, at, op, version, key, rule FROM {changes} WHERE seq > ? ORDER BY seq LIMIT ?`,
	stmtTrimChanges: `DELETE FROM {changes} WHERE seq <= ?`,
	stmtSetTrimmed:  `UPDATE {meta} SET trimmed_seq=?`,

	stmtNode:       `SELECT name, addr, incarnation, lease_until FROM {nodes} WHERE id=?`,
	stmtNodeNew:    `INSERT INTO {nodes} (name, addr, incarnation, applied_seq, lease_until, id) VALUES (?,?,?,?,?,?)`,
	stmtNodeSet:    `UPDATE {nodes} SET name=?, addr=?, incarnation=?, applied_seq=?, lease_until=? WHERE id=?`,
	stmtNodes:      `SELECT id, name, addr, incarnation, applied_seq, lease_until FROM {nodes} ORDER BY id`,
	stmtNodeRemove: `DELETE FROM {nodes} WHERE id=?`,
	stmtLease:      `SELECT holder, lease_until FROM {leases} WHERE name=?`,
	stmtLeaseNew:   `INSERT INTO {leases} (holder, lease_until, name) VALUES (?,?,?)`,
	stmtLeaseSet:   `UPDATE {leases} SET holder=?, lease_until=? WHERE name=?`,
	stmtLeaseDrop:  `DELETE FROM {leases} WHERE name=? AND holder=?`,

	stmtMappings: `SELECT name, version, prefix, state, position FROM {mappings} ORDER BY name`,
	// The greatest version of the mappings, without going through them.
	stmtMapVersion: `SELECT ifnull(max(version), 0) FROM {mappings}`,
	stmtMapSet: `INSERT INTO {mappings} (name, version, prefix, state, position) VALUES (?,?,?,?,NULL)
		ON CONFLICT (name) DO UPDATE SET version=excluded.version, prefix=excluded.prefix, state=excluded.state, position=NULL`,
	stmtMapLock:      `SELECT version, position FROM {mappings} WHERE name=?`,
	stmtMapPosition:  `UPDATE {mappings} SET position=? WHERE name=?`,
	stmtMapMinBinary: `UPDATE {schema_info} SET min_binary=max(min_binary, 3), needs='edgenode 0.1'`,
	stmtMovePage:     `SELECT key, length(content) FROM {items} WHERE key >= ? AND key < ? ORDER BY key LIMIT ?`,
	stmtMoveRows:     `SELECT id, key, head, content FROM {items} WHERE key >= ? AND key <= ? ORDER BY key`,

	stmtMerkleState: `SELECT value FROM {merkle} WHERE key = x''`,
	stmtMerkleClear: `DELETE FROM {merkle} WHERE key IN (SELECT key FROM {merkle} WHERE key > x'' ORDER BY key LIMIT ?)`,

	stmtWALState:      `PRAGMA wal_checkpoint(NOOP)`,
	stmtWALPassive:    `PRAGMA wal_checkpoint(PASSIVE)`,
	stmtWALRestart:    `PRAGMA wal_checkpoint(RESTART)`,
	stmtWALTruncate:   `PRAGMA wal_checkpoint(TRUNCATE)`,
	stmtSnapshotLevel: `SELECT 0`, // never asked either: a transaction is a snapshot
	stmtSnapshot:      `BEGIN`,
	stmtServerTime:    `SELECT 0`, // never asked: the store's clock is the only one
}
