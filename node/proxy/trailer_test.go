package proxy

import (
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// Trailer implements trailing; what was sent stands among the interim answers.
func (x *exchange) Trailer(block []byte) bool {
	x.infos = append(x.infos, "trailer "+string(block))
	return true
}

// RFC 9110 §6.5: trailers go behind the body, to who asked for them, and nowhere
// else.
func TestRFC9110Section65Trailers(t *testing.T) {
	f := func(name, lines, body, method, te string, announced string, want ...string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.does(func(c net.Conn, r *http.Request) {
				io.WriteString(c, "HTTP/1.1 200 OK\r\n"+lines+"\r\n"+body)
			})
			x := w.request(method, "/a")
			if te != "" {
				x = w.request(method, "/a", "TE: "+te)
			}
			if w.serve(x); !slices.Equal(x.infos, want) || x.line("Trailer") != announced || x.line("X-T") != "" {
				t.Errorf("got %q, announced %q, want %q, announced %q", x.infos, x.line("Trailer"), want, announced)
			}
			if got := w.lastRequest().Header.Get("Te"); (got == "trailers") != strings.Contains(strings.ToLower(te), "trailers") {
				t.Errorf("the origin saw TE: %q", got)
			}
			x = w.request("GET", "/a", "TE: trailers")
			if w.serve(x); strings.HasPrefix(x.cache(), "hit") && (x.line("X-T") != "" || len(x.infos) > 0) {
				t.Errorf("a trailer was stored: %q %q", x.head.String(), x.infos)
			}
		})
	}
	const chunked = "Transfer-Encoding: chunked\r\n"
	const announces = chunked + "Trailer: x-t, Content-Type\r\n"
	const body = "2\r\nab\r\n0\r\nX-T: v\r\nx-t: w\r\nContent-Type: evil\r\n\r\n"
	f("passed", announces, body, "GET", "trailers", "X-T", "trailer X-T: v\r\nX-T: w\r\n")
	f("not announced", chunked, body, "GET", "gzip;q=0.5, Trailers", "", "trailer X-T: v\r\nX-T: w\r\n")
	f("stored", "Cache-Control: max-age=60\r\n"+announces, body, "GET", "trailers", "", "trailer X-T: v\r\nX-T: w\r\n")
	f("post", announces, body, "POST", "trailers", "X-T", "trailer X-T: v\r\nX-T: w\r\n")
	f("not wanted", announces, body, "GET", "", "")
	f("other codings", announces, body, "GET", "gzip", "")
	f("none", chunked, "2\r\nab\r\n0\r\n\r\n", "GET", "trailers", "")
}

// TestTrailersAndEdits: what the operator removes or sets does not come by the
// trailer.
func TestTrailersAndEdits(t *testing.T) {
	w := newWorld(t, site1(func(s *Site) { s.Edits = edits("-response x-secret\nresponse X-Set mine") }))
	w.does(func(c net.Conn, r *http.Request) {
		io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Secret, X-Set, X-T\r\n\r\n2\r\nab\r\n0\r\nX-Secret: s\r\nX-Set: theirs\r\nX-T: v\r\n\r\n")
	})
	x := w.get("/a", "TE: trailers")
	if want := []string{"trailer X-T: v\r\n"}; !slices.Equal(x.infos, want) || x.line("Trailer") != "X-T" || x.line("X-Set") != "mine" {
		t.Errorf("%q\n%s", x.infos, &x.head)
	}
}
