package l3

import (
	"context"
	"database/sql/driver"
	"path/filepath"
	"strings"
	"testing"
)

// No statement goes through a whole table, none sorts, and counts read an index
// alone.
func TestQueryPlans(t *testing.T) {
	s, err := Open(context.Background(), Options{Path: filepath.Join(t.TempDir(), "l3.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	whole := map[statement]string{ // one row, or all that there is by design
		stmtMeta: "SCAN meta", stmtLockMeta: "SCAN meta", stmtNodes: "SCAN nodes", stmtRules: "SCAN rules", stmtSetMeta: "SCAN meta", stmtSetTrimmed: "SCAN meta",
		stmtCountTag: "SCAN e", // a bounded part of items_expiry
		stmtMappings: "SCAN mappings", stmtMapMinBinary: "SCAN schema_info",
	}
	covering := map[statement]string{
		stmtCountKey: "items_key", stmtCountState: "items_state", stmtScanTag: "items_key", stmtSweepKeys: "items_key", stmtMovePage: "items_key", stmtScanState: "items_state",
		stmtExpired: "items_expiry", stmtPurgeTombstones: "tombstones_version",
	}
	for st := stmtGet; st < stmtWALState; st++ {
		plan := planOf(t, s.writers.sessions[0].conn, s.dialect.text(st, baseTable))
		for _, line := range plan {
			bad := strings.HasPrefix(line, "SCAN ") && !strings.Contains(line, "CONSTANT") && !strings.HasPrefix(line, "SCAN (subquery") ||
				strings.Contains(line, "TEMP B-TREE")
			if bad && !(whole[st] != "" && strings.HasPrefix(line, whole[st])) {
				t.Errorf("%s (%d): %s", st, st, line)
			}
		}
		if index := covering[st]; index != "" && !strings.Contains(strings.Join(plan, "\n"), "INDEX "+index) {
			t.Errorf("%s (%d) does not use %s: %q", st, st, index, plan)
		}
	}
	for _, st := range []statement{stmtRowsIn, stmtDeadIn, stmtReadBackIn, stmtReadDeadIn, stmtGetManyIn} {
		for _, line := range planOf(t, s.writers.sessions[0].conn, s.dialect.text(st, baseTable)) {
			if strings.HasPrefix(line, "SCAN i") || strings.HasPrefix(line, "SCAN d") || strings.HasPrefix(line, "SCAN tombstones") {
				t.Errorf("%s: %s", st, line)
			}
		}
	}
}

func planOf(t *testing.T, conn driver.Conn, text string) (lines []string) {
	t.Helper()
	args := make([]driver.NamedValue, strings.Count(text, "?"))
	for i := range args {
		args[i].Ordinal = i + 1
	}
	rows, err := conn.(driver.QueryerContext).QueryContext(context.Background(), "EXPLAIN QUERY PLAN "+text, args)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	row := make([]driver.Value, len(rows.Columns()))
	for rows.Next(row) == nil {
		lines = append(lines, row[3].(string))
	}
	if err := rows.Close(); err != nil {
		t.Fatal(err)
	}
	return lines
}
