package proxy

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/edgenode/edgenode/node/problem"
)

// A failure is an answer of the node's own: a kind of the one table of problems
// and what it is this time. status, if not 0, stands instead of the table's.
type failure struct {
	kind   problem.Kind
	status int
	text   string
	retry  time.Duration // told as Retry-After; 0 is one second with a 503, else nothing
}

// The failures of sites.
var (
	failMisdirected = failure{kind: problem.Misdirected, text: "no site is configured for this host and path"}
	failTarget      = failure{kind: problem.BadRequest, text: "the request target is not in origin form, or Host is no host"}
	failSpelling    = failure{kind: problem.BadRequest, text: "the path may be read as one of another site of this host"}
	failMethod      = failure{kind: problem.MethodNotAllowed, text: "this method is not passed on"}
	failConnect     = failure{kind: problem.NotImplemented, text: "CONNECT is not implemented"}
	failNotCached   = failure{kind: problem.NotCached, text: "only-if-cached, and there is no answer that may be used"}
	failUnreachable = failure{kind: problem.OriginUnreachable, text: "the origin could not be reached"}
	failRevalidate  = failure{kind: problem.OriginUnreachable, status: http.StatusGatewayTimeout, text: "what is stored must be validated, and the origin could not be asked"}
	failBroken      = failure{kind: problem.OriginAnswerBad, text: "the origin's answer was not a valid one"}
	failTimeout     = failure{kind: problem.OriginTimeout, text: "the origin did not answer in time"}
	failWaiters     = failure{kind: problem.Busy, text: "too many requests wait for the same answer"}
	failMemory      = failure{kind: problem.Busy, text: "too many big answers are being sent from below memory"}
	failLoop        = failure{kind: problem.Loop, text: "the request went through this node too often"}
	failBody        = failure{kind: problem.ContentTooLarge, text: "the request body is larger than allowed"}
	failRequest     = failure{kind: problem.IncompleteBody, text: "the request body could not be read"}
	failClosing     = failure{kind: problem.ShuttingDown, text: "the node is shutting down"}
	failBug         = failure{kind: problem.Internal, text: "the node met a fault of its own"}
	failDenied      = failure{kind: problem.Denied, text: "refused by policy"}
)

// Errors of fetches. Nothing of the answer was used.
var (
	errFirstByte = errors.New("proxy: the origin sent no header in time")
	errStalled   = errors.New("proxy: the origin stopped sending")
	errAbandoned = errors.New("proxy: nobody waits for the answer")
	errClosed    = errors.New("proxy: closed")
	errUnasked   = errors.New("proxy: the origin's answer is a 304 that nobody asked for")
	errBug       = errors.New("proxy: a bug was met")
)

// failureOf chooses the answer for an error of a fetch.
func failureOf(err error) failure {
	if errors.Is(err, errMustRevalidate) && !errors.Is(err, errBug) && !errors.Is(err, errClosed) {
		return failRevalidate
	}
	var tooLarge interface{ BodyTooLarge() bool }
	var timeout net.Error
	var op *net.OpError
	switch {
	case errors.Is(err, errBug):
		return failBug
	case errors.As(err, &tooLarge) && tooLarge.BodyTooLarge():
		return failBody
	case errors.Is(err, errRequestBody):
		return failRequest
	case errors.Is(err, errClosed):
		return failClosing
	case errors.Is(err, errFirstByte), errors.Is(err, errStalled), errors.Is(err, context.DeadlineExceeded),
		errors.As(err, &timeout) && timeout.Timeout():
		return failTimeout
	case errors.As(err, &op) && op.Op == "dial":
		return failUnreachable
	}
	return failBroken
}

// refuse answers with a failure: application/problem+json if the client's
// Accept prefers it, else the site's page for it, else short text.
func (p *Proxy) refuse(st *state, fl failure, h how) {
	pr := problem.Problem{Kind: fl.kind, Status: fl.status, Detail: fl.text}
	code := pr.Code()
	if pr.RetryAfter = fl.retry; fl.retry == 0 && code == http.StatusServiceUnavailable {
		pr.RetryAfter = time.Second
	}
	p.m.problem(fl.kind.Entry().Name)
	x := st.x
	x.Status(code)
	x.Add("Cache-Control", "no-store")
	if fl.kind == problem.MethodNotAllowed {
		x.Add("Allow", st.site.allowed())
	}
	if pr.RetryAfter > 0 {
		x.Add("Retry-After", strconv.FormatInt(pr.RetrySeconds(), 10))
	}
	var body []byte
	if prefersProblem(string(x.Header("Accept"))) {
		x.Add("Content-Type", problem.ContentType)
		body = append(pr.AppendJSON(nil), '\n')
	} else if page, ok := st.site.page(code); ok {
		x.Add("Content-Type", page.Type)
		body = page.Body
	} else {
		x.Add("Content-Type", "text/plain; charset=utf-8")
		body = []byte(strconv.Itoa(code) + " " + http.StatusText(code) + ": " + fl.text + "\n")
	}
	p.sendOwn(st, h, body)
}

// prefersProblem reports whether Accept names problem+json with a weight above
// those of text and of everything.
func prefersProblem(accept string) bool {
	weights := map[string]int{}
	for part := range strings.SplitSeq(accept, ",") {
		name, params, _ := strings.Cut(part, ";")
		weights[strings.ToLower(strings.Trim(name, " \t"))] = qvalue(params)
	}
	w := max(weights["application/problem+json"], weights["application/json"])
	return w > 0 && w >= weights["text/plain"] && w >= weights["text/html"] && w >= weights["*/*"]
}
