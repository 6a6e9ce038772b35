package l3

import "strings"

// mysqlText returns the SQL of st for MySQL and MariaDB. Indexes are named: the
// optimizer's figures of a young or busy table lie, and a look-up that went
// through the table would wait for the rows of others.
func mysqlText(st statement, names *strings.Replacer) string {
	if st < firstWide {
		return names.Replace(mysqlTexts[st])
	}
	return names.Replace(widen(mysqlWide[:], st))
}

// mysqlWide are the statements of several widths, see sqliteWide. What wins has
// been decided under locks before anything is written, so updates assign without
// asking: no assignment reads what another has assigned. Rows that were not
// there are inserted plainly: one that has appeared is an error, and the
// transaction is made again.
var mysqlWide = [...]string{
	`SELECT item_key, id, head FROM {items} FORCE INDEX (items_key) WHERE item_key IN LIST ORDER BY item_key FOR UPDATE`,
	`SELECT item_key, head FROM {tombstones} FORCE INDEX (PRIMARY) WHERE item_key IN LIST ORDER BY item_key FOR UPDATE`,
	`SELECT item_key, version, content_version FROM {items} FORCE INDEX (items_key) WHERE item_key IN LIST ORDER BY item_key FOR UPDATE`,
	`SELECT item_key, version, content_version FROM {tombstones} FORCE INDEX (PRIMARY) WHERE item_key IN LIST ORDER BY item_key FOR UPDATE`,
	`SELECT item_key, head, content FROM {items} FORCE INDEX (items_key) WHERE item_key IN LIST
	 UNION ALL SELECT item_key, head, NULL FROM {tombstones} FORCE INDEX (PRIMARY) WHERE item_key IN LIST`,
	`DELETE i FROM {items} AS i FORCE INDEX (PRIMARY) WHERE i.id IN LIST`,
	`DELETE d FROM {tombstones} AS d FORCE INDEX (PRIMARY) WHERE d.item_key IN LIST`,
	`INSERT INTO {items} (item_key, version, content_version, metadata_version, updated_at, expires_at,
		is_json, state, head, content) ROWS (?,?,?,?,?,?,?,?,?,?)`,
	`INSERT INTO {items} (version, content_version, metadata_version, updated_at, expires_at,
		is_json, state, head, content, id, item_key) ROWS (?,?,?,?,?,?,?,?,?,?,?) THEN ON DUPLICATE KEY UPDATE
		version=VALUES(version), content_version=VALUES(content_version), metadata_version=VALUES(metadata_version),
		updated_at=VALUES(updated_at), expires_at=VALUES(expires_at), is_json=VALUES(is_json), state=VALUES(state),
		head=VALUES(head), content=VALUES(content)`,
	`INSERT INTO {items} (version, content_version, metadata_version, updated_at, expires_at,
		is_json, state, head, id, item_key, content) ROWS (?,?,?,?,?,?,?,?,?,?,'') THEN ON DUPLICATE KEY UPDATE
		version=VALUES(version), content_version=VALUES(content_version), metadata_version=VALUES(metadata_version),
		updated_at=VALUES(updated_at), expires_at=VALUES(expires_at), is_json=VALUES(is_json), state=VALUES(state),
		head=VALUES(head)`,
	`INSERT INTO {tombstones} (item_key, version, content_version, stored_at, head) ROWS (?,?,?,?,?)`,
	`INSERT INTO {tombstones} (item_key, version, content_version, stored_at, head) ROWS (?,?,?,?,?)
		THEN ON DUPLICATE KEY UPDATE version=VALUES(version), content_version=VALUES(content_version),
		stored_at=VALUES(stored_at), head=VALUES(head)`,
	`INSERT INTO {tags} (tag, item_key) ROWS (?,?) THEN ON DUPLICATE KEY UPDATE tag=VALUES(tag)`,
	`DELETE t FROM {tags} AS t FORCE INDEX (PRIMARY) WHERE ANY t.tag=? AND t.item_key=?`,
	`INSERT INTO {changes} (seq, at, op, version, item_key) ROWS (?,?,?,?,?)`,
	`SELECT item_key, head FROM {items} FORCE INDEX (items_key) WHERE item_key IN LIST`,
	`SELECT item_key, value FROM {merkle} FORCE INDEX (PRIMARY) WHERE item_key IN LIST`,
	`INSERT INTO {merkle} (item_key, value) ROWS (?,?) THEN ON DUPLICATE KEY UPDATE value=VALUES(value)`,
	`DELETE m FROM {merkle} AS m FORCE INDEX (PRIMARY) WHERE m.item_key IN LIST`,
}

