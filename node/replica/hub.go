package replica

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Errors of questions to the hub.
var (
	errGone   = errors.New("replica: changes that were not read are not kept any more")
	errBadHub = errors.New("replica: the hub's answer is none of an edgenode of this version")
)

// storeField is the field with the identity of the hub's database.
const storeField = "Edge-Store"

// silence is how long the hub may say nothing within an answer.
const silence = 15 * time.Second

// maxAnswer bounds an answer that is held as a whole.
const maxAnswer = 64 << 20

// A hub is asked over HTTP.
type hub struct {
	base, token string
	client      *http.Client
}

// noRedirect takes an answer as it is: the token is for the hub alone.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// request makes a request; path begins with /v1.
func (h *hub) request(ctx context.Context, method, target string, body []byte) (*http.Request, error) {
	var r io.Reader
	if body != nil {
		r = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, h.base+target, r)
	if err != nil {
		return nil, err
	}
	if h.token != "" {
		req.Header.Set("Authorization", "Bearer "+h.token)
	}
	req.Header.Set("User-Agent", "edgenode-replica")
	return req, nil
}

// ask sends a request and returns its answer if the status is 200. Silence for
// longer than patience ends it, here and while the body is read.
func (h *hub) ask(ctx context.Context, method, target string, body []byte, patience time.Duration) (*answer, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	a := &answer{cancel: cancel}
	a.watch = time.AfterFunc(patience, func() { cancel(errors.New("replica: the hub does not answer")) })
	fail := func(err error) (*answer, error) {
		if cause := context.Cause(ctx); cause != nil {
			err = fmt.Errorf("%w: %w", cause, err)
		}
		a.close()
		return nil, err
	}
	req, err := h.request(ctx, method, target, body)
	if err != nil {
		return fail(err)
	}
	if a.resp, err = h.client.Do(req); err != nil {
		return fail(err)
	}
	if a.resp.StatusCode != http.StatusOK {
		return fail(refusal(a.resp))
	}
	a.watch.Reset(silence)
	return a, nil
}

// refusal returns what an answer without success says.
func refusal(resp *http.Response) error {
	var p struct{ Type, Title, Detail string }
	b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil || json.Unmarshal(b, &p) != nil || p.Type == "" {
		return fmt.Errorf("%w: status %d", errBadHub, resp.StatusCode)
	}
	if resp.StatusCode == http.StatusGone {
		return errGone
	}
	return &refused{resp.StatusCode, fmt.Sprintf("replica: the hub refuses: %d %s: %s %s", resp.StatusCode, p.Type, p.Title, p.Detail)}
}

// A refused is an answer that is a problem.
type refused struct {
	status int
	text   string
}

func (e *refused) Error() string { return e.text }

// escape encodes a value of a query; the hub takes a plus for a plus.
func escape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

// An answer is read as it comes.
type answer struct {
	resp   *http.Response
	watch  *time.Timer
	cancel context.CancelCauseFunc
}

// Read reads the body, and is cut off after a silence.
func (a *answer) Read(p []byte) (int, error) {
	n, err := a.resp.Body.Read(p)
	a.watch.Reset(silence)
	return n, err
}

func (a *answer) close() {
	a.watch.Stop()
	a.cancel(nil)
	if a.resp != nil {
		_ = a.resp.Body.Close() // it was only read
	}
}

// object asks for a JSON object.
func (h *hub) object(ctx context.Context, method, target string, body []byte, dst any) error {
	a, err := h.ask(ctx, method, target, body, silence)
	if err != nil {
		return err
	}
	defer a.close()
	if err := json.NewDecoder(io.LimitReader(a, maxAnswer)).Decode(dst); err != nil {
		return fmt.Errorf("%w: %w", errBadHub, err)
	}
	return nil
}

// record returns what the hub has of one id, nil if nothing, at most limit bytes.
func (h *hub) record(ctx context.Context, id string, limit int64) ([]byte, error) {
	a, err := h.ask(ctx, http.MethodGet, "/v1/merkle/record?id="+escape(id), nil, silence)
	var r *refused
	if errors.As(err, &r) && r.status == http.StatusNotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer a.close()
	b, err := io.ReadAll(io.LimitReader(a, limit))
	if err != nil {
		return nil, fmt.Errorf("replica: record of %q: %w", id, err)
	}
	return b, nil
}
