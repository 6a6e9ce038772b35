package tiers

// DistrustL2 makes it catch up anew.
func (e *Engine) DistrustL2() { e.distrust("a test", nil) }

// ProbeL2 asks L2 once, as its keeper does.
func (e *Engine) ProbeL2() { _, _ = e.probeL2() }

// OwedKeyBytes counts the bytes of the keys that wait for L2.
func (e *Engine) OwedKeyBytes() (n int) {
	q := &e.l2.copies
	q.mu.Lock()
	defer q.mu.Unlock()
	for k := range q.waiting {
		n += len(k)
	}
	return n
}

// OwedBytes counts the bytes of the records that wait for L2.
func (e *Engine) OwedBytes() int64 {
	e.l2.copies.mu.Lock()
	defer e.l2.copies.mu.Unlock()
	return e.l2.copies.bytes
}

// L2Walked returns the last change that was applied to L2.
func (e *Engine) L2Walked() uint64 { return e.l2.walked.Load() }
