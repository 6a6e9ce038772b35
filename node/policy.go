package node

import (
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"
	"unsafe"

	"github.com/edgenode/edgenode/hooks"
	"github.com/edgenode/edgenode/hooks/abi"
	"github.com/edgenode/edgenode/node/api"
	"github.com/edgenode/edgenode/node/edit"
	"github.com/edgenode/edgenode/node/proxy"
	"github.com/edgenode/edgenode/tiers/item"
)

// A verdict is the scratch memory of one call of the hooks, reused.
type verdict struct {
	req hooks.Request
	out hooks.Decision
	key []byte

	fields   fielder     // of the request
	request  http.Header // instead of fields
	response http.Header

	// What AppendHeader looks for, and the method value that looks, bound once.
	want string
	got  [][]byte
	scan func(name, value []byte) bool
}

var _ hooks.Headers = (*verdict)(nil)

// A fielder has header lines.
type fielder interface {
	Fields(yield func(name, value []byte) bool)
}

func newVerdict() *verdict {
	v := &verdict{}
	v.scan = v.match
	return v
}

// AppendHeader appends the values of the lines called name.
func (v *verdict) AppendHeader(dst [][]byte, name string, response bool) [][]byte {
	header := v.request
	if response {
		header = v.response
	}
	if header != nil || response {
		for _, value := range header[http.CanonicalHeaderKey(name)] {
			dst = append(dst, bytesOf(value))
		}
		return dst
	}
	v.want, v.got = name, dst
	v.fields.Fields(v.scan)
	dst, v.got = v.got, nil
	return dst
}

func (v *verdict) match(name, value []byte) bool {
	if len(name) == len(v.want) && strings.EqualFold(textOf(name), v.want) {
		v.got = append(v.got, value)
	}
	return true
}

// end forgets the request.
func (v *verdict) end() {
	v.fields, v.request, v.response, v.want = nil, nil, nil, ""
	v.req = hooks.Request{}
}

// bytesOf and textOf look at the same memory as another type. The bytes are
// only read, and not longer than the string or slice lives.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }
func textOf(b []byte) string  { return unsafe.String(unsafe.SliceData(b), len(b)) }

// begin fills in what all requests have in common.
func (v *verdict) begin(nowMilli int64, method string, client netip.Addr, scheme string) *hooks.Request {
	v.req = hooks.Request{Headers: v}
	v.req.Method, v.req.NowMillis, v.req.ContentBytes = methodOf(method), uint64(nowMilli), abi.UnknownBytes
	if client.IsValid() {
		v.req.Client = client.As16()
	}
	if scheme == "https" {
		v.req.Flags |= abi.FlagTLS
	}
	return &v.req
}

// A certified exchange knows whether its client has shown a certificate.
type certified interface{ ClientCertificate() bool }

// asked takes over what only a request itself tells.
func (v *verdict) asked(x fielder) {
	v.fields = x
	if c, ok := x.(certified); ok && c.ClientCertificate() {
		v.req.Flags |= abi.FlagClientCert
	}
}

func methodOf(method string) abi.Method {
	switch method {
	case "GET":
		return abi.MethodGet
	case "HEAD":
		return abi.MethodHead
	case "POST":
		return abi.MethodPost
	case "PUT":
		return abi.MethodPut
	case "DELETE":
		return abi.MethodDelete
	case "PATCH":
		return abi.MethodPatch
	case "OPTIONS":
		return abi.MethodOptions
	}
	return abi.MethodOther
}

func bytesLeft(size int64) uint64 {
	if size < 0 {
		return abi.UnknownBytes
	}
	return uint64(size)
}

// A policy lets the hooks decide about requests.
type policy struct {
	hooks    *hookSet
	verdicts sync.Pool // *verdict
}

func newPolicy(h *hookSet) *policy {
	return &policy{hooks: h, verdicts: sync.Pool{New: func() any { return newVerdict() }}}
}

// itemPolicy is the policy of the items API.
type itemPolicy struct{ *policy }

// sitePolicy is the policy of sites.
type sitePolicy struct{ *policy }

var (
	_ api.Policy   = itemPolicy{}
	_ proxy.Policy = sitePolicy{}
)

// Route asks the route hooks about a request of the items API.
func (p itemPolicy) Route(x api.Exchange, op api.Op, id []byte, size int64, d *api.Decision) {
	if !p.hooks.has(abi.Route) {
		return
	}
	v := p.verdicts.Get().(*verdict)
	defer p.verdicts.Put(v)
	defer v.end()
	req := v.begin(p.hooks.now(), x.Method(), x.Client(), x.Scheme())
	v.asked(x)
	req.Operation, req.Key, req.ContentBytes, req.Tiers = abi.Operation(op), id, bytesLeft(size), tiersOr(d.Tiers)
	if !p.hooks.host.Route(req, &v.out) {
		return
	}
	p.decide(&v.out, d)
	d.Edits = copyEdits(v.out.Edits)
	if v.out.TiersSet {
		d.Tiers = item.Tiers(v.out.WriteTiers)
		if op == api.OpRead {
			d.Tiers = item.Tiers(v.out.ReadTiers)
		}
	}
}

