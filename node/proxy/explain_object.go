package proxy

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

// Stored describes a stored answer. Its content is not shown.
type Stored struct {
	Key      string   `json:"key"` // quoted
	Selected bool     `json:"selected,omitempty"`
	Tier     string   `json:"tier"`  // nearest that has it
	Tiers    []string `json:"tiers"` // of those that it is meant for
	Status   int      `json:"status"`
	Bytes    int64    `json:"bytes"`           // of its content; -1 if the length of the whole is not known
	Parts    []string `json:"parts,omitempty"` // of an answer in parts: the bytes that are named, "0-1048575"
	Type     string   `json:"type,omitempty"`
	Version  string   `json:"version"` // number in order of its request
	Expires  string   `json:"expires"` // when it leaves the store
	Vary     []string `json:"vary,omitempty"`
	Language string   `json:"content_language,omitempty"`
	Encoding string   `json:"content_encoding,omitempty"`

	Freshness  Freshness  `json:"freshness"`
	Validators Validators `json:"validators"`
	Tags       []string   `json:"tags,omitempty"`
	Purged     string     `json:"purged,omitempty"` // soft
	Rules      []string   `json:"rules,omitempty"`  // that cover it, newest first
	Error      string     `json:"error,omitempty"`  // it could not be read
}

// Validators are what the origin can be asked with.
type Validators struct {
	ETag         string `json:"etag,omitempty"`
	LastModified string `json:"last_modified,omitempty"`
}

// Freshness is the arithmetic of RFC 9111 §4.2, in seconds, term by term.
type Freshness struct {
	Fresh          bool    `json:"fresh"`
	Date           string  `json:"date"`            // the origin's, or when the answer came
	Received       string  `json:"received"`        // date_value's counterpart here
	ApparentAge    float64 `json:"apparent_age"`    // received - date, at least 0
	CorrectedAge   float64 `json:"corrected_age"`   // Age of the answer + response delay, as far as it is above the apparent age
	InitialAge     float64 `json:"initial_age"`     // the greater of the two
	ResidentTime   float64 `json:"resident_time"`   // now - received
	CurrentAge     float64 `json:"current_age"`     // initial age + resident time
	Lifetime       float64 `json:"lifetime"`        //
	LifetimeSource string  `json:"lifetime_source"` // the field or key that gave it
	TTL            float64 `json:"ttl"`             // lifetime - current age

	StaleWhileRevalidate float64  `json:"stale_while_revalidate"`
	StaleIfError         float64  `json:"stale_if_error"`
	Restrictions         []string `json:"restrictions,omitempty"`
}

// A ruled Engine can list the rules (purges) newer than an object that cover it.
type ruled interface {
	RulesCovering(v item.View) []item.Rule
}

// describe shows a stored answer.
func (p *Proxy) describe(s *site, hit *tiers.Hit, m meta) Stored {
	v, h := hit.View, headerOf(m.block())
	d := Stored{
		Key: fmt.Sprintf("%q", v.Key()), Tier: hit.Source.String(), Tiers: tierNames(v.Tiers()), Status: m.status(), Bytes: sizeOf(m, v.Content()),
		Type: h.Get("Content-Type"), Version: fmt.Sprint(uint64(v.ContentVersion())), Expires: stamp(v.ExpiresAt()),
		Language: h.Get("Content-Language"), Encoding: h.Get("Content-Encoding"),
		Freshness:  p.arithmetic(s, hit, m, h),
		Validators: Validators{ETag: string(m.etag())},
	}
	if man, ok := manifestOf(m, v.Content()); ok {
		for _, r := range man.runs {
			d.Parts = append(d.Parts, fmt.Sprintf("%d-%d", r.first, r.end-1))
		}
	}
	if spec := m.vary(); spec != "" {
		d.Vary = strings.Split(spec, ",")
	}
	if at := m.lastModified(); at != noTime {
		d.Validators.LastModified = stamp(at)
	}
	v.Tags(func(tag string) bool {
		if tag != "" && tag[0] != 1 {
			d.Tags = append(d.Tags, strings.Clone(tag))
		}
		return true
	})
	if hit.Stale {
		d.Purged = "soft"
	}
	if r, ok := p.o.Engine.(ruled); ok {
		for _, rule := range r.RulesCovering(v) {
			d.Rules = append(d.Rules, ruleText(&rule))
		}
	}
	return d
}

