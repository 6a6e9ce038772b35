package l3

import "fmt"

// The statements of the store. Those ending in In exist in several widths; see
// widthFor.
const (
	stmtBegin statement = iota
	stmtBeginRead
	stmtCommit
	stmtRollback
	stmtPing

	stmtGet
	stmtPutNew
	stmtPutOver
	stmtPutHead
	stmtDeleteRow
	stmtTombstone
	stmtDropTombstone
	stmtTag
	stmtUntag
	stmtChange
	stmtMeta
	stmtSetMeta

	stmtAddRule
	stmtRules
	stmtRulePosition
	stmtMoveRule
	stmtDropRules

	stmtSweepKeys
	stmtSweepTags
	stmtExpired
	stmtPurgeTombstones
	stmtTombstoneList

	stmtScanKey
	stmtScanKeyContent
	stmtScanState
	stmtScanStateContent
	stmtScanTag
	stmtScanTagContent
	stmtCountKey
	stmtCountState
	stmtCountTag

	stmtChanges
	stmtTrimChanges
	stmtSetTrimmed

	stmtWALState
	stmtWALPassive
	stmtWALRestart
	stmtWALTruncate

	stmtRowsIn     // rows to decide on: key, id, head
	stmtDeadIn     = stmtRowsIn + statement(len(widths))
	stmtReadBackIn = stmtDeadIn + statement(len(widths))
	stmtReadDeadIn = stmtReadBackIn + statement(len(widths))
	stmtGetManyIn  = stmtReadDeadIn + statement(len(widths))
	statementCount = int(stmtGetManyIn) + len(widths)
	firstWide      = stmtRowsIn
	maxWidth       = 500
)

// widths are the numbers of keys of the statements with a list of keys. A
// shorter list is filled up by repeating its last key.
var widths = [...]int{1, 16, 100, maxWidth}

// widthFor returns the statement and its width for n keys, 1 ≤ n ≤ maxWidth.
func widthFor(first statement, n int) (statement, int) {
	for i, w := range widths {
		if n <= w {
			return first + statement(i), w
		}
	}
	panic(fmt.Sprintf("l3: list of %d keys, a bug: lists are cut at %d", n, maxWidth))
}

// String returns the name in errors.
func (st statement) String() string {
	if st >= firstWide {
		i := int(st-firstWide) / len(widths)
		return [...]string{"rows", "tombstones", "read back", "read back of tombstones", "get many"}[i]
	}
	return statementNames[st]
}

var statementNames = [...]string{
	stmtBegin: "begin", stmtBeginRead: "begin", stmtCommit: "commit", stmtRollback: "rollback", stmtPing: "ping",
	stmtGet: "get", stmtPutNew: "insert", stmtPutOver: "update", stmtPutHead: "update of metadata",
	stmtDeleteRow: "delete", stmtTombstone: "tombstone", stmtDropTombstone: "removal of a tombstone",
	stmtTag: "tag", stmtUntag: "untag", stmtChange: "change", stmtMeta: "counters", stmtSetMeta: "update of counters",
	stmtAddRule: "rule", stmtRules: "rules", stmtRulePosition: "rule position", stmtMoveRule: "rule progress",
	stmtDropRules: "removal of rules", stmtSweepKeys: "sweep by key", stmtSweepTags: "sweep by tag",
	stmtExpired: "expired rows", stmtPurgeTombstones: "purge of tombstones", stmtTombstoneList: "list of tombstones",
	stmtScanKey: "scan", stmtScanKeyContent: "scan", stmtScanState: "scan by state",
	stmtScanStateContent: "scan by state", stmtScanTag: "scan by tag", stmtScanTagContent: "scan by tag",
	stmtCountKey: "count", stmtCountState: "count by state", stmtCountTag: "count by tag",
	stmtChanges: "changes", stmtTrimChanges: "trim of changes", stmtSetTrimmed: "trim of changes",
	stmtWALState: "state of the log", stmtWALPassive: "checkpoint", stmtWALRestart: "checkpoint",
	stmtWALTruncate: "checkpoint",
}
