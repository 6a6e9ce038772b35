package mariadbtest

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

// Backup copies the tables of a database, beside them. The function that it returns
// makes them what they were, in one transaction, whoever uses them: as a server does
// that has lost commits, or was restored. It may be called more than once.
func (s *Server) Backup(t testing.TB, database string) (restore func()) {
	t.Helper()
	conn, err := s.Connect()
	if err != nil {
		t.Fatalf("mariadbtest: %v", err)
	}
	defer conn.Close()
	restoring := []string{"USE " + database, "START TRANSACTION"}
	for _, table := range column(t, conn, "SELECT table_name FROM information_schema.tables WHERE table_type = 'BASE TABLE' AND table_schema = '"+database+"'") {
		list := strings.Join(column(t, conn, fmt.Sprintf("SELECT column_name FROM information_schema.columns WHERE table_schema = '%s' AND table_name = '%s' AND is_generated = 'NEVER'", database, table)), "`,`")
		s.Do(t, "USE "+database, "DROP TABLE IF EXISTS backup_"+table, fmt.Sprintf("CREATE TABLE backup_%s AS SELECT `%s` FROM %s", table, list, table))
		restoring = append(restoring, "DELETE FROM "+table, fmt.Sprintf("INSERT INTO %s (`%s`) SELECT `%s` FROM backup_%s", table, list, list, table))
	}
	return func() {
		t.Helper()
		s.Do(t, append(restoring, "COMMIT")...)
	}
}

// column returns the first column of what a query returns, as text.
func column(t testing.TB, conn driver.Conn, query string) (list []string) {
	t.Helper()
	rows, err := conn.(driver.QueryerContext).QueryContext(context.Background(), query, nil)
	if err != nil {
		t.Fatalf("mariadbtest: %s: %v", query, err)
	}
	defer rows.Close()
	row := make([]driver.Value, len(rows.Columns()))
	for {
		switch err := rows.Next(row); {
		case errors.Is(err, io.EOF):
			return list
		case err != nil:
			t.Fatalf("mariadbtest: %s: %v", query, err)
		}
		text, _ := row[0].([]byte)
		list = append(list, string(text))
	}
}
