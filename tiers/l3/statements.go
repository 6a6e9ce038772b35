package l3

import "fmt"

// The statements of the store. Those ending in In exist in several widths.
const (
	stmtBegin statement = iota
	stmtBeginRead
	stmtCommit
	stmtRollback

	stmtGetRow // servers only: the live row
	stmtGet    // the row or the tombstone, one snapshot
	stmtRuleChange
	stmtMeta
	stmtLockMeta // the same, and until the commit nobody else writes it
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

	stmtNode
	stmtNodeNew
	stmtNodeSet
	stmtNodes
	stmtNodeRemove
	stmtLease
	stmtLeaseNew
	stmtLeaseSet
	stmtLeaseDrop

	stmtMappings
	stmtMapVersion
	stmtMapSet // a new mapping or a new state of one
	stmtMapLock
	stmtMapPosition
	stmtMapMinBinary
	stmtMovePage
	stmtMoveRows

	stmtMerkleState // locks it
	stmtMerkleClear

	stmtReadBackRange // SQLite only, as is the state of its log
	stmtWALState
	stmtWALPassive
	stmtWALRestart
	stmtWALTruncate

	stmtServerTime // servers only
	stmtSnapshotLevel
	stmtSnapshot

	// Those of several widths come last, each followed by its others.
	firstWide      = stmtSnapshot + 1
	stmtRowsIn     = firstWide + 0*wide // rows to decide on: key, id, head
	stmtDeadIn     = firstWide + 1*wide
	stmtReadBackIn = firstWide + 2*wide // by id; on a server by key
	stmtReadDeadIn = firstWide + 3*wide
	stmtGetManyIn  = firstWide + 4*wide
	stmtDropIn     = firstWide + 5*wide // rows by id
	stmtUnburyIn   = firstWide + 6*wide // tombstones by key
	stmtPutIn      = firstWide + 7*wide // rows that were not there
	stmtPutOverIn  = firstWide + 8*wide
	stmtPutHeadIn  = firstWide + 9*wide  // the content stays
	stmtBuryIn     = firstWide + 10*wide // tombstones where none was
	stmtBuryOverIn = firstWide + 11*wide
	stmtTagIn      = firstWide + 12*wide
	stmtUntagIn    = firstWide + 13*wide
	stmtChangeIn   = firstWide + 14*wide
	stmtHeadsIn    = firstWide + 15*wide
	// rows of the tree: read, written whether or not they are there, deleted
	stmtMerkleIn     = firstWide + 16*wide
	stmtMerklePutIn  = firstWide + 17*wide
	stmtMerkleDropIn = firstWide + 18*wide
	statementCount   = int(firstWide + 19*wide)

	wide     = statement(len(widths))
	maxWidth = 500 // of lists to look up
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

// writeFor returns the widest statement for at most n rows, n ≥ 1, none above
// limit.
func writeFor(first statement, n, limit int) (statement, int) {
	best := 0
	for i, w := range widths {
		if w <= n && w <= limit {
			best = i
		}
	}
	return first + statement(best), widths[best]
}

// String returns the name in errors.
func (st statement) String() string {
	if st >= firstWide {
		return wideNames[int(st-firstWide)/len(widths)]
	}
	return statementNames[st]
}

var wideNames = [...]string{
	"rows", "tombstones", "read back", "read back of tombstones", "get many", "delete", "removal of tombstones", "insert",
	"update", "update of metadata", "tombstone", "update of tombstones", "tag", "untag", "change",
	"heads", "rows of the tree", "write of the tree", "removal of rows of the tree",
}

var statementNames = [...]string{
	stmtBegin: "begin", stmtBeginRead: "begin", stmtCommit: "commit", stmtRollback: "rollback", stmtGetRow: "get", stmtGet: "get",
	stmtRuleChange: "change", stmtMeta: "counters", stmtLockMeta: "lock of counters", stmtSetMeta: "update of counters",
	stmtAddRule: "rule", stmtRules: "rules", stmtRulePosition: "rule position", stmtMoveRule: "rule progress",
	stmtDropRules: "removal of rules", stmtSweepKeys: "sweep by key", stmtSweepTags: "sweep by tag",
	stmtExpired: "expired rows", stmtPurgeTombstones: "purge of tombstones", stmtTombstoneList: "list of tombstones",
	stmtScanKey: "scan", stmtScanKeyContent: "scan", stmtScanState: "scan by state",
	stmtScanStateContent: "scan by state", stmtScanTag: "scan by tag", stmtScanTagContent: "scan by tag",
	stmtCountKey: "count", stmtCountState: "count by state", stmtCountTag: "count by tag",
	stmtChanges: "changes", stmtTrimChanges: "trim of changes", stmtSetTrimmed: "trim of changes",
	stmtNode: "node", stmtNodeNew: "registration", stmtNodeSet: "registration", stmtNodes: "nodes", stmtNodeRemove: "removal of a node",
	stmtLease: "lease", stmtLeaseNew: "lease", stmtLeaseSet: "lease", stmtLeaseDrop: "release of a lease",
	stmtReadBackRange: "read back", stmtWALState: "state of the log", stmtWALPassive: "checkpoint",
	stmtWALRestart: "checkpoint", stmtWALTruncate: "checkpoint", stmtServerTime: "time of the server",
	stmtMappings: "mappings", stmtMapVersion: "version of the mappings", stmtMapSet: "mapping", stmtMapLock: "mapping",
	stmtMapPosition: "progress of a mapping", stmtMapMinBinary: "least binary", stmtMovePage: "rows to move", stmtMoveRows: "rows to move",
	stmtMerkleState: "state of the tree", stmtMerkleClear: "removal of the tree",
	stmtSnapshotLevel: "snapshot", stmtSnapshot: "snapshot",
}