func ruleText(r *item.Rule) string {
	var values []string
	for _, v := range r.Values {
		values = append(values, strings.TrimPrefix(strings.TrimPrefix(strings.TrimPrefix(v, tagURL), tagHost), tagPost))
	}
	op := "purge"
	if r.Op == item.OpPurgeSoft {
		op = "soft purge"
	}
	return fmt.Sprintf("%s %d of %q", op, uint64(r.Version), values)
}

func (p *Proxy) arithmetic(s *site, hit *tiers.Hit, m meta, h http.Header) Freshness {
	f, now := m.freshness(), p.o.Now()
	sec := func(ms int64) float64 { return float64(ms) / 1000 }
	apparent := max(f.received-f.received%1000-f.date, 0)
	a := Freshness{
		Fresh: f.usable(now, hit.Stale) == useFresh, Date: stamp(f.date), Received: stamp(f.received),
		ApparentAge: sec(apparent), InitialAge: sec(f.initialAge), ResidentTime: sec(now - f.received), CurrentAge: sec(f.age(now)),
		Lifetime: sec(f.lifetime), TTL: sec(f.lifetime - f.age(now)), LifetimeSource: s.lifetimeSource(&f, m.status(), h),
		StaleWhileRevalidate: sec(f.whileRevalidate),
	}
	if f.initialAge > apparent {
		a.CorrectedAge = sec(f.initialAge)
	}
	if f.flags&metaIfError != 0 {
		a.StaleIfError = sec(f.ifError)
	}
	for _, r := range []struct {
		flag metaFlags
		text string
	}{
		{metaNoCache, "no-cache: validated before every use"},
		{metaNeverStale, "never served stale (must-revalidate, proxy-revalidate or s-maxage)"},
		{metaPost, "the answer to a POST"},
	} {
		if f.flags&r.flag != 0 {
			a.Restrictions = append(a.Restrictions, r.text)
		}
	}
	return a
}

// lifetimeSource says which field gave the lifetime. A lifetime that no field
// explains was given by a hook.
func (s *site) lifetimeSource(f *freshness, status int, h http.Header) string {
	cc, targeted := s.control(h)
	from := "Cache-Control"
	if targeted {
		for _, name := range s.targeted {
			if _, ok := parseTargeted(h[name]); ok && len(h[name]) > 0 {
				from = name
				break
			}
		}
	}
	source, want := "", int64(0)
	switch {
	case cc.sMaxage != absent:
		source, want = from+" s-maxage", cc.sMaxage*1000
	case cc.maxAge != absent:
		source, want = from+" max-age", cc.maxAge*1000
	case len(h["Expires"]) > 0 && !targeted:
		source = "Expires less Date"
		if at, ok := singleDate(h["Expires"], f.received); ok {
			want = max(at-f.date, 0)
		}
	default:
		return s.guessSource(f, status)
	}
	if want != f.lifetime {
		return "a ttl hook (" + source + " says " + seconds(want) + ")"
	}
	return source
}

func (s *site) guessSource(f *freshness, status int) string {
	if s.DefaultLifetime != nil {
		if d, ok := s.DefaultLifetime(status); ok && d.Milliseconds() == f.lifetime {
			return "default_lifetimes of the site"
		}
	}
	switch {
	case f.lifetime == 0:
		return "none"
	case f.flags&metaHeuristic != 0:
		return "a tenth of Date less Last-Modified"
	}
	return "a ttl hook"
}
