package crash_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/edgenode/edgenode/tiers/tiertest/redistest"
)

// TestD14_NoCopyWithoutAnEnd kills the node again and again while it writes to
// Redis: no key is there without the time at which it leaves.
func TestD14_NoCopyWithoutAnEnd(t *testing.T) {
	rng := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 14))
	dir, l, redis := t.TempDir(), newLedger(), redistest.Start(t, redistest.Options{})
	copies := 0
	for cycle := range max(killCycles/8, 3) {
		p := start(t, dir, "EDGENODE_REDIS_URL="+redis.URL(), "EDGENODE_REDIS_PREFIX=t:", "EDGENODE_BATCH_FLUSH_MS=1")
		if err := l.check(p); err != nil { // whose fate was open
			t.Fatalf("cycle %d: after a restart: %v\n%s", cycle, err, p.log())
		}
		p.awaitHealth(trusted)
		if _, err := killUnderLoad(p, l, rng, 100+rng.IntN(400)); err != nil {
			t.Fatalf("cycle %d: %v\n%s", cycle, err, p.log())
		}
		for _, key := range redis.Do("KEYS", "t:*").([]any) {
			copies++
			if ttl := redis.Do("PTTL", fmt.Sprint(key)).(int64); ttl == -1 && !infrastructure(fmt.Sprint(key)) {
				t.Errorf("cycle %d: %q has no end", cycle, key)
			}
		}
	}
	if copies == 0 {
		t.Error("nothing was in Redis: the test shows nothing")
	}
	t.Logf("%d copies", copies)
}

// infrastructure says that a key holds no item.
func infrastructure(key string) bool { return strings.HasPrefix(key, "t:mark") }
