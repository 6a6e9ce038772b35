package crash_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// A record is what an id is after a write, or what it was asked to become.
type record struct {
	version uint64 // 0: not acknowledged
	gone    bool
	content string
	state   string
}

func (r record) String() string {
	if r.gone {
		return fmt.Sprintf("deleted at %d", r.version)
	}
	return fmt.Sprintf("%.40q (%d bytes) state %q at %d", r.content, len(r.content), r.state, r.version)
}

// is reports whether two records mean the same, their versions aside.
func (r record) is(o record) bool {
	return r.gone == o.gone && r.content == o.content && r.state == o.state
}

// A ledger knows per id the newest acknowledged record and those that were
// asked for and never answered. It is kept here, outside the process.
type ledger struct {
	mu    sync.Mutex
	last  map[string]record
	maybe map[string][]record
}

func newLedger() *ledger {
	return &ledger{last: map[string]record{}, maybe: map[string][]record{}}
}

// ask notes that an id was asked to become r; settled takes that back.
func (l *ledger) ask(id string, r record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.maybe[id] = append(l.maybe[id], r)
}

// settled notes that what was asked has an answer: r with its version, or r
// without one if it was refused.
func (l *ledger) settled(id string, r record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.IndexFunc(l.maybe[id], r.is); i >= 0 {
		l.maybe[id] = slices.Delete(l.maybe[id], i, i+1)
	}
	if r.version > l.last[id].version {
		l.last[id] = r
	}
}

// get returns the newest acknowledged record; before any, one that is gone.
func (l *ledger) get(id string) record {
	l.mu.Lock()
	defer l.mu.Unlock()
	r, known := l.last[id]
	if !known {
		r.gone = true
	}
	return r
}

// allows reports whether the node may show got for an id.
func (l *ledger) allows(id string, got record) bool {
	last := l.get(id)
	if got.gone && last.gone || !got.gone && got.is(last) && got.version == last.version {
		return true
	}
	for _, m := range l.maybe[id] {
		if got.is(m) && (got.gone || got.version > last.version) {
			return true
		}
	}
	return false
}

// check reads every id from the node, compares, and takes over what it says: the
// fate of what was not answered is known then and must not change any more.
func (l *ledger) check(p *process) error {
	seen := map[string]record{}
	ids := slices.Sorted(maps.Keys(l.last))
	for id := range l.maybe {
		if _, known := l.last[id]; !known {
			ids = append(ids, id)
		}
	}
	for _, id := range ids {
		got, err := readItem(p, id)
		if err != nil {
			return err
		}
		if !l.allows(id, got) {
			return fmt.Errorf("%s is %v; acknowledged: %v; asked: %v", id, got, l.get(id), l.maybe[id])
		}
		if got.gone {
			got.version = l.get(id).version
		} else {
			seen[id] = got
		}
		l.last[id] = got
	}
	l.maybe = map[string][]record{}
	return compareList(p, seen)
}

// readItem reads one item.
func readItem(p *process, id string) (record, error) {
	a, err := p.ask(context.Background(), "GET", "/v1/items/"+id+"?verify=1", "")
	if err != nil {
		return record{}, err
	}
	switch a.status {
	case http.StatusNotFound:
		return record{gone: true}, nil
	case http.StatusOK:
		v, err := strconv.ParseUint(a.header.Get("Edge-Version"), 10, 64)
		return record{version: v, content: a.body, state: a.header.Get("Edge-State")}, err
	}
	return record{}, fmt.Errorf("reading %s: %d %s", id, a.status, a.body)
}

// compareList demands that the node lists exactly want.
func compareList(p *process, want map[string]record) error {
	got, cursor := map[string]uint64{}, ""
	for {
		a, err := p.ask(context.Background(), "GET", "/v1/items?limit=1000"+cursor, "")
		if err != nil {
			return err
		}
		var page struct {
			Items []struct{ ID, Version string }
			Next  string
		}
		if err := json.Unmarshal([]byte(a.body), &page); err != nil || a.status != 200 {
			return fmt.Errorf("list: %d %v: %s", a.status, err, a.body)
		}
		for _, i := range page.Items {
			if got[i.ID], err = strconv.ParseUint(i.Version, 10, 64); err != nil {
				return err
			}
		}
		if page.Next == "" {
			break
		}
		cursor = "&cursor=" + page.Next
	}
	for id, r := range want {
		if got[id] != r.version {
			return fmt.Errorf("the list has %s at %d, reading it says %v", id, got[id], r)
		}
		delete(got, id)
	}
	if len(got) > 0 {
		return fmt.Errorf("the list has what cannot be read: %v", got)
	}
	return nil
}

// underPrefix returns the ids that the ledger knows under a prefix.
func (l *ledger) underPrefix(prefix string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var ids []string
	for id := range l.last {
		if strings.HasPrefix(id, prefix) {
			ids = append(ids, id)
		}
	}
	return ids
}
