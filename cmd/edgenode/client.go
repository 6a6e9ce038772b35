package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Limits of the client. A body may take as long as it moves.
const (
	connectTimeout = 5 * time.Second
	answerTimeout  = time.Minute // from the request to the answer's header
	maxAnswerText  = 1 << 20     // of what is read whole
)

// nodeFlags name the node that a command talks to.
type nodeFlags struct {
	URL   string `name:"url" env:"EDGENODE_URL" default:"http://127.0.0.1:8080" help:"Base URL of the node."`
	Token string `env:"EDGENODE_TOKEN" help:"Bearer token; better in the environment, where other users cannot see it."`
}

// client returns a client for the node.
func (f *nodeFlags) client() (*client, error) {
	u, err := url.Parse(strings.TrimSuffix(f.URL, "/"))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.Path != "" || u.RawQuery != "" {
		return nil, &exitError{exitUsage, fmt.Errorf("--url %q is not the base URL of a node; write scheme and host, as in http://127.0.0.1:8080", f.URL)}
	}
	transport := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: connectTimeout}).DialContext,
		TLSHandshakeTimeout:   connectTimeout,
		ResponseHeaderTimeout: answerTimeout,
		ExpectContinueTimeout: time.Second,
		DisableCompression:    true, // bytes as stored
	}
	return &client{base: u, named: "--url or EDGENODE_URL", token: f.Token, http: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// A client talks to the items API of one node.
type client struct {
	base  *url.URL
	named string // how one names another node
	token string
	http  *http.Client
}

func (c *client) close() { c.http.CloseIdleConnections() }

// A request is one call of the items API.
type request struct {
	method string
	path   string // escaped, such as /v1/items/a%2Fb
	query  url.Values
	header http.Header
	body   io.Reader
	length int64 // of body; -1 unknown
}

// itemPath returns the path of an item: one segment, in which only a verb that
// we append can look like one.
func itemPath(id, verb string) string {
	return "/v1/items/" + strings.ReplaceAll(url.PathEscape(id), ":", "%3A") + verb
}

// do sends r. The answer's status is below 400, its body is the caller's to
// close; anything else is an error with its exit code.
func (c *client) do(ctx context.Context, r request) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, r.method, c.base.String()+r.path, r.body)
	if err != nil {
		return nil, &exitError{exitUsage, err}
	}
	req.URL.RawQuery = r.query.Encode()
	if r.header != nil {
		req.Header = r.header
	}
	req.Header.Set("User-Agent", "edgenode-cli")
	if r.body != nil {
		req.ContentLength = r.length
		if r.length == 0 {
			req.Body = http.NoBody
		}
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	if resp.StatusCode >= 400 {
		defer func() { _ = resp.Body.Close() }() // it was only read
		return nil, c.refused(resp)
	}
	return resp, nil
}

// unreachable is the error of a request that had no answer.
func (c *client) unreachable(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return &exitError{exitUnavailable, fmt.Errorf("%s does not answer: %w; start a node with edgenode serve, or name another one with %s", c.base, err, c.named)}
}

// A refusal is an answer with a problem (RFC 9457).
type refusal struct {
	Type   string   `json:"type"`
	Title  string   `json:"title"`
	Status int      `json:"status"`
	Detail string   `json:"detail"`
	Remedy string   `json:"remedy"`
	Faults []string `json:"faults"`
}

func (r *refusal) Error() string {
	name := strings.TrimPrefix(r.Type, "urn:edgenode:problem:")
	s := fmt.Sprintf("the node says %d %s: %s", r.Status, name, strings.TrimSuffix(r.Title, "."))
	if r.Detail != "" {
		s += " (" + r.Detail + ")"
	}
	for _, f := range r.Faults {
		s += "\n  " + f
	}
	if r.Remedy != "" {
		s += "; " + r.Remedy
	}
	return s
}

// refused is the error of an answer of 400 and above.
func (c *client) refused(resp *http.Response) error {
	r := &refusal{Status: resp.StatusCode, Title: "no reason is given", Type: http.StatusText(resp.StatusCode)}
	if kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); kind == "application/problem+json" {
		text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerText))
		if err == nil {
			err = json.Unmarshal(text, r)
		}
		if err != nil {
			return &exitError{exitUnavailable, fmt.Errorf("answer %d of %s cannot be read: %w", resp.StatusCode, c.base, err)}
		}
		r.Status = resp.StatusCode
	}
	return &exitError{exitCodeOf(r), r}
}

// exitCodeOf says what a refusal means to who called the command.
func exitCodeOf(r *refusal) int {
	switch {
	case r.Status == http.StatusNotFound && r.Type == "urn:edgenode:problem:not-found": // of the item, not of the path
		return exitMissing
	case r.Status >= 500 || r.Status == http.StatusTooManyRequests:
		return exitUnavailable
	}
	return exitRefused
}

// object sends r and reads its answer, one JSON object, into v.
func (c *client) object(ctx context.Context, r request, v any) (raw []byte, err error) {
	resp, err := c.do(ctx, r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }() // it was only read
	raw, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswerText))
	if err == nil {
		err = json.Unmarshal(raw, v)
	}
	if err != nil {
		return nil, &exitError{exitUnavailable, fmt.Errorf("answer of %s: %w; is it an edgenode?", c.base, err)}
	}
	return bytes.TrimSpace(raw), nil
}
