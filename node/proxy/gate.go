package proxy

import (
	"hash/maphash"
	"math"
	"net/http"
	"net/netip"
	"reflect"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/edgenode/edgenode/node/edit"
	"github.com/edgenode/edgenode/node/problem"
	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

// A Gate is what a site decides about a request before anything else looks at
// it: who may ask, how often, and under which name. The zero value lets all in.
type Gate struct {
	Allow []netip.Prefix // clients that are let in; none is all
	Deny  []netip.Prefix // clients that are not; they win over Allow

	Rate  float64 // requests per second of one client; 0 is no limit
	Burst int     // requests at once; 0 is Rate rounded up

	RedirectHTTPS bool              // http is sent to https on the same host
	HTTPSPort     int               // to this port of it; 0 is 443
	RedirectHosts map[string]string // hosts of the site that are sent to another one

	Maintenance bool           // nothing but 503
	PurgeACL    []netip.Prefix // clients whose PURGE purges; none: the method passes like any unknown one
}

// decides reports whether g is more than the zero value: a detail of a rule that
// is not there is not.
func (g Gate) decides() bool {
	if g.Rate == 0 {
		g.Burst = 0
	}
	if !g.RedirectHTTPS {
		g.HTTPSPort = 0
	}
	if len(g.RedirectHosts) == 0 {
		g.RedirectHosts = nil
	}
	return !reflect.ValueOf(g).IsZero()
}

// A Page is the content of an error answer.
type Page struct {
	Type string // media type
	Body []byte
}

// page returns the site's page for an answer of its own, if there is one: by
// status, then by class.
func (s *site) page(code int) (Page, bool) {
	if s == nil || len(s.ErrorPages) == 0 {
		return Page{}, false
	}
	pg, ok := s.ErrorPages[strconv.Itoa(code)]
	if !ok {
		pg, ok = s.ErrorPages[strconv.Itoa(code/100)+"xx"]
	}
	return pg, ok
}

// Failures of the gate.
var (
	failAddress     = failure{kind: problem.AddressDenied, text: "this address may not ask"}
	failRate        = failure{kind: problem.TooManyRequests, text: "too many requests from this address"}
	failMaintenance = failure{kind: problem.Maintenance, text: "under maintenance", retry: time.Minute}
)

func within(nets []netip.Prefix, a netip.Addr) bool {
	for _, n := range nets {
		if n.Contains(a) {
			return true
		}
	}
	return false
}

// enter lets a request through the site's gate, or answers it and reports false.
func (p *Proxy) enter(st *state) bool {
	g := &st.site.Gate
	if !st.site.gated {
		return true
	}
	client := st.x.Client()
	purge := st.x.Method() == "PURGE" && len(g.PurgeACL) > 0
	switch {
	case within(g.Deny, client), len(g.Allow) > 0 && !within(g.Allow, client), purge && !within(g.PurgeACL, client):
		p.turnAway(st, failAddress)
	case purge && st.asked == nil:
		p.purge(st)
	case p.redirected(st):
	case g.Maintenance:
		p.turnAway(st, failMaintenance)
	case st.asked != nil: // a question costs nothing of the client's share
		return true
	default:
		if st.site.limits == nil {
			return true
		}
		wait := st.site.limits.take(client, p.timeOf(st))
		if wait == 0 {
			return true
		}
		fl := failRate
		fl.retry = wait
		p.turnAway(st, fl)
	}
	return false
}

// turnAway refuses with the fields that the site adds to its answers.
func (p *Proxy) turnAway(st *state, fl failure) {
	p.editOwn(st)
	p.refuse(st, fl, how{neither: true, detail: "denied"})
}

// editOwn puts the site's own edits of fields into force where no policy is asked.
func (p *Proxy) editOwn(st *state) {
	if len(st.site.Edits) > 0 {
		p.edit(st)
	}
}

// redirected answers a request that came under another name or scheme than the
// site wants. GET and HEAD get a 301, what has a body keeps its method by 308.
func (p *Proxy) redirected(st *state) bool {
	g := &st.site.Gate
	scheme, host := st.scheme, g.RedirectHosts[string(st.name)]
	if host == "" && (!g.RedirectHTTPS || scheme == "https") {
		return false
	}
	if g.RedirectHTTPS {
		if scheme != "https" && host == "" {
			host = string(st.name) // another port speaks TLS
			if g.HTTPSPort != 0 && g.HTTPSPort != 443 {
				host += ":" + strconv.Itoa(g.HTTPSPort)
			}
		}
		scheme = "https"
	}
	p.editOwn(st)
	x := st.x
	if m := x.Method(); m == http.MethodGet || m == http.MethodHead {
		x.Status(http.StatusMovedPermanently)
	} else {
		x.Status(http.StatusPermanentRedirect)
	}
	x.Add("Location", scheme+"://"+host+string(st.target))
	p.sendOwn(st, how{neither: true, detail: "redirect"}, nil)
	return true
}

// sendOwn ends an answer of the node's own.
func (p *Proxy) sendOwn(st *state, h how, body []byte) {
	st.tell(&h)
	st.scratch = p.appendStatus(st.scratch[:0], st.site, &h, nil)
	st.x.AddBlock(st.scratch)
	if st.x.Method() == http.MethodHead {
		p.sent(st.x.SendSized(int64(len(body))))
		return
	}
	p.sent(st.x.Send(body))
}

// purge answers PURGE from a client that may: what is stored for the URL is gone,
// or stale if the request says Edge-Purge: soft.
func (p *Proxy) purge(st *state) {
	values, err := p.purgeValues(string(st.host)+string(st.target), true)
	if err != nil {
		p.turnAway(st, failTarget)
		return
	}
	soft := equalFold(st.x.Header("Edge-Purge"), "soft")
	done, err := p.o.Engine.Purge(st.x.Context(), tiers.Purge{Namespaces: item.InSites, Match: item.MatchTag, Values: values, Soft: soft})
	if err != nil {
		p.o.Log.Error("purge of a URL failed", "site", st.site.Name, "error", err)
		p.turnAway(st, failure{kind: problem.Unavailable, text: "the purge could not be recorded", retry: time.Second})
		return
	}
	p.m.purges.Inc()
	p.o.Log.Info("audit: purge", "site", st.site.Name, "client", st.x.Client().String(), "host", string(st.host), "soft", soft)
	p.editOwn(st)
	st.x.Status(http.StatusOK)
	st.x.Add("Content-Type", "application/json")
	st.x.Add("Cache-Control", "no-store")
	p.sendOwn(st, how{neither: true, detail: "purge"}, append(strconv.AppendUint([]byte(`{"version":"`), uint64(done.Version), 10), "\"}\n"...))
}

// limits bound the requests of each client. Clients are IPv4 addresses and IPv6
// /64 networks. Of many clients those are forgotten that asked least of late. It
// is safe for concurrent use; nil limits nothing.
type limits struct {
	rate   rate.Limit
	burst  int
	seed   maphash.Seed
	shards [16]limitShard
}

type limitShard struct {
	mu      sync.Mutex
	clients map[netip.Addr]*rate.Limiter
}

// maxLimited bounds the clients of a shard that are remembered: a million is
// some 100 MB, this is 6.
const maxLimited = 4096

// newLimits returns the limits of a site; old are those before a reload.
func newLimits(g *Gate, old *limits) *limits {
	if g.Rate <= 0 {
		return nil
	}
	burst := max(g.Burst, 1)
	if g.Burst == 0 {
		burst = int(math.Ceil(g.Rate))
	}
	if old != nil && old.rate == rate.Limit(g.Rate) && old.burst == burst {
		return old
	}
	l := &limits{rate: rate.Limit(g.Rate), burst: burst, seed: maphash.MakeSeed()}
	for i := range l.shards {
		l.shards[i].clients = map[netip.Addr]*rate.Limiter{}
	}
	return l
}

// take counts a request of a client. It returns 0 if it may pass, else how long
// the client has to wait.
func (l *limits) take(client netip.Addr, nowMilli int64) time.Duration {
	if l == nil {
		return 0
	}
	if client.Is6() {
		if n, err := client.Prefix(64); err == nil {
			client = n.Addr()
		}
	}
	now := time.UnixMilli(nowMilli)
	s := &l.shards[maphash.Comparable(l.seed, client)%uint64(len(l.shards))]
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.clients[client]
	if c == nil {
		if len(s.clients) >= maxLimited {
			s.forget(now)
		}
		c = rate.NewLimiter(l.rate, l.burst)
		s.clients[client] = c
	}
	if c.AllowN(now, 1) {
		return 0
	}
	return max(time.Duration((1-c.TokensAt(now))/float64(l.rate)*float64(time.Second)), time.Millisecond)
}

// forget makes room for one client. Of a few, by chance, it takes the one with
// most to spare: it loses least by being forgotten.
func (s *limitShard) forget(now time.Time) {
	const looks = 8
	var least netip.Addr
	most, n := -1.0, 0
	for a, c := range s.clients {
		if t := c.TokensAt(now); n == 0 || t > most {
			least, most = a, t
		}
		if n++; n == looks {
			break
		}
	}
	delete(s.clients, least)
}

// Header says which fields a site sets, adds and removes on one side. Names are
// in any case; there is one value for each name.
type Header struct {
	Set    map[string]string // instead of all lines of that name
	Add    map[string]string // beside them
	Remove []string
}

// Edits returns h as edits of requests or, if response, of answers.
func (h *Header) Edits(response bool) []edit.Edit {
	var list []edit.Edit
	for name, value := range h.Set {
		list = append(list, edit.Edit{Response: response, Name: []byte(name), Value: []byte(value)})
	}
	for name, value := range h.Add {
		list = append(list, edit.Edit{Response: response, Add: true, Name: []byte(name), Value: []byte(value)})
	}
	for _, name := range h.Remove {
		list = append(list, edit.Edit{Response: response, Remove: true, Name: []byte(name)})
	}
	return list
}
