package node

import (
	"errors"

	"github.com/edgenode/edgenode/node/admin"
	"github.com/edgenode/edgenode/node/problem"
	"github.com/edgenode/edgenode/tiers"
)

// A filterPage is what POST /filter/verify answers.
type filterPage struct {
	Checked uint64 `json:"checked"` // rows of SQL
	Missing uint64 `json:"missing"` // of them, those that the filter denied
	OK      bool   `json:"ok"`
}

// verifyFilterPage compares the filter with SQL. It ends with the request.
func (n *Node) verifyFilterPage(x admin.Exchange) {
	r, err := n.engine.VerifyFilter(x.Context())
	n.log.Info("audit: filter verified", "checked", r.Checked, "missing", r.Missing, "err", err)
	var p *problem.Problem
	switch {
	case errors.Is(err, tiers.ErrNoFilter):
		p = problem.New(problem.NotConfigured, "the filter is off; set filter_enabled = true")
	case errors.Is(err, tiers.ErrFilterIncomplete):
		p = problem.New(problem.Unavailable, "the filter is being filled from SQL: there is nothing to compare yet")
	case errors.Is(err, tiers.ErrUnavailable), errors.Is(err, tiers.ErrShuttingDown), errors.Is(err, tiers.ErrClosed):
		p = problem.New(problem.Unavailable, "SQL did not answer; nothing was found out")
	case err != nil && r.Missing == 0:
		p = problem.New(problem.Internal, "the comparison did not come to its end; see the log")
	}
	if p != nil {
		_ = problem.Write(x, p) // the client is gone
		return
	}
	n.admin.JSON(x, filterPage{Checked: r.Checked, Missing: r.Missing, OK: r.Missing == 0})
}
