package mariadbtest_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/edgenode/edgenode/tiers/tiertest/mariadbtest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(mariadbtest.Main(m)) }

// A server keeps what was committed when it is killed, answers nothing while it
// is stopped, and takes settings.
func TestServer(t *testing.T) {
	s := mariadbtest.Start(t, mariadbtest.Options{Args: []string{"--max-allowed-packet=2M"}})
	db := s.Database(t)
	s.Do(t, "CREATE TABLE "+db+".t (a INT) ENGINE=InnoDB", "INSERT INTO "+db+".t VALUES (1), (2)")
	pid := s.Pid()
	s.Restart(t)
	if s.Pid() == pid {
		t.Error("the same process after a restart")
	}
	if got := count(t, s, "SELECT count(*) FROM "+db+".t"); got != 2 {
		t.Errorf("%d rows after a kill, want 2", got)
	}
	if got := count(t, s, "SELECT @@max_allowed_packet"); got != 2<<20 {
		t.Errorf("max_allowed_packet is %d", got)
	}
	s.Stop(t)
	done := make(chan error, 1)
	go func() { done <- s.Try("SELECT 1") }()
	select {
	case err := <-done:
		t.Errorf("a stopped server answers, %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	s.Cont(t)
	if err := <-done; err != nil {
		t.Error(err)
	}
	s.Restart(t, "--max-allowed-packet=4M")
	if got := count(t, s, "SELECT @@max_allowed_packet"); got != 4<<20 {
		t.Errorf("max_allowed_packet is %d", got)
	}
}

// Tests share a server and have databases of their own.
func TestShared(t *testing.T) {
	s := mariadbtest.Shared(t)
	if mariadbtest.Shared(t) != s {
		t.Error("two shared servers")
	}
	var name string
	t.Run("first", func(t *testing.T) {
		name = s.Database(t)
		if other := s.Database(t); other == name {
			t.Errorf("two databases %s", name)
		}
	})
	if err := s.Try("USE " + name); err == nil {
		t.Error("the database outlives its test")
	}
}

func count(t *testing.T, s *mariadbtest.Server, query string) int64 {
	t.Helper()
	conn, err := s.Connect()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	rows, err := conn.(driver.QueryerContext).QueryContext(context.Background(), query, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	row := make([]driver.Value, 1)
	if err := rows.Next(row); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if n, unsigned := row[0].(uint64); unsigned {
		return int64(n)
	}
	n, _ := row[0].(int64)
	return n
}
