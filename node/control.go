package node

import (
	"context"
	"errors"
	"net"

	"github.com/VictoriaMetrics/metrics"

	"github.com/edgenode/edgenode/hooks"
	"github.com/edgenode/edgenode/node/admin"
	"github.com/edgenode/edgenode/node/config"
	"github.com/edgenode/edgenode/node/front"
	"github.com/edgenode/edgenode/node/problem"
)

// openAdmin makes the handler of the admin listener.
func (n *Node) openAdmin(cfg *config.Config, set *metrics.Set) (err error) {
	n.admin, err = admin.New(admin.Options{
		Engine: followingEngine{n.engine, n.replica}, Replica: n.replicaHealth, Loopback: isLoopback(n.ctl.Addr()), ClientCertificates: cfg.Listen.Admin.TLS.ClientCA != "",
		Gate: n.api, Ready: n.Ready, Metrics: set, Log: n.log,
		Config: func() any { return n.configPage() },
		Hooks:  func() any { return n.hooks.report() },
		Reload: n.reloadPage,
		Pages: []admin.Page{{
			Path: "/pools", Methods: "GET, HEAD", Serve: n.poolsPage,
			About: "the origins of every pool and whether they are well",
		}, {
			Path: "/top", Methods: "GET, HEAD", Serve: n.topPage,
			About: "the keys that were found in memory most often in the last 10 s (?n=20)",
		}, {
			Path: "/filter/verify", Methods: "POST", Serve: n.verifyFilterPage,
			About: "asks the filter for every row of SQL; one that it denies makes it be filled anew",
		}, {
			Path: "/explain", Methods: "GET, HEAD, POST", Serve: n.explainPage,
			About: "what is stored for ?url= or ?id=, and what a request (POST) would do now and why; fetches nothing",
		}, {
			Path: "/hooks/rollback", Methods: "POST", Serve: n.rollbackPage,
			About: "makes the former set of hooks the live one, and the live one the former",
		}, {
			Path: "/hooks/promote", Methods: "POST", Serve: n.promotePage,
			About: "makes the set of hooks that is on trial the live one",
		}, {
			Path: "/hooks/abort", Methods: "POST", Serve: n.abortPage,
			About: "ends the trial of a set of hooks",
		}, {
			Path: "/hooks/", Methods: "PUT, DELETE", Serve: n.uploadPage,
			About: "PUT uploads the module of a hook (?trial=shadow|canary, ?share=0.1), DELETE goes back to the file",
		}},
	})
	return err
}

// isLoopback reports whether a listener is reached from this machine only.
func isLoopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// serveAdmin answers a request of the admin listener.
func (n *Node) serveAdmin(x *front.Exchange) { n.admin.Serve(x) }

// A configPage is what /config shows.
type configPage struct {
	Effective map[string]any  `json:"effective"` // as read last, secrets hidden
	Restart   []config.Change `json:"restart"`   // of it, what is not in force before a restart
}

func (n *Node) configPage() configPage {
	return configPage{Effective: n.last.Load().Effective(), Restart: n.pendingRestart()}
}

// reloadPage answers POST /reload. A client that leaves does not stop it.
func (n *Node) reloadPage(ctx context.Context) admin.Outcome {
	r := n.Reload(context.WithoutCancel(ctx))
	out := admin.Outcome{Result: r, Err: r.Err(), Running: errors.Is(r.Err(), ErrReloadRunning)}
	for _, f := range r.Faults {
		out.Faults = append(out.Faults, f.Error())
	}
	if out.Err != nil && !out.Running && len(out.Faults) == 0 {
		out.Faults = []string{out.Err.Error()} // of a hook's module, for instance
	}
	return out
}

// poolsPage answers GET /pools.
func (n *Node) poolsPage(x admin.Exchange) {
	n.admin.JSON(x, n.proxy.Pools())
}

// rollbackPage answers POST /hooks/rollback with the hooks as they are then.
func (n *Node) rollbackPage(x admin.Exchange) {
	var p *problem.Problem
	err := n.RollbackHooks()
	switch {
	case errors.Is(err, ErrReloadRunning):
		p = problem.New(problem.ReloadRunning, err.Error())
	case errors.Is(err, hooks.ErrNoPrevious):
		p = problem.New(problem.NotConfigured, "there is no former set of hooks; the one before a reload is kept")
	case err != nil:
		p = problem.New(problem.Internal, err.Error())
	}
	n.answerHooks(x, p)
}