// TTL asks the ttl hooks about an item that is about to be stored. Its content
// type and encoding stand for the fields of a response.
func (p itemPolicy) TTL(x api.Exchange, id []byte, size int64, d *api.Decision) {
	if !p.hooks.has(abi.TTL) {
		return
	}
	v := p.verdicts.Get().(*verdict)
	defer p.verdicts.Put(v)
	defer v.end()
	req := v.begin(p.hooks.now(), x.Method(), x.Client(), x.Scheme())
	v.asked(x)
	v.response = contentFields(x)
	req.Operation, req.Key, req.ContentBytes, req.Tiers = abi.Write, id, bytesLeft(size), tiersOr(d.Tiers)
	if d.TTL > 0 {
		req.Lifetime, req.Flags = seconds(d.TTL), req.Flags|abi.FlagLifetimeKnown
	}
	if !p.hooks.host.TTL(req, &v.out) {
		return
	}
	p.decide(&v.out, d)
	// A module that failed forbids nothing: bypass means here as if absent.
	d.NoStore = v.out.NoStore && v.out.Verdict != hooks.Pass
	lifetimes(&v.out, d)
}

// contentFields returns the fields that describe the content of a write.
func contentFields(x api.Exchange) http.Header {
	h := http.Header{}
	for name, value := range x.Fields {
		if n := http.CanonicalHeaderKey(string(name)); n == "Content-Type" || n == "Content-Encoding" {
			h.Add(n, string(value))
		}
	}
	return h
}

// decide takes over what both hooks may say.
func (p itemPolicy) decide(out *hooks.Decision, d *api.Decision) {
	switch out.Verdict {
	case hooks.Deny:
		d.Deny, d.Reason = out.Status, string(out.Reason)
	case hooks.Answer:
		d.Answer = &api.Ready{Status: out.AnswerStatus, Block: fieldBlock(out.AnswerFields), Body: append([]byte(nil), out.AnswerBody...)}
	}
	if out.State != nil {
		d.State = string(out.State)
	}
	d.Tags = appendTags(d.Tags, out.Tags)
}

// lifetimes takes over the lifetimes of an item. A lifetime of nothing is the
// shortest there is: zero would be for ever.
func lifetimes(out *hooks.Decision, d *api.Decision) {
	set := func(to *time.Duration, s uint32) {
		if d := copyLifetime(s); d > 0 {
			*to = d
		}
	}
	if out.LifetimeSet {
		set(&d.TTL, out.Lifetime)
	}
	set(&d.L1TTL, out.TierLifetimes[0])
	set(&d.L2TTL, out.TierLifetimes[1])
	set(&d.TTL, out.TierLifetimes[2])
}

// Route asks the route hooks about a request of a site.
func (p sitePolicy) Route(in *proxy.RouteInput, out *proxy.RouteDecision) {
	if !p.hooks.has(abi.Route) {
		return
	}
	v := p.verdicts.Get().(*verdict)
	defer p.verdicts.Put(v)
	defer v.end()
	if !p.hooks.host.Route(p.routeRequest(v, in), &v.out) {
		return
	}
	siteDecision(&v.out, out)
}

// routeRequest is what route hooks are asked about a request of a site.
func (p sitePolicy) routeRequest(v *verdict, in *proxy.RouteInput) *hooks.Request {
	x, now := in.Request, in.Now
	if now == 0 {
		now = p.hooks.now()
	}
	req := v.begin(now, x.Method(), x.Client(), in.Scheme)
	v.asked(x)
	v.key = append(append(append(append(v.key[:0], in.Scheme...), "://"...), in.Host...), in.Target...)
	req.Operation, req.Site, req.Key = operationOf(req.Method), in.Site, v.key
	req.ContentBytes, req.Tiers, req.Flags = bytesLeft(x.ContentLength()), tiersOr(in.Tiers), req.Flags|abi.FlagSite
	return req
}

// operationOf says what a request of a site does: what is not known to be safe
// (RFC 9110 section 9.2.1) writes.
func operationOf(m abi.Method) abi.Operation {
	switch m {
	case abi.MethodGet, abi.MethodHead, abi.MethodOptions:
		return abi.Read
	case abi.MethodDelete:
		return abi.Delete
	}
	return abi.Write
}

