package tiers

// DistrustL2 makes it catch up anew.
func (e *Engine) DistrustL2() { e.distrust("a test", nil) }
