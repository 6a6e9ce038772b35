// Package pressure decides which writes a node under pressure still takes. It
// is a pure function of the pressure and the operation: one table, no state, no
// goroutine.
//
// Pressure is the greater of (undroppable bytes / memory budget) and (journal
// backlog / quota). A memory full of droppable items is not pressure.
package pressure

import (
	"errors"
	"fmt"
	"time"
)

// A Level is a range of pressure. Higher levels refuse more.
type Level int

// The levels, in ascending order.
const (
	Normal Level = iota
	Warn
	Throttle
	Critical
	Emergency
	Shutdown
)

// String returns the level's name in configuration, metrics and errors.
func (l Level) String() string {
	return [...]string{"normal", "warn", "throttle", "critical", "emergency", "shutdown"}[l]
}

// Thresholds are the pressures at which levels begin, each above the one
// before, in (0, 1].
type Thresholds struct {
	Warn, Throttle, Critical, Emergency, Shutdown float64
}

// Default returns the thresholds of a node that nobody configured.
func Default() Thresholds {
	return Thresholds{Warn: 0.70, Throttle: 0.80, Critical: 0.90, Emergency: 0.95, Shutdown: 0.98}
}

// Validate reports every threshold that is out of range or out of order.
func (t Thresholds) Validate() error {
	var errs []error
	last, lastName := 0.0, "0"
	for i, at := range t.list() {
		name := Level(i + 1).String()
		if at <= last || at > 1 {
			errs = append(errs, fmt.Errorf("pressure: %s = %v must be above %s and at most 1", name, at, lastName))
		}
		last, lastName = at, fmt.Sprintf("%s = %v", name, at)
	}
	return errors.Join(errs...)
}

func (t Thresholds) list() [5]float64 {
	return [5]float64{t.Warn, t.Throttle, t.Critical, t.Emergency, t.Shutdown}
}

// Level returns the level of pressure p.
func (t Thresholds) Level(p float64) Level {
	level := Normal
	for i, at := range t.list() {
		if p >= at {
			level = Level(i + 1)
		}
	}
	return level
}

// An Operation is what a caller wants to do.
type Operation int

// The operations, by what they cost under pressure.
const (
	Read        Operation = iota
	Delete                // deletes and purges: they free room
	Put                   // content of an item, new or not
	Change                // state, tags, expiry of an item that exists
	Conditional           // a conditional write of an item that exists
	Promote               // copying an answer of L3 or of an origin into L1
)

// A Verdict says what happens to an operation.
type Verdict int

// The verdicts.
const (
	Allow   Verdict = iota
	Delay           // refused by probability: 429 with Retry-After
	Refuse          // 503 with Retry-After
	Suspend         // quietly not done: no promotion
)

// RetryAfter is what a refused caller is told to wait.
const RetryAfter = time.Second

// Admit decides on op at pressure p. chance is a random number in [0, 1) that
// decides between Throttle's bounds: puts are refused with a probability that
// grows from 0 to 1 at Critical.
func (t Thresholds) Admit(op Operation, p, chance float64) Verdict {
	level := t.Level(p)
	switch op {
	case Read, Delete:
		return Allow
	case Promote:
		if level >= Emergency {
			return Suspend
		}
		return Allow
	case Change, Conditional:
		if level >= Shutdown {
			return Refuse
		}
		return Allow
	}
	switch {
	case level >= Critical:
		return Refuse
	case level == Throttle && chance < (p-t.Throttle)/(t.Critical-t.Throttle):
		return Delay
	}
	return Allow
}
