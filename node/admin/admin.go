package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/edgenode/edgenode/node/problem"
	"github.com/edgenode/edgenode/tiers"
)

// DefaultProfileMax is how long a profile or trace may run.
const DefaultProfileMax = time.Minute

// An Exchange is one request and its answer. Byte slices of the request are
// valid until Serve returns. The answer is written in this order: Status,
// fields, then exactly one of Send and Stream.
type Exchange interface {
	Method() string
	Target() []byte // raw path and query
	Host() []byte
	Scheme() string
	Header(name string) []byte
	Body() io.Reader
	Local() bool // the peer is loopback and nothing was forwarded
	Context() context.Context

	Status(code int)
	Add(name, value string)
	Send(body []byte) error
	Stream(length int64) (io.Writer, error)
}

// An Engine tells how it is. Its methods are those of tiers.Engine.
type Engine interface {
	Health(ctx context.Context) tiers.Health
	Ready() bool
	PendingItems() int64
}

// A Gate knows tokens. Admin returns nil if the Authorization field carries one
// with the scope admin, else what to answer.
type Gate interface {
	Admin(authorization []byte) *problem.Problem
}

// An Outcome is what a reload did.
type Outcome struct {
	Result  any      // shown as JSON when it worked: what is in force now, what needs a restart
	Err     error    // why the old configuration stays; nil if it does not
	Running bool     // Err is that another reload is under way
	Faults  []string // of the new configuration, each with its place and its remedy
}

// A Page is one path of the listener.
type Page struct {
	Path    string // "/hooks"; one that ends in a slash is for everything below it
	Methods string // as in the field Allow: "GET, HEAD"
	About   string // one sentence for the index
	Open    bool   // needs neither token nor certificate: it tells one word
	Serve   func(x Exchange)
}

// Options configure an Admin.
type Options struct {
	Engine Engine // required

	Loopback           bool // the listener is bound to a loopback address
	ClientCertificates bool // the listener lets in only who has a certificate
	Gate               Gate // tokens, asked unless Loopback or ClientCertificates; nil: nobody has one

	Ready      func() bool                       // instead of Engine.Ready: false once the node is to stop
	Metrics    *metrics.Set                      // shown at /metrics beside those of the process; nil: only those
	Config     func() any                        // the effective configuration without secrets, for JSON; nil: no page
	Reload     func(ctx context.Context) Outcome // nil: no page
	Hooks      func() any                        // the hooks and their state, for JSON; nil: no page
	Replica    func() any                        // how it follows its hub, for JSON; nil, or returning nil: it has none
	Pages      []Page                            // further pages, under the same guard
	ProfileMax time.Duration                     // longest profile or trace; default one minute
	Log        *slog.Logger                      // nil: nothing is logged
}

// An Admin serves the admin listener. It is safe for concurrent use.
type Admin struct {
	o     Options
	pages []Page

	reloading sync.Mutex // held during a reload; a second one is refused
}

// New returns an Admin, or every fault of its options.
func New(o Options) (*Admin, error) {
	if o.ProfileMax == 0 {
		o.ProfileMax = DefaultProfileMax
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Engine == nil {
		return nil, errors.New("admin: no engine given")
	}
	if o.Ready == nil {
		o.Ready = o.Engine.Ready
	}
	a := &Admin{o: o}
	a.pages = append(a.builtin(), o.Pages...)
	return a, a.check()
}

func (a *Admin) check() error {
	var errs []error
	if !a.o.Loopback && !a.o.ClientCertificates && a.o.Gate == nil {
		errs = append(errs, errors.New("admin: a listener that is not on loopback needs tokens or client certificates: add a [[token]] with the scope admin, or client_ca, or bind it to 127.0.0.1"))
	}
	if a.o.ProfileMax < 0 {
		errs = append(errs, fmt.Errorf("admin: longest profile of %v must be above 0", a.o.ProfileMax))
	}
	seen := map[string]bool{}
	for _, p := range a.pages {
		if seen[p.Path] || !strings.HasPrefix(p.Path, "/") || p.Serve == nil || p.Methods == "" {
			errs = append(errs, fmt.Errorf("admin: page %q is there twice or not complete", p.Path))
		}
		seen[p.Path] = true
	}
	return errors.Join(errs...)
}

// builtin returns the pages that every node has, as far as it has what they
// show.
func (a *Admin) builtin() []Page {
	const read = "GET, HEAD"
	pages := []Page{
		{"/", read, "this list", false, a.index},
		{"/livez", read, "200 while the process serves", true, a.live},
		{"/readyz", read, "200 while it takes requests, 503 before and once it is to stop", true, a.ready},
		{"/healthz", read, "tiers, journal, memory and verdict as JSON: 200 ok or degraded, 503 down", false, a.health},
		{"/metrics", read, "metrics in the Prometheus text format", false, a.metrics},
		{profilePath, "GET", "profiles of the process", false, a.profile},
	}
	if a.o.Config != nil {
		pages = append(pages, Page{"/config", read, "the effective configuration, secrets hidden", false, a.config})
	}
	if a.o.Reload != nil {
		pages = append(pages, Page{"/reload", "POST", "reads the configuration again: what changed, what needs a restart, or why the old one stays", false, a.reload})
	}
	if a.o.Hooks != nil {
		pages = append(pages, Page{"/hooks", read, "the hooks and their state as JSON", false, a.hooks})
	}
	return pages
}

// Serve answers one request.
func (a *Admin) Serve(x Exchange) {
	page, p := a.admit(x)
	if p == nil {
		page.Serve(x)
		return
	}
	sent(problem.Write(x, p))
}

// sent takes the outcome of writing an answer: a client that is gone is no
// error of ours and nobody is left to tell.
func sent(error) {}

// find returns the page of a raw target.
func (a *Admin) find(target []byte) *Page {
	path, _, _ := bytes.Cut(target, []byte("?"))
	for i := range a.pages {
		p := &a.pages[i]
		if string(path) == p.Path || len(p.Path) > 1 && strings.HasSuffix(p.Path, "/") && bytes.HasPrefix(path, []byte(p.Path)) {
			return p
		}
	}
	return nil
}

// answer sends a small answer.
func answer(x Exchange, code int, contentType string, body []byte) {
	x.Status(code)
	x.Add("Content-Type", contentType)
	x.Add("Cache-Control", "no-store")
	x.Add("X-Content-Type-Options", "nosniff")
	sent(x.Send(body))
}

// JSON answers with v, for pages of others.
func (a *Admin) JSON(x Exchange, v any) { a.answerJSON(x, 200, v) }

// answerJSON sends v as JSON that people can read.
func (a *Admin) answerJSON(x Exchange, code int, v any) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		a.o.Log.Error("page cannot be shown as JSON", "error", err)
		sent(problem.Write(x, &problem.Problem{Kind: problem.Internal}))
		return
	}
	answer(x, code, "application/json", out.Bytes())
}
