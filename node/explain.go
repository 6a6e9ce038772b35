package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"strings"
	"unicode"

	"github.com/edgenode/edgenode/hooks"
	"github.com/edgenode/edgenode/node/admin"
	"github.com/edgenode/edgenode/node/problem"
	"github.com/edgenode/edgenode/node/proxy"
	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

// maxQuestion bounds the body of a POST to /explain, in bytes.
const maxQuestion = 64 << 10

// explainPage answers /explain: GET with url or id, POST with a request.
func (n *Node) explainPage(x admin.Exchange) {
	answer, p := n.explain(x)
	if p != nil {
		if err := problem.Write(x, p); err != nil {
			n.log.Debug("an answer was not taken", "error", err)
		}
		return
	}
	if !strings.Contains(string(x.Header("Accept")), "text/plain") {
		n.admin.JSON(x, answer)
		return
	}
	x.Status(200)
	x.Add("Content-Type", "text/plain; charset=utf-8")
	x.Add("Cache-Control", "no-store")
	x.Add("X-Content-Type-Options", "nosniff")
	if err := x.Send(explainText(answer)); err != nil {
		n.log.Debug("an answer was not taken", "error", err)
	}
}

func (n *Node) explain(x admin.Exchange) (any, *problem.Problem) {
	if x.Method() == "POST" {
		q, p := readQuestion(x.Body())
		if p != nil {
			return nil, p
		}
		return n.explainURL(x.Context(), q)
	}
	_, raw, _ := strings.Cut(string(x.Target()), "?")
	query, err := url.ParseQuery(raw)
	if err != nil {
		return nil, problem.New(problem.BadParameter, "the query cannot be read; encode the URL that it names")
	}
	for name, values := range query {
		if name != "url" && name != "id" {
			return nil, problem.Newf(problem.UnknownParameter, "%q is not known here; url and id are", name)
		}
		if len(values) != 1 || len(query) != 1 {
			return nil, problem.New(problem.RepeatedParameter, "give one url or one id")
		}
	}
	switch {
	case query.Get("url") != "":
		return n.explainURL(x.Context(), proxy.Question{URL: query.Get("url")})
	case query.Get("id") != "":
		return n.explainItem(x.Context(), query.Get("id"))
	}
	return nil, problem.New(problem.BadParameter, "say what to explain: ?url=https://shop.example/a or ?id=…")
}

func (n *Node) explainURL(ctx context.Context, q proxy.Question) (any, *problem.Problem) {
	e, err := n.proxy.Explain(ctx, q)
	if err != nil {
		return nil, problem.New(problem.BadParameter, strings.TrimPrefix(err.Error(), "proxy: "))
	}
	return e, nil
}

// readQuestion reads the request that a POST asks about.
func readQuestion(body io.Reader) (q proxy.Question, p *problem.Problem) {
	var in struct {
		Method  string         `json:"method"`
		URL     string         `json:"url"`
		Headers map[string]any `json:"headers"`
		Client  string         `json:"client"`
	}
	d := json.NewDecoder(io.LimitReader(body, maxQuestion))
	d.DisallowUnknownFields()
	if err := d.Decode(&in); err != nil {
		return q, problem.Newf(problem.BadBody, `write {"method", "url", "headers", "client"}: %v`, err)
	}
	q.Method, q.URL = in.Method, in.URL
	if in.Client != "" {
		var err error
		if q.Client, err = netip.ParseAddr(in.Client); err != nil {
			return q, problem.New(problem.BadBody, "client is not an address")
		}
	}
	for name, value := range in.Headers {
		values, ok := value.([]any)
		if !ok {
			values = []any{value}
		}
		for _, v := range values {
			text, ok := v.(string)
			if !ok {
				return q, problem.Newf(problem.BadBody, "header %q is neither a string nor a list of strings", name)
			}
			q.Header = append(q.Header, [2]string{name, text})
		}
	}
	return q, nil
}

// An explainedItem is an item and where it is. Its content is not shown.
type explainedItem struct {
	ID        string   `json:"id"`
	Where     string   `json:"where"`
	Tombstone bool     `json:"tombstone,omitempty"`
	L1        bool     `json:"l1"`
	L2        bool     `json:"l2"`
	L3        bool     `json:"l3"`
	Version   string   `json:"version"`
	ETag      string   `json:"etag,omitempty"`
	Type      string   `json:"type,omitempty"`
	State     string   `json:"state,omitempty"`
	Tags      []string `json:"tags,omitempty"`
	Bytes     int      `json:"bytes"`
	ExpiresMS int64    `json:"expires_ms,omitempty"` // Unix ms
	From      string   `json:"from,omitempty"`       // the tier that would answer
	Rules     []string `json:"rules,omitempty"`
}

