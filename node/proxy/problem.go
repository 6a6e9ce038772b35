package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"
)

// A problem is an answer of the node's own. name is the last part of the
// problem type urn:edgenode:problem:<name>.
type problem struct {
	status int
	name   string
	text   string
}

// The problems of sites.
var (
	problemMisdirected = problem{http.StatusMisdirectedRequest, "no-such-site", "no site is configured for this host and path"}
	problemTarget      = problem{http.StatusBadRequest, "bad-target", "the request target is not in origin form"}
	problemMethod      = problem{http.StatusMethodNotAllowed, "method-not-allowed", "this method is not passed on"}
	problemConnect     = problem{http.StatusNotImplemented, "connect", "CONNECT is not implemented"}
	problemNotCached   = problem{http.StatusGatewayTimeout, "not-cached", "only-if-cached, and there is no answer that may be used"}
	problemUnreachable = problem{http.StatusBadGateway, "origin-unreachable", "the origin could not be reached"}
	problemBroken      = problem{http.StatusBadGateway, "origin-broken", "the origin's answer was not a valid one"}
	problemTimeout     = problem{http.StatusGatewayTimeout, "origin-timeout", "the origin did not answer in time"}
	problemWaiters     = problem{http.StatusServiceUnavailable, "too-many-waiters", "too many requests wait for the same answer"}
	problemLoop        = problem{http.StatusLoopDetected, "loop", "the request went through this node too often"}
	problemBody        = problem{http.StatusRequestEntityTooLarge, "body-too-large", "the request body is larger than allowed"}
	problemRequest     = problem{http.StatusBadRequest, "request-broken", "the request body could not be read"}
	problemClosing     = problem{http.StatusServiceUnavailable, "shutting-down", "the node is shutting down"}
	problemDenied      = problem{http.StatusForbidden, "denied", "refused by policy"}
)

// Errors of fetches. Nothing of the answer was used.
var (
	errFirstByte = errors.New("proxy: the origin sent no header in time")
	errStalled   = errors.New("proxy: the origin stopped sending")
	errAbandoned = errors.New("proxy: nobody waits for the answer")
	errClosed    = errors.New("proxy: closed")
)

// problemOf chooses the answer for an error of a fetch.
func problemOf(err error) problem {
	var tooLarge interface{ BodyTooLarge() bool }
	var timeout net.Error
	var op *net.OpError
	switch {
	case errors.As(err, &tooLarge) && tooLarge.BodyTooLarge():
		return problemBody
	case errors.Is(err, errRequestBody):
		return problemRequest
	case errors.Is(err, errClosed):
		return problemClosing
	case errors.Is(err, errFirstByte), errors.Is(err, errStalled), errors.Is(err, context.DeadlineExceeded),
		errors.As(err, &timeout) && timeout.Timeout():
		return problemTimeout
	case errors.As(err, &op) && op.Op == "dial":
		return problemUnreachable
	}
	return problemBroken
}

// refuse answers with a problem: application/problem+json if the client's
// Accept prefers it, else short text.
func (p *Proxy) refuse(st *state, pr problem, h how) {
	p.m.problem(pr.name)
	x := st.x
	x.Status(pr.status)
	x.Add("Cache-Control", "no-store")
	if pr.status == http.StatusServiceUnavailable {
		x.Add("Retry-After", "1")
	}
	st.scratch = p.appendStatus(st.scratch[:0], st.site, &h, nil)
	x.AddBlock(st.scratch)
	title := http.StatusText(pr.status)
	var body string
	if prefersProblem(string(x.Header("Accept"))) {
		x.Add("Content-Type", "application/problem+json")
		doc, _ := json.Marshal(struct {
			Type   string `json:"type"`
			Title  string `json:"title"`
			Status int    `json:"status"`
			Detail string `json:"detail"`
		}{"urn:edgenode:problem:" + pr.name, title, pr.status, pr.text})
		body = string(doc) + "\n"
	} else {
		x.Add("Content-Type", "text/plain; charset=utf-8")
		body = strconv.Itoa(pr.status) + " " + title + ": " + pr.text + "\n"
	}
	if x.Method() == http.MethodHead {
		p.sent(x.SendSized(int64(len(body))))
		return
	}
	p.sent(x.Send([]byte(body)))
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
