package admin

import (
	"io"
	"math"
	"net/http"
	"net/http/pprof"
	"net/url"
	runtimepprof "runtime/pprof"
	"slices"
	"strconv"
	"strings"

	"github.com/edgenode/edgenode/node/problem"
)

const profilePath = "/debug/pprof/"

// profile serves the profiles of net/http/pprof. Whatever runs for a time is
// bounded, so that a forgotten one does not stay.
func (a *Admin) profile(x Exchange) {
	target, err := url.ParseRequestURI(string(x.Target()))
	if err != nil {
		sent(problem.Write(x, &problem.Problem{Kind: problem.BadPath}))
		return
	}
	limit := a.o.ProfileMax.Seconds()
	query := target.Query()
	if text := query.Get("seconds"); text != "" {
		seconds, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(seconds) || seconds < 0 || seconds > limit {
			sent(problem.Write(x, problem.Newf(problem.BadParameter, "seconds is %q, allowed are 0 to %g", text, limit)))
			return
		}
	}
	name := strings.TrimPrefix(target.Path, profilePath)
	if name == "profile" && query.Get("seconds") == "" {
		query.Set("seconds", strconv.Itoa(int(max(min(limit, 30), 1)))) // pprof's own default is 30
		target.RawQuery = query.Encode()
	}
	h := handler(name)
	if h == nil {
		sent(problem.Write(x, problem.Newf(problem.UnknownPath, "there is no profile %q, %s lists them", name, profilePath)))
		return
	}
	r := (&http.Request{Method: "GET", URL: target, Header: http.Header{}, Body: http.NoBody, Host: string(x.Host())}).WithContext(x.Context())
	w := &responseWriter{x: x, header: http.Header{}}
	h(w, r)
	w.WriteHeader(http.StatusOK) // if nothing was written
}

// handler returns what serves a profile; nil if there is none of that name.
func handler(name string) http.HandlerFunc {
	switch name {
	case "cmdline":
		return pprof.Cmdline
	case "profile":
		return pprof.Profile
	case "symbol":
		return pprof.Symbol
	case "trace":
		return pprof.Trace
	}
	if name != "" && runtimepprof.Lookup(name) == nil {
		return nil
	}
	return pprof.Index
}

// A responseWriter lets a handler of net/http answer an Exchange. What it
// writes goes out as it comes: a trace can be large.
type responseWriter struct {
	x      Exchange
	header http.Header
	begun  bool
	w      io.Writer
	err    error
}

var _ http.ResponseWriter = (*responseWriter)(nil)

func (w *responseWriter) Header() http.Header { return w.header }

// WriteHeader begins the answer; later calls do nothing.
func (w *responseWriter) WriteHeader(code int) {
	if w.begun {
		return
	}
	w.begun = true
	w.x.Status(code)
	w.header.Del("Content-Length") // the length is the stream's
	w.header.Set("Cache-Control", "no-store")
	names := make([]string, 0, len(w.header))
	for name := range w.header {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		for _, value := range w.header[name] {
			w.x.Add(name, value)
		}
	}
	w.w, w.err = w.x.Stream(-1)
}

func (w *responseWriter) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	if w.err != nil {
		return 0, w.err
	}
	return w.w.Write(b)
}
