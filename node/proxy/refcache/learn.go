package refcache

import (
	"net/url"
	"slices"
	"strings"
)

// Learn tells the cache of an exchange with the origin on behalf of r, and
// returns what the client that asked may be given for it: the answer itself, or,
// if it was a 304 to our own question, what was renewed. validated is the entry
// whose validators were sent, or nil.
func (c *Cache) Learn(r Request, a Answer, validated *Entry) (renewed *Entry) {
	switch {
	case a.Status == 304 && validated != nil && (r.Method == "GET" || r.Method == "HEAD"):
		return c.renew(r, a, validated)
	case r.Method == "HEAD":
		c.learnHead(r, a)
	case r.Method == "POST":
		c.Invalidate(r, a)
		c.learnPost(r, a)
	case r.Method == "OPTIONS", a.Status == 304:
	case r.Method != "GET":
		c.Invalidate(r, a)
	default:
		c.store(r, a)
	}
	return nil
}

// Read returns an answer as it would be stored.
func (c *Cache) Read(r Request, a Answer) *Entry { return newEntry(r, a, &c.Policy) }

// Storable reports whether a shared cache may store the answer (RFC 9111 §3,
// §3.5, the site's rule for cookies) and, if so, whether it should.
func (c *Cache) Storable(e *Entry) (may, should bool) {
	d, f := e.directives, e.Answer.Fields
	understood := registered(e.Answer.Status)
	switch {
	case e.Answer.Status < 200, e.Answer.Status == 206, e.Answer.Status == 304:
		return false, false
	case d.has("must-understand") && !understood:
		return false, false
	case d.has("no-store") && !d.has("must-understand"):
		return false, false
	case d.bare("private"):
		return false, false
	case e.Request.Fields.Has("Authorization") && !d.has("public") && !d.has("must-revalidate") && !d.has("s-maxage"):
		return false, false
	case slices.Contains(varyNames(f), "*"):
		return false, false
	case f.Has("Set-Cookie") && !d.has("public") && !d.has("s-maxage") && !e.targeted:
		return false, false
	case d.bare("no-cache") && !e.hasValidator():
		return true, false // it could never be used
	case e.explicit:
		return true, e.hasValidator() || e.age < slices.Min(e.lifetimes)
	case heuristic(e.Answer.Status), d.has("public"):
		return true, e.hasValidator()
	}
	return false, false
}

// store keeps a complete answer, in place of those that the same request
// selected.
func (c *Cache) store(r Request, a Answer) {
	e := newEntry(r, a, &c.Policy)
	may, should := c.Storable(e)
	if !may {
		// What was there may stay, or go with the old answer's being refuted.
		for _, old := range c.selected(r) {
			old.Doubt = true
		}
		return
	}
	old := c.selected(r)
	if a.Status >= 500 && len(old) > 0 {
		should = false // an error need not displace what is good (RFC 5861 §4)
	}
	if a.Status != 200 && (r.Fields.Has("If-None-Match") || r.Fields.Has("If-Modified-Since")) {
		should = false // it may be an answer to the client's condition
	}
	for _, o := range old {
		o.Doubt = o.Doubt || !should
	}
	e.Doubt = !should
	vary := strings.Join(varyNames(e.Answer.Fields), ",")
	same := func(old *Entry) bool { return strings.Join(varyNames(old.Answer.Fields), ",") == vary }
	for _, old := range c.stored {
		if old.Request.URL == r.URL && !same(old) {
			old.Doubt = true // RFC 9111 §4.1 lets a cache keep them
		}
	}
	c.stored = slices.DeleteFunc(c.stored, func(old *Entry) bool {
		return should && old.Request.URL == r.URL && same(old) && varyMatches(old, r.Fields)
	})
	c.stored = append(c.stored, e)
}

// learnPost keeps the answer to a POST that says it is what a GET would have got
// (RFC 9110 §9.3.3).
func (c *Cache) learnPost(r Request, a Answer) {
	if at, ok := resolve(r.URL, a.Fields.First("Content-Location")); !ok || at != r.URL {
		return
	}
	e := newEntry(r, a, &c.Policy)
	if may, should := c.Storable(e); may && should && e.explicit {
		e.Doubt = true // optional
		c.stored = append(c.stored, e)
	}
}

// learnHead puts what is stored in doubt: a HEAD may renew it, make it stale, or
// leave it alone (RFC 9111 §4.3.5).
func (c *Cache) learnHead(r Request, a Answer) {
	for _, e := range c.selected(r) {
		e.Doubt = true
		if a.Status == e.Answer.Status && agree(e.Answer.Fields, a.Fields, "ETag") && agree(e.Answer.Fields, a.Fields, "Last-Modified") {
			c.renew(r, a, e)
		}
	}
	c.Drop(r.URL)
}

func agree(old, news Fields, name string) bool {
	return !news.Has(name) || old.First(name) == news.First(name)
}