var mysqlTexts = [...]string{
	stmtBegin:     `START TRANSACTION`,
	stmtBeginRead: `START TRANSACTION`,
	stmtCommit:    `COMMIT`,
	stmtRollback:  `ROLLBACK`,

	// A union takes this server half as long again as the one look-up that most
	// calls need; what has no row is asked for a second time, in both tables.
	stmtGetRow: `SELECT head, content FROM {items} FORCE INDEX (items_key) WHERE item_key = ?`,
	stmtGet: `SELECT head, content FROM {items} FORCE INDEX (items_key) WHERE item_key = ?
		UNION ALL SELECT head, NULL FROM {tombstones} WHERE item_key = ?
		UNION ALL SELECT NULL, CAST(ifnull(max(version), 0) AS CHAR) FROM {mappings}`,
	stmtRuleChange: `INSERT INTO {changes} (seq, at, op, version, item_key, rule) VALUES (?,?,?,?,?,?)`,
	stmtMeta:       `SELECT last_seq, trimmed_seq, max_version, rules_epoch FROM {meta}`,
	stmtLockMeta:   `SELECT last_seq, trimmed_seq, max_version, rules_epoch FROM {meta} WHERE id = 1 FOR UPDATE`,
	stmtSetMeta:    `UPDATE {meta} SET last_seq=?, max_version=?, rules_epoch=? WHERE id = 1`,

	stmtAddRule: `INSERT INTO {rules} (version, digest, stored_at, swept, record) VALUES (?,?,?,0,?)
		ON DUPLICATE KEY UPDATE version=VALUES(version)`,
	stmtRules:        `SELECT version, stored_at, swept, record FROM {rules} ORDER BY version, digest`,
	stmtRulePosition: `SELECT id, swept, position FROM {rules} WHERE version=? AND digest=? FOR UPDATE`,
	stmtMoveRule:     `UPDATE {rules} SET swept=?, position=? WHERE id=?`,
	stmtDropRules:    `DELETE FROM {rules} WHERE version < ? AND stored_at < ? AND swept = 1`,

	stmtSweepKeys: `SELECT id, item_key, head FROM {items} FORCE INDEX (items_key)
		WHERE item_key >= ? AND item_key < ? ORDER BY item_key LIMIT ? FOR UPDATE`,
	stmtSweepTags: `SELECT tag, item_key FROM {tags} FORCE INDEX (PRIMARY)
		WHERE (tag > ? OR tag = ? AND item_key > ?) AND tag < ? ORDER BY tag, item_key LIMIT ?`,
	stmtExpired: `SELECT id, item_key, head FROM {items} FORCE INDEX (items_expiry)
		WHERE expires_at <= ? ORDER BY expires_at, item_key LIMIT ? FOR UPDATE`,
	stmtPurgeTombstones: `DELETE FROM {tombstones} WHERE version < ? AND stored_at < ? ORDER BY version LIMIT ?`,
	stmtTombstoneList:   `SELECT item_key, head FROM {tombstones} WHERE item_key >= ? AND item_key < ? ORDER BY item_key LIMIT ?`,

	stmtScanKey: `SELECT item_key, head FROM {items} FORCE INDEX (items_key)
		WHERE item_key >= ? AND item_key < ? ORDER BY item_key LIMIT ?`,
	stmtScanKeyContent: `SELECT item_key, head, content FROM {items} FORCE INDEX (items_key)
		WHERE item_key >= ? AND item_key < ? ORDER BY item_key LIMIT ?`,
	stmtScanState: `SELECT item_key, head FROM {items} FORCE INDEX (items_state)
		WHERE item_key >= ? AND item_key < ? AND state = ? ORDER BY item_key LIMIT ?`,
	stmtScanStateContent: `SELECT item_key, head, content FROM {items} FORCE INDEX (items_state)
		WHERE item_key >= ? AND item_key < ? AND state = ? ORDER BY item_key LIMIT ?`,
	stmtScanTag: `SELECT t.item_key, i.head FROM {tags} AS t FORCE INDEX (PRIMARY)
		STRAIGHT_JOIN {items} AS i FORCE INDEX (items_key) ON i.item_key = t.item_key
		WHERE t.item_key >= ? AND t.item_key < ? AND t.tag = ? ORDER BY t.item_key LIMIT ?`,
	stmtScanTagContent: `SELECT t.item_key, i.head, i.content FROM {tags} AS t FORCE INDEX (PRIMARY)
		STRAIGHT_JOIN {items} AS i FORCE INDEX (items_key) ON i.item_key = t.item_key
		WHERE t.item_key >= ? AND t.item_key < ? AND t.tag = ? ORDER BY t.item_key LIMIT ?`,

	stmtCountKey: `SELECT
		(SELECT count(*) FROM (SELECT 1 FROM {items} FORCE INDEX (items_key) WHERE item_key >= ? AND item_key < ? LIMIT ?) AS a),
		count(*), CAST(ifnull(sum(item_key >= ? AND item_key < ?), 0) AS SIGNED) FROM
		(SELECT item_key FROM {items} FORCE INDEX (items_expiry) WHERE expires_at <= ? LIMIT ?) AS e`,
	stmtCountState: `SELECT
		(SELECT count(*) FROM (SELECT 1 FROM {items} FORCE INDEX (items_state) WHERE item_key >= ? AND item_key < ? AND state = ? LIMIT ?) AS a),
		count(*), CAST(ifnull(sum(item_key >= ? AND item_key < ? AND state <=> ?), 0) AS SIGNED) FROM
		(SELECT item_key, state FROM {items} FORCE INDEX (items_expiry) WHERE expires_at <= ? LIMIT ?) AS e`,
	stmtCountTag: `SELECT
		(SELECT count(*) FROM (SELECT 1 FROM {tags} WHERE item_key >= ? AND item_key < ? AND tag = ? LIMIT ?) AS a),
		count(*), CAST(ifnull(sum(e.item_key >= ? AND e.item_key < ?
			AND EXISTS (SELECT 1 FROM {tags} AS t WHERE t.tag = ? AND t.item_key = e.item_key)), 0) AS SIGNED) FROM
		(SELECT item_key FROM {items} FORCE INDEX (items_expiry) WHERE expires_at <= ? LIMIT ?) AS e`,

	stmtChanges:     `SELECT seq, at, op, version, item_key, rule FROM {changes} WHERE seq > ? ORDER BY seq LIMIT ?`,
	stmtTrimChanges: `DELETE FROM {changes} WHERE seq <= ?`,
	stmtSetTrimmed:  `UPDATE {meta} SET trimmed_seq=? WHERE id = 1`,

	stmtNode:       `SELECT name, addr, incarnation, lease_until FROM {nodes} WHERE id=? FOR UPDATE`,
	stmtNodeNew:    `INSERT INTO {nodes} (name, addr, incarnation, applied_seq, lease_until, id) VALUES (?,?,?,?,?,?)`,
	stmtNodeSet:    `UPDATE {nodes} SET name=?, addr=?, incarnation=?, applied_seq=?, lease_until=? WHERE id=?`,
	stmtNodes:      `SELECT id, name, addr, incarnation, applied_seq, lease_until FROM {nodes} ORDER BY id`,
	stmtNodeRemove: `DELETE FROM {nodes} WHERE id=?`,
	stmtLease:      `SELECT holder, lease_until FROM {leases} WHERE name=? FOR UPDATE`,
	stmtLeaseNew:   `INSERT INTO {leases} (holder, lease_until, name) VALUES (?,?,?)`,
	stmtLeaseSet:   `UPDATE {leases} SET holder=?, lease_until=? WHERE name=?`,
	stmtLeaseDrop:  `DELETE FROM {leases} WHERE name=? AND holder=?`,

	stmtMappings:   `SELECT name, version, prefix, state, position FROM {mappings} ORDER BY name`,
	stmtMapVersion: `SELECT ifnull(max(version), 0) FROM {mappings}`,
	stmtMapSet: `INSERT INTO {mappings} (name, version, prefix, state, position) VALUES (?,?,?,?,NULL)
		ON DUPLICATE KEY UPDATE version=VALUES(version), prefix=VALUES(prefix), state=VALUES(state), position=NULL`,
	stmtMapLock:      `SELECT version, position FROM {mappings} WHERE name=? FOR UPDATE`,
	stmtMapPosition:  `UPDATE {mappings} SET position=? WHERE name=?`,
	stmtMapMinBinary: `UPDATE {schema_info} SET min_binary=GREATEST(min_binary, 3), needs='edgenode 0.1'`,
	stmtMovePage: `SELECT item_key, length(content) FROM {items} FORCE INDEX (items_key)
		WHERE item_key >= ? AND item_key < ? ORDER BY item_key LIMIT ? FOR UPDATE`,
	stmtMoveRows: `SELECT id, item_key, head, content FROM {items} FORCE INDEX (items_key)
		WHERE item_key >= ? AND item_key <= ? ORDER BY item_key FOR UPDATE`,

	stmtMerkleState: `SELECT value FROM {merkle} WHERE item_key = '' FOR UPDATE`,
	stmtMerkleClear: `DELETE FROM {merkle} WHERE item_key > '' ORDER BY item_key LIMIT ?`,

	stmtSnapshotLevel: `SET TRANSACTION ISOLATION LEVEL REPEATABLE READ`,
	stmtSnapshot:      `START TRANSACTION WITH CONSISTENT SNAPSHOT`,
	stmtServerTime:    `SELECT CAST(UNIX_TIMESTAMP(SYSDATE(3)) * 1000 AS SIGNED)`,
}
