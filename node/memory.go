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
// heapFloor at the least.
//
// GOMEMLIMIT and GOGC in the environment are the operator's own word and stand.
// Its methods may be called by any goroutine.
type memoryLimit struct {
	log                  *slog.Logger
	limitFixed, gcFixed  bool
	setLimit, setPercent func(int64) // of the runtime
	liveHeap             func() int64

	mu             sync.Mutex
	rest           int64 // all but the tables of the memory tier
	limit, percent int64 // as set
}

const (
	heapFloor       = 48 << 20
	memoryLimitStep = 4 << 20 // changes below it are not worth the stop of the world
	memoryLimitPoll = time.Second
)

func newMemoryLimit(environ []string, log *slog.Logger) *memoryLimit {
	m := &memoryLimit{
		log: log, percent: 100, liveHeap: liveHeap,
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

// follow is told what of the memory tier is on the heap, in bytes.
func (m *memoryLimit) follow(tables int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if want := m.rest + tables; want < m.limit-memoryLimitStep || want > m.limit+memoryLimitStep {
		m.setLocked(want)
	}
	if m.gcFixed {
		return
	}
	percent := max(100, heapFloor*100/max(1, m.liveHeap())-100)
	if percent*4 < m.percent*3 || percent*3 > m.percent*4 || percent == 100 && m.percent != 100 {
		m.percent = percent
		m.setPercent(percent)
	}
}

func (m *memoryLimit) setLocked(n int64) {
	m.limit = n
	if m.limitFixed {
		return
	}
	m.setLimit(n)
	m.log.Debug("memory limit set", "bytes", n)
}

// liveHeap returns what the last collection left on the heap.
func liveHeap() int64 {
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(s)
	if s[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return int64(s[0].Value.Uint64())
}
