package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"testing"

	"github.com/edgenode/edgenode/node/edit"
)

// TestConnectionHidesFields: what a client names in Connection is nowhere seen:
// not by hooks, keys or variants, which would go by what the origin was not told.
// What hooks and the operator set reaches the origin whatever Connection names.
func TestConnectionHidesFields(t *testing.T) {
	w := newWorld(t, policy(rules{route: func(in *RouteInput, out *RouteDecision) {
		out.Edits = edits("request Role guest\nrequest Saw-Class " + string(in.Request.Header("Class")))
	}}), site1(func(s *Site) {
		s.KeyFields, s.KeyCookies = []string{"Device"}, []string{"lang"}
		s.Edits = []edit.Edit{{Name: []byte("Secret"), Value: []byte("s")}}
	}))
	w.says(func(r *http1) string {
		h := r.Header
		return w.ok("Cache-Control: max-age=60\nVary: Class", fmt.Sprint(h["Secret"], h["Role"], h["Class"], h["Saw-Class"], h["Device"], h["Cookie"], h["Connection"]))
	})
	lines := []string{"Class: a", "Device: mobile", "Cookie: lang=de"}
	w.expect(w.get("/a", append(lines, "Connection: secret, role,class, Device,Cookie, saw-class, close")...), 200, "[s] [guest] [] [] [] [] []", "fwd=uri-miss")
	w.expect(w.get("/a", lines...), 200, "[s] [guest] [a] [a] [mobile] [lang=de] []", "fwd=uri-miss")
	w.expect(w.get("/a"), 200, "[s] [guest] [] [] [] [] []", "hit")
	// Conditions and ranges that are named are not there either.
	w.expect(w.get("/a", "Range: bytes=0-1", "Connection: Range"), 200, "[s] [guest] [] [] [] [] []", "hit")
	// What a message must not lose stays.
	w.expect(w.get("/never", "Cache-Control: only-if-cached", "Connection: cache-control"), 504, "504 Gateway Timeout: only-if-cached, and there is no answer that may be used\n", "detail=only-if-cached")
}

func TestNamesFields(t *testing.T) {
	for line, want := range map[string]bool{
		"": false, "close": false, "Keep-Alive": false, "keep-alive, Upgrade": false, " TE ,,\tclose": false,
		"x": true, "close, cookie": true, "keep-alives": true, "upgrade;": true,
	} {
		if got := namesFields([]byte(line)); got != want {
			t.Errorf("%q: %v", line, got)
		}
	}
}

// TestOperatorsEditsHavePlace: a hook that changes as many fields as may be does
// not push out what the operator removes.
func TestOperatorsEditsHavePlace(t *testing.T) {
	w := newWorld(t, policy(rules{route: func(in *RouteInput, out *RouteDecision) {
		for i := range edit.Max {
			out.Edits = append(out.Edits, edit.Edit{Name: fmt.Appendf(nil, "h%d", i), Value: []byte("x")})
		}
		out.Edits = append(out.Edits, edits("request COOKIE mine")...)
	}}), site1(func(s *Site) { s.Edits = edits("-request Cookie") }))
	w.says(func(r *http1) string { return w.ok("", fmt.Sprint(r.Header["Cookie"], r.Header["H0"])) })
	w.expect(w.get("/a", "Cookie: a=b"), 200, "[] [x]", "fwd=uri-miss")
}

// TestClientsThatLeaveAreNoFailures: clients that go away before an answer do not
// put an origin to rest.
func TestClientsThatLeaveAreNoFailures(t *testing.T) {
	w := newWorld(t)
	asked, end := make(chan struct{}), make(chan struct{})
	w.does(func(c net.Conn, r *http.Request) {
		asked <- struct{}{}
		<-end
	})
	for range DefaultMaxFailures {
		x := w.request("POST", "/a")
		ctx, leave := context.WithCancelCause(context.Background())
		x.ctx = ctx
		done := make(chan struct{})
		go func() {
			defer close(done)
			w.serve(x)
		}()
		<-asked
		leave(errors.New("the client has gone"))
		<-done
	}
	close(end)
	if o := w.p.Pools()[0].Origins[0]; o.State != "up" || o.Failures != 0 {
		t.Errorf("%+v", o)
	}
}
