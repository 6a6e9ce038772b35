// Package l3 is the ground truth: items, tombstones, bulk rules, the change
// sequence, nodes and leases in SQL: one SQLite file, or a database of a MySQL or
// MariaDB server that several nodes share. sqlite*.go and mysql*.go are all that
// knows them, and both pass the same contract test.
//
// Begin with [Open], [Store.Apply] and [Store.Get]. Apply writes a batch in one
// transaction in which the newest version of each item wins; SweepRule, Expire
// and PurgeTombstones are bounded steps for the engine's background work;
// Changes is what feed, filter, Merkle tree and followers read.
//
// The package decides nothing about time or memory, and retries nothing but
// transactions of a server that were in each other's way: the engine calls again
// after ErrUnavailable, merges answers with what is pending, and knows live rules
// before they are swept.
//
// # Schema, version 5
//
//	schema_info  version, min_binary (the oldest schema a binary must know to
//	             use this file), needs (that binary in words)
//	meta         last_seq, trimmed_seq, max_version, rules_epoch: one row,
//	             written in the transaction of what it counts
//	items        id           rowid
//	             key          storage key (item.Key.StorageKey), unique, bytes
//	             version, content_version, metadata_version
//	             updated_at, expires_at (Unix ms, NULL is never)
//	             is_json      1 if content is one JSON text: SQL's JSON functions
//	                          work on CAST(content AS TEXT) of these rows
//	             state        NULL if empty
//	             head         the record of the item (package item) without
//	                          content: the whole key and all metadata; of
//	                          format 1 in rows that schema 4 and before wrote
//	             content      exact bytes, once
//	             indexes: (key) unique; (state, key) if there is a state;
//	             (expires_at, key) if there is an expiry
//	tombstones   key, version, content_version, stored_at (Unix ms), head
//	             index: (version)
//	tags         (tag, key): one row for each tag of a live item
//	changes      seq, at (Unix ms), op (ChangeOp), version, key (whole), rule
//	rules        version, digest (SHA-256 of record), stored_at, swept,
//	             position (u32 span, u32 length of tag, tag, key), record
//	nodes        id, name, addr, incarnation, applied_seq, lease_until (Unix ms,
//	             by the database's clock); since version 2
//	leases       name, holder, lease_until; since version 2
//	mappings     name (of the table), version (the epoch of the rules that its
//	             last change began), prefix, state (1 rows move in, 2 settled,
//	             3 rows move out, 4 gone), position (the next key to move);
//	             since version 3
//	items__NAME  as items: the rows of a mapping
//
// On a server the tables are called edgenode_items and so on (tables.go), key is
// called item_key, and items has one column more: json is the content as text,
// NULL unless the server takes it for JSON. So
//
//	SELECT item_key, JSON_VALUE(json, '$.price') FROM edgenode_items
//	WHERE JSON_VALUE(json, '$.price') > 10
//
// asks JSON, as does JSON_VALUE(CONVERT(content USING utf8mb4), '$.price') where
// every content is JSON. A server's tags have at most 2,000 bytes.
//
// A key is in items or in tombstones, never in both. Versions are unsigned 64
// bit and must be below 2^63 here, which is so for some 4,000 years.
//
// # Locks
//
// Store.loading (a token) is taken alone. The writer's session (a token in a
// channel) comes first, checkpointer.mu after it. A reader's session is taken
// alone. Locks in a server: the rule, rows of items by key, tombstones by key,
// tags, and the row of counters last; what deadlocks nevertheless is made again.
package l3
