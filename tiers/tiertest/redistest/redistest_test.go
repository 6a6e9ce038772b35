package redistest_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/edgenode/edgenode/tiers/tiertest/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestServer(t *testing.T) {
	s := redistest.Start(t, redistest.Options{Password: "pass word"})
	s.Do("SET", "k", "a\x00\r\nb")
	if got := s.Do("GET", "k"); got != "a\x00\r\nb" {
		t.Errorf("GET k = %q", got)
	}
	if _, err := s.Try("GET"); err == nil {
		t.Error("GET without a key did not fail")
	}
	before := s.Info("server", "run_id")
	s.Restart()
	if after := s.Info("server", "run_id"); after == before || after == "" {
		t.Errorf("run id %q before and %q after a restart", before, after)
	}
	if got := s.Do("GET", "k"); got != nil {
		t.Errorf("without persistence GET k = %q after a restart", got)
	}
}

func TestStop(t *testing.T) {
	s := redistest.Start(t, redistest.Options{})
	s.Stop()
	answered := make(chan error)
	go func() {
		_, err := s.Try("SET", "k", "1")
		answered <- err
	}()
	s.Cont()
	if err := <-answered; err != nil {
		t.Errorf("SET across a stop: %v", err)
	}
	s.Stop() // the clean-up must end a stopped server too
}

func TestPersistence(t *testing.T) {
	f := func(p redistest.Persistence, want any) {
		t.Helper()
		s := redistest.Start(t, redistest.Options{Persist: p})
		s.Do("SET", "k", "saved")
		s.Save()
		s.Do("SET", "k", "later")
		s.Restart()
		if got := s.Do("GET", "k"); got != want {
			t.Errorf("persistence %d: GET k = %v after kill and restart, want %v", p, got, want)
		}
		s.Wipe()
		if got := s.Do("DBSIZE"); got != int64(0) {
			t.Errorf("persistence %d: DBSIZE = %v after a wipe", p, got)
		}
	}
	f(redistest.RDB, "saved")
	f(redistest.AOF, "later")
}

func TestSentinel(t *testing.T) {
	s := redistest.StartSentinel(t, redistest.Options{})
	s.Master.Do("SET", "k", "1")
	next := s.Failover()
	if next != s.Replica {
		t.Fatal("the replica is not the new master")
	}
	if got := next.Do("GET", "k"); got != "1" {
		t.Errorf("GET k = %v after the failover", got)
	}
}

func TestCluster(t *testing.T) {
	c := redistest.StartCluster(t, redistest.Options{})
	stored := 0
	for _, s := range c.Nodes {
		if _, err := s.Try("SET", "k", "1"); err == nil {
			stored++
		}
	}
	if stored != 1 {
		t.Errorf("%d of 3 nodes hold the slot of k, want 1", stored)
	}
	c.Nodes[1].Kill()
	c.Nodes[1].Restart()
	c.AwaitReady()
}