// Renewed returns what a 304 makes of a stored answer, after RFC 9111 §3.2 and
// §4.3.4: every field of the 304 but Content-Length replaces the stored one. It
// is now the answer to the request r, with or without Authorization: for that the
// origin has said that it is the right one.
func (c *Cache) Renewed(r Request, a Answer, old *Entry) *Entry {
	news := a.Fields.EndToEnd().without(map[string]bool{"content-length": true})
	replaced := map[string]bool{"age": true, "date": true} // they told of the old answer
	for _, f := range news {
		replaced[strings.ToLower(f.Name)] = true
	}
	merged := a
	merged.Status, merged.Body = old.Answer.Status, old.Answer.Body
	merged.Fields = append(old.Shown().without(replaced), news...) // what is withheld need not have been kept
	e := newEntry(r, merged, &c.Policy)
	own := newEntry(r, a, &c.Policy).directives // which a stored targeted field may hide
	e.withheld = append(own.names("no-cache"), own.names("private")...)
	return e
}

// renew keeps what a 304 made of old, if it may be stored.
func (c *Cache) renew(r Request, a Answer, old *Entry) *Entry {
	e := c.Renewed(r, a, old)
	may, should := c.Storable(e)
	if !may || !c.forOthers(r, a, e) {
		// The 304 must not be stored (RFC 9111 §3, §3.5). What it would have
		// renewed may stay as it was, or go.
		old.Doubt = true
		return e
	}
	e.Doubt = !should
	switch sameVary := slices.Equal(varyNames(e.Answer.Fields), varyNames(old.Answer.Fields)); {
	case r.Method == "HEAD": // optional
		e.Doubt, old.Doubt = true, true
	case !sameVary: // RFC 9111 §4.1 lets a cache keep the old one for others
		old.Doubt = true
	default: // it was there, so that nothing else was in its place
		c.Confirm(r, old)
		c.stored = slices.DeleteFunc(c.stored, func(o *Entry) bool { return o == old })
	}
	c.stored = append(c.stored, e)
	return e
}

// MayRenew keeps what a 304 would have made of old, in doubt, beside old.
func (c *Cache) MayRenew(r Request, a Answer, old *Entry) {
	e := c.Renewed(r, a, old)
	old.Doubt, e.Doubt = true, true
	if may, _ := c.Storable(e); may && c.forOthers(r, a, e) {
		c.stored = append(c.stored, e)
	}
}

// forOthers reports whether what a 304, or the answer to a HEAD, brings for a
// stored answer may be given to others, by its own word: that of the stored answer
// was about other fields, and maybe another client's (RFC 9111 §3, §3.5). e is what
// it makes of the stored one.
func (c *Cache) forOthers(r Request, a Answer, e *Entry) bool {
	own := newEntry(r, a, &c.Policy)
	d, f := own.directives, own.Answer.Fields
	switch {
	case d.bare("private"), d.has("no-store") && !d.has("must-understand"):
		return false
	case r.Fields.Has("Authorization") && !d.has("public") && !d.has("must-revalidate") && !d.has("s-maxage"):
		return false
	case slices.Contains(varyNames(f), "*"):
		return false
	case f.Has("Set-Cookie") && e.Shown().Has("Set-Cookie") && !d.has("public") && !d.has("s-maxage") && !own.targeted:
		return false
	}
	return true
}

// Invalidate follows RFC 9111 §4.4 for the header of an answer to an unsafe
// request; Learn does so by itself.
func (c *Cache) Invalidate(r Request, a Answer) {
	if a.Status >= 400 || a.Status < 200 {
		return
	}
	targets := []string{r.URL}
	for _, name := range []string{"Location", "Content-Location"} {
		if u, ok := resolve(r.URL, a.Fields.First(name)); ok && sameOrigin(u, r.URL) {
			targets = append(targets, u)
		}
	}
	for _, e := range c.stored {
		e.Invalid = e.Invalid || slices.Contains(targets, e.Request.URL)
	}
}

// Purge drops what has this URL; softly it is made stale.
func (c *Cache) Purge(url string, soft bool) {
	if !soft {
		c.stored = slices.DeleteFunc(c.stored, func(e *Entry) bool { return e.Request.URL == url })
		return
	}
	for _, e := range c.stored {
		e.Soft = e.Soft || e.Request.URL == url
	}
}

// Confirm says that e was seen to be stored when r asked: no doubtful answer is
// in its place.
func (c *Cache) Confirm(r Request, e *Entry) {
	c.stored = slices.DeleteFunc(c.stored, func(o *Entry) bool {
		return o != e && o.Doubt && o.Request.URL == r.URL && slices.Equal(varyNames(o.Answer.Fields), varyNames(e.Answer.Fields)) && varyMatches(o, r.Fields)
	})
	e.Doubt = false
}

// Deny says that nothing that was in doubt is stored for r.
func (c *Cache) Deny(r Request) {
	c.stored = slices.DeleteFunc(c.stored, func(o *Entry) bool { return o.Doubt && o.Request.URL == r.URL && varyMatches(o, r.Fields) })
}

// Drop puts everything of a URL in doubt, after an exchange whose outcome the
// caller cannot tell.
func (c *Cache) Drop(url string) {
	for _, e := range c.stored {
		e.Doubt = e.Doubt || e.Request.URL == url
	}
}

func resolve(base, ref string) (string, bool) {
	if ref == "" {
		return "", false
	}
	b, err := url.Parse(base)
	if err != nil {
		return "", false
	}
	u, err := b.Parse(ref)
	if err != nil {
		return "", false
	}
	return u.String(), true
}

func sameOrigin(a, b string) bool {
	x, err1 := url.Parse(a)
	y, err2 := url.Parse(b)
	return err1 == nil && err2 == nil && x.Scheme == y.Scheme && x.Host == y.Host
}
