package filter_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/edgenode/edgenode/tiers/filter"
	"github.com/edgenode/edgenode/tiers/item"
)

// A model is the filter beside a map that tells the truth.
type model struct {
	t      *testing.T
	random *rand.Rand
	source *source
	f      *filter.Filter
	live   map[int]bool
	space  int // keys are key(0) to key(space-1)
	saved  []byte

	asked, absent, wrong int
}

// Random puts, removals, questions, follow-ups, rebuilds, snapshots, restarts and
// losses of trust: a key that the filter has applied is never denied.
func TestModel(t *testing.T) {
	operations := 1_000_000
	if raceEnabled {
		operations = 100_000
	}
	if soak {
		operations = 10_000_000
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	m := &model{
		t: t, random: rand.New(rand.NewPCG(seed, 1)), source: newSource(),
		live: map[int]bool{}, space: max(1000, operations/20),
	}
	m.f = open(t, func(o *filter.Options) { o.MinItems = 500 })
	warm(t, m.f, m.source)
	for range operations {
		m.step()
	}
	catchUp(t, m.f, m.source)
	noLies(t, m.f, m.source)
	t.Logf("%d questions, %d absent, %d false positives; %+v", m.asked, m.absent, m.wrong, m.f.Stats())
}

func (m *model) step() {
	n := m.random.IntN(m.space)
	switch r := m.random.IntN(100_000); {
	case r < 30_000:
		m.source.put(m.random.IntN(2), key(n))
		m.live[n] = true
	case r < 40_000:
		m.source.remove(key(n))
		delete(m.live, n)
	case r < 90_000:
		m.ask(n)
	case r < 99_990:
		if r%8 == 0 {
			catchUp(m.t, m.f, m.source)
		}
	default:
		m.rare(r % 5)
	}
}

// ask asks about a key after following.
func (m *model) ask(n int) {
	if m.f.Applied() != uint64(len(m.source.log)) {
		catchUp(m.t, m.f, m.source)
	}
	missing := m.f.DefinitelyMissing(key(n))
	m.asked++
	if m.live[n] && missing {
		m.t.Fatalf("key %d is denied, %+v", n, m.f.Stats())
	}
	if !m.live[n] {
		m.absent++
		if !missing {
			m.wrong++
		}
	}
}

func (m *model) rare(what int) {
	switch what {
	case 0:
		warm(m.t, m.f, m.source)
	case 1:
		m.f.Distrust("model")
	case 2:
		var b bytes.Buffer
		if err := m.f.WriteSnapshot(&b); err == nil {
			m.saved = b.Bytes()
		}
	case 3:
		if m.saved != nil {
			m.f = open(m.t, func(o *filter.Options) { o.MinItems = 500 })
			if err := m.f.ReadSnapshot(bytes.NewReader(m.saved)); err != nil {
				m.t.Fatal(err)
			}
		}
	case 4:
		if r, err := m.f.Verify(context.Background(), m.source); r.Missing > 0 {
			m.t.Fatalf("Verify: %+v, %v", r, err)
		}
	}
}

// The promises of size and precision, at every fill on the way up.
func TestBytesAndFalsePositives(t *testing.T) {
	limit := 1_000_000
	if raceEnabled {
		limit = 50_000
	}
	if soak {
		limit = 10_000_000
	}
	f, s := open(t, func(o *filter.Options) { o.MinItems = 20_000 }), newSource()
	warm(t, f, s)
	worst, wanted, next := 0.0, 0, 20_000
	var k item.Key
	for i := range limit {
		k = fmt.Appendf(k[:0], "ishop/item:%d", i)
		if err := f.Seen(k); err != nil {
			t.Fatal(err)
		}
		if i != next {
			continue
		}
		next = next * 21 / 20
		st := f.Stats()
		each := float64(st.Bytes) / float64(st.Items)
		worst = max(worst, each)
		if each > 3 {
			t.Errorf("%d ids: %.3f bytes per id, promised are 3", i, each)
		}
		if st.FalsePositives > 0.001 {
			t.Errorf("%d ids: %.5f false positives, promised are 0.001: %q should have led to a rebuild", i, st.FalsePositives, st.WarmWanted)
		}
		if st.WarmWanted != "" && wanted == 0 {
			wanted = i
		}
	}
	const questions = 200_000
	found := 0
	for i := range questions {
		if f.MightExist(fmt.Appendf(nil, "iother:%d", i)) {
			found++
		}
	}
	st := f.Stats()
	t.Logf("%d ids: %.3f bytes per id, at worst %.3f; false positives %.6f, estimated %.6f; %q, rebuild wanted from %d on",
		limit, float64(st.Bytes)/float64(st.Items), worst, float64(found)/questions, st.FalsePositives, st.WarmWanted, wanted)
	if got := float64(found) / questions; got > 0.001 {
		t.Errorf("false positives %.5f, promised are 0.001", got)
	}
}
