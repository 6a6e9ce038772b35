package proxy

import "testing"

// TestSpellingsOfAPath: no spelling of a path reaches through one site of a host
// what another one guards.
func TestSpellingsOfAPath(t *testing.T) {
	w := newWorld(t, func(o *Options) {
		guarded := o.Sites[0]
		guarded.Name, guarded.PathPrefix, guarded.Allow = "admin", "/admin", nets("10.0.0.0/8")
		o.Sites = append(o.Sites, guarded)
	})
	w.says(func(r *http1) string { return w.ok("", r.RequestURI) })
	f := func(status int, targets ...string) {
		t.Helper()
		for _, target := range targets {
			if x := w.get(target); x.status != status {
				t.Errorf("%s: %d, want %d", target, x.status, status)
			}
		}
	}
	f(403, "/admin", "/admin/", "/admin/a", "/admin?a", "/admin/%2e", "/admin//b;c")
	f(400, "/%61dmin", "//admin", "/./admin", "/a/../admin/b", "/a/%2e%2e/admin", "/..%2fadmin?b", "/a%2f..%2fadmin", `/a\..\admin`, "/admin;a=b", "/;a/admin", "/admin/../b", "/%zz/../%61dmin", "/admin/..%2fb")
	f(200, "/", "/a", "/administer", "/a%20b", "//a", "/a/./b", "/a;b=/admin", "/a?b=/../admin", "/b/admin", "/%2561dmin")
	// A host with one site takes all of them.
	w.options.Sites = w.options.Sites[:1]
	if err := w.p.Configure(w.options.Sites, w.options.Pools); err != nil {
		t.Fatal(err)
	}
	f(200, "/%61dmin", "//admin", "/a/../admin/b", "/admin;a=b")
}