func (n *Node) explainItem(ctx context.Context, id string) (any, *problem.Problem) {
	key := item.AppendKey(nil, item.NamespaceItem, []byte(id))
	if len(key) > item.MaxKeyLen {
		return nil, problem.New(problem.BadID, "the id is too long")
	}
	st, err := n.engine.Status(ctx, key)
	if err != nil {
		return nil, problem.New(problem.Unavailable, "the item's tiers cannot be asked now")
	}
	e := explainedItem{ID: id, Where: st.Where, Tombstone: st.Tombstone, L1: st.L1, L2: st.L2, L3: st.L3, Version: fmt.Sprint(uint64(st.Version))}
	hit, ok, err := n.engine.Get(ctx, key, tiers.ReadOptions{})
	if err != nil && !errors.Is(err, context.Canceled) {
		return nil, problem.New(problem.Unavailable, "the item's tiers cannot be asked now")
	}
	if !ok {
		return e, nil
	}
	defer hit.Release()
	v := hit.View
	e.From, e.ETag, e.Type, e.State, e.Bytes, e.ExpiresMS = hit.Source.String(), v.ETag().String(), strings.Clone(v.MIME()), strings.Clone(v.State()), len(v.Content()), v.ExpiresAt()
	for t := range v.Tags {
		e.Tags = append(e.Tags, strings.Clone(t))
	}
	for _, r := range n.engine.RulesCovering(v) {
		what := "purge"
		if r.Op == item.OpDelete {
			what = "bulk delete"
		}
		e.Rules = append(e.Rules, fmt.Sprintf("%s %d", what, uint64(r.Version)))
	}
	return e, nil
}

// explainText renders an explanation for people: the same members, indented,
// without marks.
func explainText(v any) []byte {
	text, err := json.Marshal(v)
	var tree any
	if err == nil {
		d := json.NewDecoder(strings.NewReader(string(text)))
		d.UseNumber()
		tree, err = orderedTree(d)
	}
	if err != nil {
		return []byte("cannot be shown\n")
	}
	return appendTree(nil, tree, 0)
}

// A member is one of an object, in its place.
type member struct {
	name  string
	value any
}

// orderedTree reads a JSON value; objects become []member, so that their order
// stays.
func orderedTree(d *json.Decoder) (any, error) {
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch token {
	case json.Delim('{'):
		object := []member{}
		for d.More() {
			name, err := d.Token()
			if err != nil {
				return nil, err
			}
			value, err := orderedTree(d)
			if err != nil {
				return nil, err
			}
			object = append(object, member{fmt.Sprint(name), value})
		}
		_, err = d.Token()
		return object, err
	case json.Delim('['):
		list := []any{}
		for d.More() {
			value, err := orderedTree(d)
			if err != nil {
				return nil, err
			}
			list = append(list, value)
		}
		_, err = d.Token()
		return list, err
	}
	return token, nil
}

func appendTree(b []byte, v any, depth int) []byte {
	indent := strings.Repeat("  ", depth)
	switch v := v.(type) {
	case []member:
		for _, m := range v {
			name := indent + strings.ReplaceAll(m.name, "_", " ") + ":"
			switch value := m.value.(type) {
			case []member:
				b = append(append(b, name...), '\n')
				b = appendTree(b, value, depth+1)
			case []any:
				b = append(append(b, name...), '\n')
				if len(value) == 0 {
					b = append(append(b, indent...), "  none\n"...)
				}
				b = appendTree(b, value, depth+1)
			default:
				b = fmt.Appendf(b, "%s %s\n", name, printable(value))
			}
		}
	case []any:
		for i, e := range v {
			if object, ok := e.([]member); ok {
				b = fmt.Appendf(b, "%s#%d\n", indent, i+1)
				b = appendTree(b, object, depth+1)
				continue
			}
			b = fmt.Appendf(b, "%s- %s\n", indent, printable(e))
		}
	}
	return b
}

// printable renders a value without what a terminal would obey: origins choose
// media types and tags, clients the paths.
func printable(v any) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
			return unicode.ReplacementChar
		}
		return r
	}, fmt.Sprint(v))
}

var verdictNames = map[hooks.Verdict]string{hooks.Continue: "continue", hooks.Pass: "pass", hooks.Deny: "deny", hooks.Answer: "answer"}

// Trace says what each route hook decides about a request.
func (p sitePolicy) Trace(in *proxy.RouteInput) []proxy.Step {
	v := p.verdicts.Get().(*verdict)
	defer p.verdicts.Put(v)
	defer v.end()
	var steps []proxy.Step
	for _, s := range p.hooks.host.TraceRoute(p.routeRequest(v, in)) {
		step := proxy.Step{Module: s.Module, Verdict: "not asked"}
		switch {
		case s.Fault != "":
			step.Verdict, step.Detail = "fault", s.Fault
		case s.Asked:
			step.Verdict = verdictNames[s.Verdict]
		}
		steps = append(steps, step)
	}
	return steps
}
