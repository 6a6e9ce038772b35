package api

import (
	"context"
	"errors"
	"time"

	"github.com/edgenode/edgenode/node/problem"
	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

// A fault is what an error of the engine means to the sender of a request.
type fault struct {
	err    error
	kind   problem.Kind
	retry  time.Duration // when to try again; 0 does not say
	detail bool          // the error's text is about the request and may be shown
}

// faults is the one place where errors become problems, in the order asked.
func faults() []fault {
	return []fault{
		// First, whatever the reason: the others say that nothing was written.
		{tiers.ErrUnknownFate, problem.UnknownFate, 0, false},
		{tiers.ErrRefused, problem.Refused, 0, false},
		{tiers.ErrClosed, problem.ShuttingDown, time.Second, false},
		{tiers.ErrShuttingDown, problem.ShuttingDown, time.Second, false},
		{tiers.ErrStateUnknown, problem.StateUnknown, time.Second, false},
		{tiers.ErrUnavailable, problem.Unavailable, time.Second, false},
		{tiers.ErrNoTree, problem.NotConfigured, 0, false},
		{tiers.ErrTreeUnknown, problem.MerkleUnknown, time.Second, false},
		{tiers.ErrTreeCorrupt, problem.MerkleDamaged, 0, false},
		{tiers.ErrCorrupt, problem.Corrupt, 0, false},
		{tiers.ErrBusy, problem.Busy, time.Second, false},
		{tiers.ErrNodeLive, problem.NodeLive, 0, false},
		{tiers.ErrChangesGone, problem.ChangesGone, 0, false},
		{tiers.ErrBadCursor, problem.BadCursor, 0, false},
		{tiers.ErrTooOld, problem.VersionNotHere, time.Second, false},
		{tiers.ErrTooLarge, problem.ContentTooLarge, 0, true},
		{tiers.ErrNoItem, problem.NotFound, 0, false},
		{tiers.ErrPrecondition, problem.PreconditionFailed, 0, false},
		{tiers.ErrPressure, problem.Pressure, time.Second, false},
		{tiers.ErrFull, problem.Full, 0, false},
		{tiers.ErrReadOnly, problem.ReadOnly, 0, false},
		{tiers.ErrPurged, problem.Superseded, 0, false},
		{tiers.ErrSuperseded, problem.Superseded, 0, false},
		{item.ErrBadID, problem.BadID, 0, true},
		{item.ErrBadKey, problem.BadID, 0, true},
		{item.ErrBadState, problem.BadState, 0, true},
		{item.ErrBadTag, problem.BadTag, 0, true},
		{item.ErrTooLarge, problem.ContentTooLarge, 0, true},
		{item.ErrClockSkew, problem.BadVersion, 0, true},
		{tiers.ErrInvalid, problem.InvalidWrite, 0, true},
		{context.DeadlineExceeded, problem.Busy, time.Second, false},
		{context.Canceled, problem.ShuttingDown, time.Second, false},
	}
}

// problemOf returns what err means to the sender. An error that is not in the
// table is a fault of ours; unknown reports that.
func problemOf(err error) (p *problem.Problem, unknown bool) {
	var refusal *tiers.Refusal
	if errors.As(err, &refusal) {
		p := &problem.Problem{Kind: problem.Pressure, Detail: "the pressure level is " + refusal.Level, RetryAfter: refusal.RetryAfter}
		if refusal.Throttled {
			p.Kind = problem.Throttled
		}
		if p.RetryAfter <= 0 {
			p.RetryAfter = time.Second
		}
		return p, false
	}
	for _, f := range faults() {
		if errors.Is(err, f.err) {
			p := &problem.Problem{Kind: f.kind, RetryAfter: f.retry}
			if f.detail {
				p.Detail = err.Error()
			}
			return p, false
		}
	}
	return &problem.Problem{Kind: problem.Internal}, true
}

// fault is problemOf, which logs what is not in the table.
func (c *call) fault(err error) *problem.Problem {
	p, unknown := problemOf(err)
	if unknown {
		c.api.log.Error("request failed by an unexpected error", "route", c.route.String(), "error", err)
	}
	return p
}

// idProblem turns an error of item.CheckID into a problem, nil into nil.
func idProblem(err error) *problem.Problem {
	if err == nil {
		return nil
	}
	return problem.New(problem.BadID, err.Error())
}