// siteDecision copies a verdict of route for the proxy, which keeps it longer
// than the hooks' memory lasts.
func siteDecision(v *hooks.Decision, out *proxy.RouteDecision) {
	switch v.Verdict {
	case hooks.Deny:
		out.Deny, out.Reason = v.Status, string(v.Reason)
	case hooks.Answer:
		out.Answer = &proxy.Ready{Status: v.AnswerStatus, Block: fieldBlock(v.AnswerFields), Body: clone(v.AnswerBody)}
	case hooks.Pass:
		out.Pass = true
	}
	out.Pool = v.Pool
	out.Key = clone(v.KeyAddition)
	out.Target = clone(v.Target)
	if v.TiersSet {
		out.ReadTiers, out.WriteTiers = item.Tiers(v.ReadTiers), item.Tiers(v.WriteTiers)
	}
	out.Tags = appendTags(nil, v.Tags)
	out.Edits = copyEdits(v.Edits)
}

// TTL asks the ttl hooks about an answer that is about to be stored.
func (p sitePolicy) TTL(in *proxy.TTLInput, out *proxy.TTLDecision) {
	if !p.hooks.has(abi.TTL) {
		return
	}
	v := p.verdicts.Get().(*verdict)
	defer p.verdicts.Put(v)
	defer v.end()
	scheme, _, _ := strings.Cut(in.URL, "://")
	req := v.begin(p.hooks.now(), in.Method, in.Client, scheme)
	v.request, v.response = in.Request, in.Header
	if v.request == nil {
		v.request = http.Header{}
	}
	v.key = append(v.key[:0], in.URL...)
	req.Operation, req.Site, req.Key = operationOf(req.Method), in.Site, v.key
	req.ContentBytes, req.Status, req.Flags = bytesLeft(in.Length), uint16(in.Status), req.Flags|abi.FlagSite
	if in.Known {
		req.Lifetime, req.Flags = seconds(in.Lifetime), req.Flags|abi.FlagLifetimeKnown
	}
	if !p.hooks.host.TTL(req, &v.out) {
		return
	}
	out.NoStore = v.out.NoStore
	if v.out.LifetimeSet && v.out.Lifetime != abi.AsComputed {
		out.HasLifetime, out.Lifetime = true, time.Duration(v.out.Lifetime)*time.Second
	}
	// -1 leaves a window as the answer has it.
	revalidate, ifError := v.out.StaleWhileRevalidate, v.out.StaleIfError
	if revalidate != abi.AsComputed || ifError != abi.AsComputed {
		out.HasStale, out.Revalidate, out.IfError = true, window(revalidate), window(ifError)
	}
	out.L1TTL, out.L2TTL = copyLifetime(v.out.TierLifetimes[0]), copyLifetime(v.out.TierLifetimes[1])
	out.Tags = appendTags(nil, v.out.Tags)
}

// Routes reports whether a key may have an addition, or another target, by a
// route hook.
func (p sitePolicy) Routes() bool { return p.hooks.has(abi.Route) }

// copyLifetime returns the lifetime of a copy; 0 is as long as the object, and
// so not what a hook means by 0.
func copyLifetime(s uint32) time.Duration {
	if s == abi.AsComputed {
		return 0
	}
	return max(time.Duration(s)*time.Second, time.Millisecond)
}

func window(s uint32) time.Duration {
	if s == abi.AsComputed {
		return -1
	}
	return time.Duration(s) * time.Second
}

// seconds rounds down, saturating below the value that means something else.
func seconds(d time.Duration) uint32 {
	return uint32(min(max(d/time.Second, 0), time.Duration(abi.AsComputed-1)))
}

// tiersOr says which tiers are meant when nothing is decided.
func tiersOr(t item.Tiers) abi.Tiers {
	if t == 0 {
		return abi.AllTiers
	}
	return abi.Tiers(t)
}

func clone(b []byte) []byte {
	if b == nil {
		return nil
	}
	return append([]byte{}, b...)
}

// appendTags appends copies of tags; the list before is not written to.
func appendTags(list []string, tags [][]byte) []string {
	if len(tags) == 0 {
		return list
	}
	list = list[:len(list):len(list)]
	for _, t := range tags {
		list = append(list, string(t))
	}
	return list
}

// copyEdits copies changes of header fields, all bytes in one piece.
func copyEdits(edits []hooks.Edit) []edit.Edit {
	if len(edits) == 0 {
		return nil
	}
	size := 0
	for i := range edits {
		size += len(edits[i].Name) + len(edits[i].Value)
	}
	space := make([]byte, 0, size)
	keep := func(b []byte) []byte {
		at := len(space)
		space = append(space, b...)
		return space[at:len(space):len(space)]
	}
	list := make([]edit.Edit, len(edits))
	for i := range edits {
		e := &edits[i]
		list[i] = edit.Edit{Response: e.Response, Remove: e.Remove, Name: keep(e.Name), Value: keep(e.Value)}
	}
	return list
}

// fieldBlock renders header lines.
func fieldBlock(fields []hooks.Field) []byte {
	var b []byte
	for _, f := range fields {
		b = append(append(append(append(b, f.Name...), ": "...), f.Value...), "\r\n"...)
	}
	return b
}
