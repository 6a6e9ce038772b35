package l3

import "strings"

// text returns the SQL of st for SQLite.
func (*sqliteDialect) text(st statement) string {
	if st < firstWide {
		return sqliteTexts[st]
	}
	n := int(st - firstWide)
	list := "(?" + strings.Repeat(",?", widths[n%len(widths)]-1) + ")"
	return strings.ReplaceAll(sqliteWide[n/len(widths)], "LIST", list)
}

var sqliteWide = [...]string{
	`SELECT key, id, head FROM items WHERE key IN LIST`,
	`SELECT key, head FROM tombstones WHERE key IN LIST`,
	`SELECT key, version, content_version, metadata_version FROM items WHERE key IN LIST`,
	`SELECT key, version, content_version FROM tombstones WHERE key IN LIST`,
	`SELECT key, head, content FROM items WHERE key IN LIST
	 UNION ALL SELECT key, head, NULL FROM tombstones WHERE key IN LIST`,
}

var sqliteTexts = [...]string{
	stmtBegin:     `BEGIN IMMEDIATE`,
	stmtBeginRead: `BEGIN`,
	stmtCommit:    `COMMIT`,
	stmtRollback:  `ROLLBACK`,
	stmtPing:      `SELECT last_seq FROM meta`,

	stmtGet: `SELECT head, content FROM items WHERE key = ?
		UNION ALL SELECT head, NULL FROM tombstones WHERE key = ?`,
	stmtPutNew: `INSERT INTO items (key, version, content_version, metadata_version, updated_at, expires_at,
		is_json, state, head, content) VALUES (?,?,?,?,?,?,?,?,?,?)`,
	stmtPutOver: `UPDATE items SET version=?, content_version=?, metadata_version=?, updated_at=?, expires_at=?,
		is_json=?, state=?, head=?, content=? WHERE id=?`,
	stmtPutHead: `UPDATE items SET version=?, content_version=?, metadata_version=?, updated_at=?, expires_at=?,
		is_json=?, state=?, head=? WHERE id=?`,
	stmtDeleteRow: `DELETE FROM items WHERE id=?`,
	stmtTombstone: `INSERT INTO tombstones (key, version, content_version, stored_at, head) VALUES (?,?,?,?,?)
		ON CONFLICT (key) DO UPDATE SET version=excluded.version, content_version=excluded.content_version,
		stored_at=excluded.stored_at, head=excluded.head`,
	stmtDropTombstone: `DELETE FROM tombstones WHERE key=?`,
	stmtTag:           `INSERT OR IGNORE INTO tags (tag, key) VALUES (?,?)`,
	stmtUntag:         `DELETE FROM tags WHERE tag=? AND key=?`,
	stmtChange:        `INSERT INTO changes (seq, at, op, version, key, rule) VALUES (?,?,?,?,?,?)`,
	stmtMeta:          `SELECT last_seq, trimmed_seq, max_version, rules_epoch FROM meta`,
	stmtSetMeta:       `UPDATE meta SET last_seq=?, max_version=?, rules_epoch=?`,

	stmtAddRule: `INSERT INTO rules (version, digest, stored_at, swept, record) VALUES (?,?,?,0,?)
		ON CONFLICT (version, digest) DO NOTHING`,
	stmtRules:        `SELECT version, stored_at, swept, record FROM rules ORDER BY version, digest`,
	stmtRulePosition: `SELECT id, swept, position FROM rules WHERE version=? AND digest=?`,
	stmtMoveRule:     `UPDATE rules SET swept=?, position=? WHERE id=?`,
	stmtDropRules:    `DELETE FROM rules WHERE version < ? AND stored_at < ? AND swept = 1`,

	stmtSweepKeys: `SELECT id, key, head FROM items WHERE key >= ? AND key < ? ORDER BY key LIMIT ?`,
	stmtSweepTags: `SELECT t.tag, t.key, i.id, i.head FROM tags AS t JOIN items AS i ON i.key = t.key
		WHERE (t.tag, t.key) > (?, ?) AND t.tag < ? ORDER BY t.tag, t.key LIMIT ?`,
	stmtExpired: `SELECT id, key, head FROM items WHERE expires_at <= ? ORDER BY expires_at, key LIMIT ?`,
	stmtPurgeTombstones: `DELETE FROM tombstones WHERE key IN
		(SELECT key FROM tombstones WHERE version < ? AND stored_at < ? ORDER BY version LIMIT ?)`,
	stmtTombstoneList: `SELECT key, head FROM tombstones WHERE key >= ? AND key < ? ORDER BY key LIMIT ?`,

	stmtScanKey:        `SELECT key, head FROM items WHERE key >= ? AND key < ? ORDER BY key LIMIT ?`,
	stmtScanKeyContent: `SELECT key, head, content FROM items WHERE key >= ? AND key < ? ORDER BY key LIMIT ?`,
	stmtScanState:      `SELECT key, head FROM items WHERE key >= ? AND key < ? AND state = ? ORDER BY key LIMIT ?`,
	stmtScanStateContent: `SELECT key, head, content FROM items
		WHERE key >= ? AND key < ? AND state = ? ORDER BY key LIMIT ?`,
	stmtScanTag: `SELECT t.key, i.head FROM tags AS t CROSS JOIN items AS i ON i.key = t.key
		WHERE t.key >= ? AND t.key < ? AND t.tag = ? ORDER BY t.key LIMIT ?`,
	stmtScanTagContent: `SELECT t.key, i.head, i.content FROM tags AS t CROSS JOIN items AS i ON i.key = t.key
		WHERE t.key >= ? AND t.key < ? AND t.tag = ? ORDER BY t.key LIMIT ?`,

	// All in range and, second, those of them that are expired; one snapshot.
	stmtCountKey: `SELECT
		(SELECT count(*) FROM (SELECT 1 FROM items INDEXED BY items_key WHERE key >= ? AND key < ? LIMIT ?)),
		(SELECT count(*) FROM (SELECT 1 FROM items INDEXED BY items_expiry
			WHERE expires_at <= ? AND key >= ? AND key < ? LIMIT ?))`,
	stmtCountState: `SELECT
		(SELECT count(*) FROM (SELECT 1 FROM items INDEXED BY items_state
			WHERE state = ? AND key >= ? AND key < ? LIMIT ?)),
		(SELECT count(*) FROM (SELECT 1 FROM items INDEXED BY items_expiry
			WHERE expires_at <= ? AND key >= ? AND key < ? AND state = ? LIMIT ?))`,
	stmtCountTag: `SELECT
		(SELECT count(*) FROM (SELECT 1 FROM tags WHERE tag = ? AND key >= ? AND key < ? LIMIT ?)),
		(SELECT count(*) FROM (SELECT 1 FROM items AS i INDEXED BY items_expiry CROSS JOIN tags AS t
			WHERE i.expires_at <= ? AND i.key >= ? AND i.key < ? AND t.tag = ? AND t.key = i.key LIMIT ?))`,

	stmtChanges:     `SELECT seq, at, op, version, key, rule FROM changes WHERE seq > ? ORDER BY seq LIMIT ?`,
	stmtTrimChanges: `DELETE FROM changes WHERE seq <= ?`,
	stmtSetTrimmed:  `UPDATE meta SET trimmed_seq=?`,

	stmtWALState:    `PRAGMA wal_checkpoint(NOOP)`,
	stmtWALPassive:  `PRAGMA wal_checkpoint(PASSIVE)`,
	stmtWALRestart:  `PRAGMA wal_checkpoint(RESTART)`,
	stmtWALTruncate: `PRAGMA wal_checkpoint(TRUNCATE)`,
}
