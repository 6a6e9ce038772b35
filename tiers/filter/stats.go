package filter

// Stats are figures of a moment.
type Stats struct {
	Items          uint64  // entries: keys, and removed ones that are still there
	Removed        uint64  // about how many of them are of removed keys
	Bytes          int64   // memory of tables, that of a warm-up under way included
	Load           float64 // slots in use, 0 to 1
	FalsePositives float64 // chance that an absent key "might exist", removed ones apart
	Applied        uint64  // number of the last change
	SavedSeq       uint64  // that of the last snapshot, 0 if there is none
	Trusted        bool
	Reason         string // why it is not trusted
	Complete       bool   // all keys live at Applied are in it
	Warming        bool
	Warmed         uint64 // keys that the warm-up under way, or the last one, has taken
	// WarmWanted says why Warm should be called: "incomplete", "removed" (a
	// quarter of the entries is of removed keys) or "coarse" (more false positives
	// than half of what is promised); or is empty.
	WarmWanted string
}

// Bounds for WarmWanted.
const (
	removedAtLeast = 1024
	coarse         = 0.0005
)

// Stats returns the figures of this moment.
func (f *Filter) Stats() Stats {
	f.mu.Lock()
	defer f.mu.Unlock()
	v := f.now.Load()
	s := Stats{
		Items: v.table.items.Load(), Removed: f.removed, Bytes: v.table.bytes(), Load: v.table.load(),
		FalsePositives: v.table.falsePositives(), Applied: f.applied.Load(), SavedSeq: f.savedSeq,
		Trusted: v.trusted && !f.lags(), Reason: f.reason, Complete: f.complete, Warmed: f.warmed.Load(),
	}
	if f.next != nil {
		s.Warming = true
		s.Bytes += f.next.bytes()
	}
	if v.trusted && !s.Trusted {
		s.Reason = "the end of the changes was not seen within the bound"
	}
	switch {
	case !s.Complete:
		s.WarmWanted = "incomplete"
	case s.FalsePositives > coarse:
		s.WarmWanted = "coarse"
	case s.Removed >= removedAtLeast && s.Removed > s.Items/4:
		s.WarmWanted = "removed"
	}
	return s
}
