package proxy

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// An update that is for one client (by its own fields, or by the request it
// answers) reaches nobody else, and does not renew the stored answer. What may be
// shared is merged as ever (RFC 9111 §3, §3.2, §3.5).
func TestUpdateAlone(t *testing.T) {
	const alice, session = "Authorization: Bearer alice", "Set-Cookie: s=alice"
	for i, c := range []struct {
		stored, who, update string
		merged              bool
	}{
		{"s-maxage=5", "Cookie: id=alice", session, false},
		{"s-maxage=5", "Cookie: id=alice", session + "\nCache-Control: max-age=60", false},
		{"max-age=5\nCDN-Cache-Control: max-age=5", "", session + "\nCache-Control: max-age=60", false},
		{"max-age=5, public", "", session + "\nCache-Control: max-age=60, public", true},
		{"max-age=5, public", "", session + "\nCDN-Cache-Control: max-age=60", true},
		{"max-age=5, public", alice, "X-User: alice", false},
		{"max-age=5, public", alice, "X-User: alice\nCache-Control: max-age=60", false},
		{"max-age=5, public", alice, "X-User: alice\nCDN-Cache-Control: max-age=60", false},
		{"max-age=5, must-revalidate", alice, "X-User: alice\nCache-Control: max-age=60, must-revalidate", true},
		{"max-age=5", alice, "X-User: alice\nCache-Control: s-maxage=60", true},
		{"max-age=5, public", "", "X-User: alice", true},
		{"max-age=5, public", "", "X-User: alice\nCache-Control: private", false},
		{"max-age=5\nCDN-Cache-Control: max-age=5", "", "X-User: alice\nCache-Control: private", false},
		{"max-age=5\nCDN-Cache-Control: max-age=5", "", "X-User: alice\nCache-Control: no-store", false},
		{"max-age=5\nEdgenode-Cache-Control: max-age=5", "", "X-User: alice\nCDN-Cache-Control: private", false},
		{"max-age=5\nEdgenode-Cache-Control: max-age=5", "", "X-User: alice\nCDN-Cache-Control: no-store", false},
		{"max-age=5", "", "X-User: alice\nCache-Control: max-age=60, x=\"", false},
		{"max-age=5", "", "X-User: alice\nVary: *", false},
	} {
		for _, method := range []string{"GET", "HEAD"} {
			t.Run(fmt.Sprintf("%d%s", i, method), func(t *testing.T) {
				w := newWorld(t)
				w.always(w.ok("ETag: \"e\"\nX-User: all\nCache-Control: "+c.stored, "x"))
				w.get("/a")
				w.pass(10 * time.Second)
				status := map[string]int{"GET": 304, "HEAD": 200}[method]
				w.says(func(r *http.Request) string { return headless(r, w.status(status, "ETag: \"e\"\n"+c.update, "x")) })
				var who []string
				if c.who != "" {
					who = append(who, c.who)
				}
				mine := w.serve(w.request(method, "/a", who...))
				if mine.status != 200 || !strings.Contains(mine.line("X-User")+mine.line("Set-Cookie"), "alice") {
					t.Errorf("its own client got %d %s", mine.status, mine.head.String())
				}
				w.says(func(r *http.Request) string {
					if asksIfModified(r.Header) {
						return w.status(304, "", "")
					}
					return w.ok("", "x")
				})
				w.pass(time.Second)
				asked := w.requests()
				next := w.get("/a")
				got := strings.Contains(next.line("X-User")+next.line("Set-Cookie"), "alice")
				if got != c.merged {
					t.Errorf("merged %v, want %v: the next got %s", got, c.merged, next.head.String())
				}
				if !c.merged && w.requests() == asked {
					t.Errorf("the stored answer was renewed: %s", next.cache())
				}
				if next.status != 200 || next.out.String() != "x" {
					t.Errorf("the next got %d %q", next.status, next.out.String())
				}
			})
		}
	}
}

// Fields that an update names in private="…" or no-cache="…" are for its client,
// whichever field has the word; the rest is merged.
func TestUpdateWithheld(t *testing.T) {
	f := func(stored, update string) {
		t.Helper()
		w := newWorld(t)
		w.always(w.ok("ETag: \"e\"\nCache-Control: "+stored, "x"))
		w.get("/a")
		w.pass(10 * time.Second)
		w.always(w.status(304, "X-User: alice\nX-More: more\n"+update, ""))
		if x := w.get("/a"); x.line("X-User") != "alice" {
			t.Errorf("%s: its own client got %s", update, x.head.String())
		}
		w.always(w.status(304, "", ""))
		if x := w.get("/a"); x.line("X-User") != "" || x.line("X-More") != "more" {
			t.Errorf("%s: the next got %s", update, x.head.String())
		}
	}
	f("max-age=5", `Cache-Control: max-age=60, private="x-user"`)
	f("max-age=5", `Cache-Control: max-age=60, no-cache="X-User"`)
	f("max-age=5\nCDN-Cache-Control: max-age=5", `Cache-Control: max-age=60, private="x-user"`)
	f(`max-age=5, private="x-user"`, "X: y")
	f(`max-age=5, public, private="x-user"`, "Set-Cookie: a=b\nCache-Control: max-age=5, public, private=\"x-user\"")
}

