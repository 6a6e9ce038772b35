package node

import (
	"log/slog"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"sync"
	"time"

	"github.com/edgenode/edgenode/node/config"
)

// A memoryLimit tells the collector how much the heap may hold: the process
// itself, what is under way, and the tables of the memory tier. The records of
// that tier lie outside of the heap, and the collector does not know of them. So
// the limit follows the tables, and everything together stays within the budget.
// Without it the heap would grow to twice the tables before a collection.
//
// A small heap would be collected all the time. So a collection begins at
// heapFloor at the least. What a burst has left behind up to there nobody needs
// once the node is quiet, and the runtime would keep it: it goes back to the system.
//
// GOMEMLIMIT and GOGC in the environment are the operator's own word and stand.
// Its methods may be called by any goroutine.
type memoryLimit struct {
	log                  *slog.Logger
	limitFixed, gcFixed  bool
	setLimit, setPercent func(int64) // of the runtime
	readHeap             func() heapState
	giveBack             func() // what the heap does not need, to the system

	mu             sync.Mutex
	rest           int64 // all but the tables of the memory tier
	limit, percent int64 // as set
	allocated      int64 // as of the last look
	quiet          int   // looks in a row with little allocated in between
}

// A heapState says how the heap is used, in bytes.
type heapState struct {
	live      int64 // what the last collection left
	objects   int64 // these and what was allocated since, in use or not
	free      int64 // spans without any, not given back to the system
	allocated int64 // since the start
}

const (
	heapFloor       = 48 << 20
	memoryLimitStep = 4 << 20 // changes below it are not worth the stop of the world
	memoryLimitPoll = time.Second

	// Below quietBytes between two looks, quietLooks times in a row, the node is
	// quiet: a collection and a release of what is worth it, idleBytes, then cost no
	// request anything. Hits allocate nothing, so that what goes stays away.
	quietBytes = 1 << 20
	quietLooks = 3
	idleBytes  = 6 << 20
)

func newMemoryLimit(environ []string, log *slog.Logger) *memoryLimit {
	m := &memoryLimit{
		log: log, percent: 100, readHeap: readHeap, giveBack: debug.FreeOSMemory,
		setLimit:   func(n int64) { debug.SetMemoryLimit(n) },
		setPercent: func(n int64) { debug.SetGCPercent(int(n)) },
	}
	for _, v := range environ {
		m.limitFixed = m.limitFixed || strings.HasPrefix(v, "GOMEMLIMIT=")
		m.gcFixed = m.gcFixed || strings.HasPrefix(v, "GOGC=")
	}
	return m
}

// apply takes over the sizes of cfg. Until follow is called the first time, all
// of the memory tier counts: while it starts the node may need it for what the
// journal holds.
func (m *memoryLimit) apply(cfg *config.Config) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.rest
	m.rest = int64(config.ProcessBytes + cfg.InflightMaxBytes)
	if cfg.RedisURL != "" {
		m.rest += int64(config.RedisQueueBytes)
	}
	if before == 0 {
		m.setLocked(m.rest + int64(cfg.L1MaxBytes))
		return
	}
	m.setLocked(m.limit - before + m.rest)
}

// follow is told what of the memory tier is on the heap, in bytes, once in each
// memoryLimitPoll.
func (m *memoryLimit) follow(tables int64) {
	heap := m.readHeap()
	if m.adjust(tables, heap) {
		m.giveBack()
	}
}

// adjust sets limits, and reports whether the heap is to give back what it holds.
func (m *memoryLimit) adjust(tables int64, heap heapState) (idle bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if want := m.rest + tables; want < m.limit-memoryLimitStep || want > m.limit+memoryLimitStep {
		m.setLocked(want)
	}
	if m.gcFixed {
		return false
	}
	percent := max(100, heapFloor*100/max(1, heap.live)-100)
	if percent*4 < m.percent*3 || percent*3 > m.percent*4 || percent == 100 && m.percent != 100 {
		m.percent = percent
		m.setPercent(percent)
	}
	if m.quiet++; heap.allocated-m.allocated > quietBytes {
		m.quiet = 0
	}
	m.allocated = heap.allocated
	if m.quiet < quietLooks || heap.free+heap.objects-heap.live < idleBytes {
		return false
	}
	m.quiet = 0
	return true
}

func (m *memoryLimit) setLocked(n int64) {
	m.limit = n
	if m.limitFixed {
		return
	}
	m.setLimit(n)
	m.log.Debug("memory limit set", "bytes", n)
}

func readHeap() heapState {
	s := []metrics.Sample{
		{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/free:bytes"}, {Name: "/gc/heap/allocs:bytes"},
	}
	metrics.Read(s)
	var n [4]int64
	for i := range s {
		if s[i].Value.Kind() == metrics.KindUint64 {
			n[i] = int64(s[i].Value.Uint64())
		}
	}
	return heapState{live: n[0], objects: n[1], free: n[2], allocated: n[3]}
}
