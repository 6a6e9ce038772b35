package hooks

import (
	"slices"
	"time"
)

// historyLen is how many events a host remembers.
const historyLen = 64

// What happened to the set of hooks.
const (
	EventLoad     = "load"     // a new set went live
	EventRefused  = "refused"  // a set would not load; the old one stayed
	EventRollback = "rollback" // the former set went live
	EventTrial    = "trial"    // a set began to run beside the live one
	EventPromote  = "promote"  // the set on trial went live
	EventAbort    = "abort"    // a trial ended, and its set was closed
)

// Event is one change of the set of hooks, or an attempt at one.
type Event struct {
	At         time.Time     `json:"at"`
	What       string        `json:"what"`
	Generation uint64        `json:"generation,omitempty"` // it was about; 0 if there was none
	Modules    []EventModule `json:"modules,omitempty"`
	Error      string        `json:"error,omitempty"`
}

// EventModule says which module a hook was.
type EventModule struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"`
}

// note remembers an event.
func (h *Host) note(what string, g *generation, err error) {
	e := Event{At: h.o.Now(), What: what}
	if g != nil {
		e.Generation = g.number
		for _, m := range g.modules {
			e.Modules = append(e.Modules, EventModule{m.report.Name, m.report.SHA256})
		}
	}
	if err != nil {
		e.Error = err.Error()
	}
	h.historyMu.Lock()
	defer h.historyMu.Unlock()
	if len(h.past) == historyLen {
		h.past = slices.Delete(h.past, 0, 1)
	}
	h.past = append(h.past, e)
}

// History returns the last changes of the set of hooks, the newest last, at most
// 64.
func (h *Host) History() []Event {
	h.historyMu.Lock()
	defer h.historyMu.Unlock()
	return slices.Clone(h.past)
}
