package crash_test

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/edgenode/edgenode/tiers/tiertest/mariadbtest"
)

// TestC14_KillNineAndTheTree kills the node again and again while writers write and
// the tree of hashes follows them; after each start the tree is that of the rows,
// and at the end its root is that of one built anew.
func TestC14_KillNineAndTheTree(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) { killNineAndTheTree(t, treeCycles) })
	t.Run("mariadb", func(t *testing.T) {
		sql := mariadbtest.Shared(t)
		killNineAndTheTree(t, (treeCycles+1)/2, onServer(t, sql.Addr(), sql.Database(t))...)
	})
}

func killNineAndTheTree(t *testing.T, cycles int, settings ...string) {
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("EDGENODE_SEED"), 10, 64); err == nil {
		seed = s
	}
	rng := rand.New(rand.NewPCG(seed, 14))
	dir, l := t.TempDir(), newLedger()
	settings = append(settings, "EDGENODE_BATCH_FLUSH_MS=1", "EDGENODE_FOLLOW_INTERVAL=10ms", "EDGENODE_MERKLE_CALC_JITTER=1ms")
	for cycle := range cycles {
		p := start(t, dir, settings...)
		if err := l.check(p); err != nil {
			t.Fatalf("cycle %d, seed %d: after a restart: %v\n%s", cycle, seed, err, p.log())
		}
		if _, err := killUnderLoad(p, l, rng, 1+rng.IntN(900)); err != nil {
			t.Fatalf("cycle %d, seed %d: %v\n%s", cycle, seed, err, p.log())
		}
		if cycle%4 == 3 {
			p = start(t, dir, settings...)
			p.wantTree(seed)
			p.kill()
		}
	}
	p := start(t, dir, settings...)
	p.wantTree(seed)
	before := p.root()
	p.must("POST", "/v1/merkle/rebuild", "", ok)
	p.wantTree(seed)
	if after := p.root(); after != before || before == "" {
		t.Errorf("seed %d: root %q, rebuilt %q", seed, before, after)
	}
}

// root returns the root of the tree, empty if there is none or it is not known.
func (p *process) root() string {
	p.tb.Helper()
	var answer struct {
		L3 struct{ Hash string }
	}
	if err := json.Unmarshal([]byte(p.must("GET", "/v1/merkle/root", "", ok).body), &answer); err != nil {
		p.tb.Fatal(err)
	}
	return answer.L3.Hash
}

// wantTree waits until the tree has all changes, and fails unless it is then that
// of the rows.
func (p *process) wantTree(seed uint64) {
	p.tb.Helper()
	late := time.Now().Add(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		h := p.health()
		if h.Merkle.State == "following" && h.Merkle.Lag == 0 && h.Journal.Pending == 0 {
			// What health says is as of the node's last look: another node may have it built anew.
			lines := strings.Split(strings.TrimSpace(p.must("POST", "/v1/merkle/audit", "", []int{200, 503}).body), "\n")
			var end struct{ End, Good, Counted bool }
			if err := json.Unmarshal([]byte(lines[len(lines)-1]), &end); err != nil {
				p.tb.Fatal(err)
			}
			if end.End && !end.Good {
				p.tb.Fatalf("seed %d: the tree is not that of the rows:\n%s", seed, strings.Join(lines[max(0, len(lines)-20):], "\n"))
			}
			if end.End && end.Counted {
				return
			}
		}
		if time.Now().After(late) {
			p.tb.Fatalf("seed %d: the tree does not follow: %+v\n%s", seed, h, p.log())
		}
		<-tick.C
	}
}
