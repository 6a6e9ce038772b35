package admin

import (
	"bytes"
	"context"
	"fmt"
	"html"

	"github.com/VictoriaMetrics/metrics"

	"github.com/edgenode/edgenode/node/problem"
	"github.com/edgenode/edgenode/tiers"
)

const plain = "text/plain; charset=utf-8"

// index lists the pages.
func (a *Admin) index(x Exchange) {
	b := []byte("<!doctype html><meta charset=utf-8><title>edgenode</title>\n<h1>edgenode</h1>\n<table>\n")
	for _, p := range a.pages {
		b = fmt.Appendf(b, "<tr><td><a href=%q>%s</a><td>%s<td>%s\n", html.EscapeString(p.Path), html.EscapeString(p.Path),
			html.EscapeString(p.Methods), html.EscapeString(p.About))
	}
	x.Status(200)
	x.Add("Content-Type", "text/html; charset=utf-8")
	x.Add("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; form-action 'none'; base-uri 'none'")
	x.Add("Cache-Control", "no-store")
	x.Add("X-Content-Type-Options", "nosniff")
	sent(x.Send(append(b, "</table>\n"...)))
}

// live answers as long as there is somebody to answer.
func (a *Admin) live(x Exchange) { answer(x, 200, plain, []byte("ok\n")) }

// ready tells load balancers whether to send requests here.
func (a *Admin) ready(x Exchange) {
	if a.o.Ready() {
		answer(x, 200, plain, []byte("ready\n"))
		return
	}
	answer(x, 503, plain, []byte("not ready\n"))
}

// A health is tiers.Health as it is shown.
type health struct {
	Verdict         string   `json:"verdict"` // ok, degraded or down
	Reasons         []string `json:"reasons"`
	State           string   `json:"state"`
	Ready           bool     `json:"ready"`
	AcceptingWrites bool     `json:"accepting_writes"`
	L2              *l2      `json:"l2"` // null: not configured
	L3              *backend `json:"l3"`
	Merkle          *merkle  `json:"merkle,omitempty"`  // if this node may calculate the tree
	Filter          *filter  `json:"filter"`            // null: off
	Replica         any      `json:"replica,omitempty"` // if it follows a hub
	Journal         struct {
		Records int64 `json:"records"` // not yet in L3
		Bytes   int64 `json:"bytes"`
		Quota   int64 `json:"quota_bytes"`
		Pending int64 `json:"pending_items"` // ids that they are of, still to be flushed
	} `json:"journal"`
	Pressure struct {
		Value float64 `json:"value"`
		Level string  `json:"level"`
	} `json:"pressure"`
	L1 struct {
		Items int64 `json:"items"`
		Bytes int64 `json:"bytes"`
		Max   int64 `json:"max_bytes"`
	} `json:"l1"`
}

type backend struct {
	OK        bool    `json:"ok"`
	LatencyMS float64 `json:"latency_ms"` // of the last probe that was answered
	Circuit   string  `json:"circuit"`    // closed, half-open or open
	Error     string  `json:"error,omitempty"`
	SinceMS   int64   `json:"since_ms"` // Unix ms of the last change of ok
}

// A merkle is the tree of hashes in SQL.
type merkle struct {
	State       string `json:"state"`       // unknown, building, following or corrupt
	Calculating bool   `json:"calculating"` // by this node
	Lag         uint64 `json:"lag_changes"`
	Error       string `json:"error,omitempty"`
}

func merkleOf(t *tiers.TreeHealth) *merkle {
	if t == nil {
		return nil
	}
	return &merkle{State: t.State, Calculating: t.Calculating, Lag: t.LagChanges, Error: t.Error}
}

// An l2 is Redis; until it is trusted, reads pass it by.
type l2 struct {
	backend
	Trusted bool `json:"trusted"`
}

func backendOf(b *tiers.BackendHealth) *backend {
	if b == nil {
		return nil
	}
	return &backend{OK: b.OK, LatencyMS: b.LatencyMS, Circuit: b.Circuit, Error: b.Error, SinceMS: b.Since}
}

// A filter knows which ids are not in L3; until it is trusted, each miss asks L3.
type filter struct {
	Trusted bool   `json:"trusted"`
	Reason  string `json:"reason,omitempty"` // why it is not
	Items   uint64 `json:"items"`
	Warming bool   `json:"warming"` // it is filled from L3
	Warmed  uint64 `json:"warmed_items,omitempty"`
}

func filterOf(f *tiers.FilterHealth) *filter {
	if f == nil {
		return nil
	}
	return &filter{Trusted: f.Trusted, Reason: f.Reason, Items: f.Items, Warming: f.Warming, Warmed: f.Warmed}
}

func l2Of(h *tiers.Health) *l2 {
	b := backendOf(h.L2)
	if b == nil {
		return nil
	}
	return &l2{backend: *b, Trusted: h.L2Trusted}
}

// health shows the engine's view of itself.
func (a *Admin) health(x Exchange) {
	h := a.o.Engine.Health(x.Context())
	out := health{
		Verdict: h.Verdict, Reasons: append([]string{}, h.Reasons...), State: h.State, Ready: a.o.Ready(),
		AcceptingWrites: h.AcceptingWrites, L2: l2Of(&h), L3: backendOf(h.L3), Filter: filterOf(h.Filter),
		Merkle: merkleOf(h.Merkle),
	}
	if a.o.Replica != nil {
		out.Replica = a.o.Replica()
	}
	out.Journal.Records, out.Journal.Bytes, out.Journal.Quota = h.JournalRecords, h.JournalBytes, h.JournalQuota
	out.Journal.Pending = a.o.Engine.PendingItems()
	out.Pressure.Value, out.Pressure.Level = h.Pressure, h.PressureLevel
	out.L1.Items, out.L1.Bytes, out.L1.Max = h.L1Items, h.L1Bytes, h.L1Max
	code := 200
	if h.Verdict != "ok" && h.Verdict != "degraded" {
		code = 503
	}
	a.answerJSON(x, code, out)
}

// metrics shows the node's and the process's metrics.
func (a *Admin) metrics(x Exchange) {
	var out bytes.Buffer
	if a.o.Metrics != nil {
		a.o.Metrics.WritePrometheus(&out)
	}
	metrics.WriteProcessMetrics(&out)
	answer(x, 200, "text/plain; version=0.0.4; charset=utf-8", out.Bytes())
}

func (a *Admin) config(x Exchange) { a.answerJSON(x, 200, a.o.Config()) }

func (a *Admin) hooks(x Exchange) { a.answerJSON(x, 200, a.o.Hooks()) }

// reload reads the configuration again. It runs to its end even if the client
// goes away: half a reload helps nobody.
func (a *Admin) reload(x Exchange) {
	if !a.reloading.TryLock() {
		sent(problem.Write(x, &problem.Problem{Kind: problem.ReloadRunning}))
		return
	}
	defer a.reloading.Unlock()
	out := a.o.Reload(context.WithoutCancel(x.Context()))
	a.o.Log.Info("audit: reload", "ok", out.Err == nil)
	switch {
	case out.Err == nil:
		a.answerJSON(x, 200, out.Result)
	case out.Running:
		sent(problem.Write(x, &problem.Problem{Kind: problem.ReloadRunning, Detail: out.Err.Error()}))
	default:
		sent(problem.Write(x, &problem.Problem{Kind: problem.BadConfiguration, Detail: out.Err.Error(), Faults: out.Faults}))
	}
}
