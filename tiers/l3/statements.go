package l3

import "fmt"

// The statements of the store. Those ending in In exist in several widths.
const (
	stmtBegin statement = iota
	stmtBeginRead
	stmtCommit
	stmtRollback
	stmtPing

	stmtGet
	stmtPutOver
	stmtPutHead
	stmtDeleteRow
	stmtTombstone
	stmtDropTombstone
	stmtUntag
	stmtRuleChange
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

	stmtReadBackRange

	// Those of several widths come last, each followed by its others.
	firstWide      = stmtReadBackRange + 1
	stmtRowsIn     = firstWide + 0*wide // rows to decide on: key, id, head
	stmtDeadIn     = firstWide + 1*wide
	stmtReadBackIn = firstWide + 2*wide // by id
	stmtReadDeadIn = firstWide + 3*wide
	stmtGetManyIn  = firstWide + 4*wide
	stmtPutIn      = firstWide + 5*wide
	stmtTagIn      = firstWide + 6*wide
	stmtChangeIn   = firstWide + 7*wide
	statementCount = int(firstWide + 8*wide)

	wide      = statement(len(widths))
	maxWidth  = 500 // of lists to look up
	maxInsert = 100 // of rows to insert
)

// widths are the numbers of keys or rows of the statements that have several.
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

// insertFor returns the widest insertion of at most n rows, n ≥ 1.
func insertFor(first statement, n int) (statement, int) {
	best := 0
	for i, w := range widths {
		if w <= n && w <= maxInsert {
			best = i
		}
	}
	return first + statement(best), widths[best]
}

// String returns the name in errors.
func (st statement) String() string {
	if st >= firstWide {
		i := int(st-firstWide) / len(widths)
		return [...]string{"rows", "tombstones", "read back", "read back of tombstones", "get many", "insert", "tag", "change"}[i]
	}
	return statementNames[st]
}

var statementNames = [...]string{
	stmtBegin: "begin", stmtBeginRead: "begin", stmtCommit: "commit", stmtRollback: "rollback", stmtPing: "ping",
	stmtGet: "get", stmtPutOver: "update", stmtPutHead: "update of metadata",
	stmtDeleteRow: "delete", stmtTombstone: "tombstone", stmtDropTombstone: "removal of a tombstone",
	stmtUntag: "untag", stmtRuleChange: "change", stmtReadBackRange: "read back", stmtMeta: "counters", stmtSetMeta: "update of counters",
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
