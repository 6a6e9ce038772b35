package tiers_test

import (
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l3"
	"github.com/edgenode/edgenode/tiers/tiertest/mariadbtest"
	"github.com/edgenode/edgenode/tiers/tiertest/redistest"
)

// A backing is what lies under the engines of a test, by the name of its subtest.
type backing struct {
	name           string
	mariadb, redis bool
	alone          bool // no other node writes to the server
}

// backings is the table of backends. The race detector sees those with SQLite:
// the engine does the same over a server, only slower.
func backings() []backing {
	all := []backing{{name: "sqlite"}, {name: "sqlite+redis", redis: true}, {name: "mariadb", mariadb: true}, {name: "mariadb+redis", mariadb: true, redis: true}}
	if raceEnabled {
		return all[:2]
	}
	return all
}

// under holds the options of the backends of a test, by its name: engines that
// it opens one after the other have the same.
var under sync.Map

// overBackends runs a scenario over each pair of backends: the engines that open
// starts for it are on SQLite or an empty database of a shared MariaDB server, with
// a Redis server of their own or none.
func overBackends(t *testing.T, run func(t *testing.T)) {
	t.Helper()
	overThese(t, backings(), run)
}

// overDatabases is overBackends for scenarios that bring their own Redis.
func overDatabases(t *testing.T, run func(t *testing.T)) {
	t.Helper()
	var list []backing
	for _, b := range backings() {
		if b.redis {
			list = append(list, backing{name: b.name, mariadb: b.mariadb})
		}
	}
	overThese(t, list, run)
}

// overSQL is overBackends for scenarios in which a read must come to L3.
func overSQL(t *testing.T, run func(t *testing.T)) {
	t.Helper()
	overThese(t, slices.DeleteFunc(backings(), func(b backing) bool { return b.redis }), run)
}

// overOwn is overBackends with servers that no other node writes to: conditions
// are decided by the node.
func overOwn(t *testing.T, run func(t *testing.T)) {
	t.Helper()
	overThese(t, owned(), run)
}

func owned() []backing {
	list := backings()
	for i := range list {
		list[i].alone = true
	}
	return list
}

// overDialects runs a scenario of one node over SQLite, and over a server that it
// has to itself: what it writes is known here first.
func overDialects(t *testing.T, run func(t *testing.T)) {
	t.Helper()
	overThese(t, slices.DeleteFunc(owned(), func(b backing) bool { return b.redis }), run)
}

func overThese(t *testing.T, list []backing, run func(t *testing.T)) {
	for _, b := range list {
		t.Run(b.name, func(t *testing.T) {
			under.Store(t.Name(), b.options(t))
			defer under.Delete(t.Name())
			run(t)
		})
	}
}

func (b backing) options(t *testing.T) func(*tiers.Options) {
	url, redis := "", ""
	if b.mariadb {
		server := mariadbtest.Shared(t)
		url = server.URL(server.Database(t))
	}
	if b.redis {
		redis = redistest.Start(t, redistest.Options{}).URL()
	}
	return func(o *tiers.Options) {
		o.SQLURL, o.L3Shared, o.RedisURL = url, b.mariadb && !b.alone, redis
		o.FollowInterval = 20 * time.Millisecond
	}
}

// backendsOf applies the backends of t, or of the test that it is a part of.
func backendsOf(t *testing.T, o *tiers.Options) {
	for name := t.Name(); ; {
		if f, ok := under.Load(name); ok {
			f.(func(*tiers.Options))(o)
			return
		}
		i := strings.LastIndexByte(name, '/')
		if i < 0 {
			return
		}
		name = name[:i]
	}
}

// awaitL2 waits until L2 is trusted, if L3 answers, so that a scenario meets it.
func awaitL2(t *testing.T, e *tiers.Engine) {
	t.Helper()
	if e.Health(t.Context()).L3.OK {
		awaitTrust(t, e)
	}
}

// mayForget reports whether what lives in these tiers may be gone after a start:
// the first walk along a shared L3 also drops a copy of the version of a
// tombstone, see DESIGN.md.
func mayForget(t *testing.T, in item.Tiers) bool {
	return in&item.L3 == 0 && strings.Contains(t.Name(), "mariadb")
}

// openL3 opens what the engines of t in dir have as L3; no engine is open.
func openL3(t *testing.T, dir string) *l3.Store {
	t.Helper()
	o := tiers.Options{SQLitePath: filepath.Join(dir, "edgenode.db")}
	backendsOf(t, &o)
	if o.SQLURL != "" {
		o.SQLitePath = ""
	}
	s, err := l3.Open(t.Context(), l3.Options{Path: o.SQLitePath, URL: o.SQLURL})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// countRows counts the items in L3.
func countRows(t *testing.T, s *l3.Store) (n int) {
	t.Helper()
	err := s.Scan(t.Context(), l3.ScanQuery{Limit: 10_000}, func(v item.View) error {
		if v.Key().Namespace() == item.NamespaceItem {
			n++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}
