//go:build wasip1

// policy-go: one policy with all four hooks, the same in every language; what it does
// stands in ../policy-c/policy-c.c.
package main

import (
	"bytes"
	"math"
	"math/bits"
	"strconv"

	"github.com/edgenode/edgenode/hooks/abi"
	"github.com/edgenode/edgenode/hooks/guest"
)

// Positions in the manifest's lists.
const (
	tenant = 0
	cookie = 1
	kind   = 0 // of the response headers
)

var (
	html    = uint32(30)
	session = []byte("session=")
)

func init() {
	guest.OnInit(configure)
	guest.OnRoute(route)
	guest.OnTTL(ttl)
	guest.OnEvict(evict)
	guest.OnAdmit(admit)
}

// configure asks for one value; encoding/json would make the module twice as big.
func configure([]byte) error {
	var buf [16]byte
	n := guest.Config(buf[:], "html")
	if n < 0 || n > len(buf) {
		return nil
	}
	v, err := strconv.ParseUint(string(buf[:n]), 10, 32)
	html = uint32(v)
	return err
}

func has(b []byte, prefix string) bool {
	return len(b) >= len(prefix) && string(b[:len(prefix)]) == prefix
}

func route(r *guest.Request, a *guest.Answer) {
	path := r.Path()
	if has(path, "/internal/") && !r.Is(abi.FlagClientCert) {
		a.Deny(403, "internal")
		return
	}
	if has(path, "/live/") {
		a.Pass()
		return
	}
	t, ok := r.Header(tenant)
	if !ok {
		return
	}
	if len(t) < 1 || len(t) > 32 {
		a.Deny(400, "bad tenant")
		return
	}
	a.KeyAddition(t)
	if has(t, "eu") {
		a.Pool(0)
	} else if has(t, "us") {
		a.Pool(1)
	}
}

func loggedIn(r *guest.Request) bool {
	if r.Is(abi.FlagTruncated) {
		return true // the cookie may have been cut off
	}
	for i := range r.Headers() {
		if name, value := r.Line(i); name == cookie && bytes.Contains(value, session) {
			return true
		}
	}
	return false
}

func ttl(r *guest.Request, a *guest.Answer) {
	if loggedIn(r) {
		a.NoStore()
		return
	}
	if r.Status() >= 400 {
		a.Lifetime(5)
		return
	}
	if has(r.Path(), "/static/") {
		a.Lifetime(31536000)
		a.Stale(60, abi.AsComputed)
		return
	}
	t, _ := r.ResponseHeader(kind)
	if has(t, "image/") {
		a.Lifetime(86400)
	} else if has(t, "text/html") {
		a.Lifetime(html)
	}
}

// log2 of v in 1/256, v > 0, straight between powers of two.
func log2(v uint32) int32 {
	zeros := bits.LeadingZeros32(v) & 31
	return int32((31-uint32(zeros))<<8 | v<<zeros>>23&255)
}

func score(c *abi.Candidate) int32 {
	if c.LeftSeconds == 0 {
		return -2000000000
	}
	uses := c.Hits
	if uses < math.MaxUint32 {
		uses++
	}
	return log2(uses) - log2(c.Size|1) - log2(c.IdleMillis/1024+1)
}

func evict(c *guest.Candidates, scores []int32) {
	all := c.All()
	for i := range all {
		scores[i] = score(&all[i])
	}
}

func admit(c *guest.Candidates) bool {
	all := c.All()
	worst := int32(math.MaxInt32)
	for i := 1; i < len(all); i++ {
		worst = min(worst, score(&all[i]))
	}
	return len(all) < 2 || score(&all[0]) > worst
}

func main() {}
