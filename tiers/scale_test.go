package tiers_test

// scale returns how much a test does: full in long runs, else least, which is
// the smallest that still fails on the scenario's defect.
func scale(full, least int) int {
	if soak {
		return full
	}
	return least
}