// With set_cookie = "rfc" a Set-Cookie is merged like any field, with "never" not
// even by public.
func TestUpdateSetCookie(t *testing.T) {
	f := func(policy, update, want string) {
		t.Helper()
		w := newWorld(t, site1(func(s *Site) { s.SetCookie = policy }))
		w.always(w.ok("ETag: \"e\"\nCache-Control: max-age=5, public", "x"))
		w.get("/a")
		w.pass(10 * time.Second)
		w.always(w.status(304, "Set-Cookie: s=alice\n"+update, ""))
		w.get("/a")
		w.always(w.status(304, "", ""))
		if x := w.get("/a"); x.line("Set-Cookie") != want {
			t.Errorf("%s, %s: the next got %q, want %q", policy, update, x.line("Set-Cookie"), want)
		}
	}
	f(CookieRFC, "X: y", "s=alice")
	f(CookieRFC, "Cache-Control: private", "")
	f(CookieNever, "Cache-Control: max-age=5, public", "")
	f(CookieStrict, "Cache-Control: max-age=5, public", "s=alice")
}

// A 206 that would complete a stored part is judged by itself too: if it is for
// one client the whole is asked for, and handed to that client alone.
func TestUpdateOfParts(t *testing.T) {
	w := newWorld(t)
	body := strings.Repeat("0123456789", 2)
	w.says(func(r *http.Request) string {
		lines := "ETag: \"e\"\nAccept-Ranges: bytes\n"
		if r.Header.Get("Authorization") != "" {
			lines += "X-User: alice"
		} else {
			lines += "Cache-Control: max-age=60, public"
		}
		switch r.Header.Get("Range") {
		case "":
			return w.ok(lines, body)
		case "bytes=0-9":
			return w.status(206, lines+"\nContent-Range: bytes 0-9/20", body[:10])
		default:
			return w.status(206, lines+"\nContent-Range: bytes 10-19/20", body[10:])
		}
	})
	w.get("/a", "Range: bytes=0-9")
	x := w.get("/a", "Authorization: Bearer alice")
	w.expect(x, 200, body, "fwd=partial;fwd-status=200;detail=authorization")
	if x = w.get("/a"); x.line("X-User") != "" || x.out.String() != body {
		t.Errorf("the next got %s%s", x.head.String(), x.out.String())
	}
}

// Trailer fields that private="…" names are for nobody: those behind a body are
// the same for all who follow it.
func TestTrailerWithheld(t *testing.T) {
	w := newWorld(t)
	w.says(func(*http.Request) string {
		return "HTTP/1.1 200 OK\r\nCache-Control: public, max-age=60, private=\"x-user\"\r\nTransfer-Encoding: chunked\r\nTrailer: X-User, X-More\r\n\r\n1\r\nx\r\n0\r\nX-User: alice\r\nX-More: more\r\n\r\n"
	})
	x := w.serve(w.request("GET", "/a", "TE: trailers"))
	if got := strings.Join(x.infos, ""); !strings.Contains(got, "X-More: more") || strings.Contains(got, "alice") {
		t.Errorf("trailer %q", got)
	}
}

// What takes up an answer that broke off is shared with those who wait for it, so
// it is judged by itself as well.
func TestUpdateResumed(t *testing.T) {
	f := func(who, update string, shared bool) {
		t.Helper()
		w := newWorld(t, site1(func(s *Site) { s.ChunkBytes = 8 }))
		name, _, _ := strings.Cut(who, ":")
		const tag = "ETag: \"e\"\n"
		w.does(func(c net.Conn, r *http.Request) {
			switch {
			case r.Header.Get("Range") == "bytes=12-19" && r.Header.Get(name) != "":
				io.WriteString(c, w.status(206, tag+"Content-Range: bytes 12-19/20\n"+update, "forALICE"))
			case r.Header.Get("Range") != "":
				io.WriteString(c, w.status(206, tag+"Content-Range: bytes "+strings.TrimPrefix(r.Header.Get("Range"), "bytes=")+"/20\nCache-Control: public, max-age=60", "for  all"))
			default:
				raw := w.ok(tag+"Cache-Control: public, max-age=60", "01234567890123456789")
				io.WriteString(c, raw[:len(raw)-8])
				c.Close()
			}
		})
		w.get("/a", who)
		w.p.tasks.Wait()
		if x := w.get("/a"); strings.Contains(x.out.String(), "ALICE") != shared {
			t.Errorf("%s, %s: the next got %q %s", who, update, x.out.String(), x.cache())
		}
	}
	const token, cookie = "Authorization: Bearer alice", "Cookie: id=alice"
	f(token, "Cache-Control: public, max-age=60", true)
	f(token, "Cache-Control: private", false)
	f(token, "Cache-Control: no-store", false)
	f(token, "X: y", false)
	f(cookie, "Cache-Control: max-age=60", true)
	f(cookie, "Cache-Control: private", false)
	f(cookie, "Cache-Control: no-store", false) // holds for the merged fields as well
	f(cookie, "X: y", true)
}
