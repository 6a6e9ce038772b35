package crash_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

// A writer changes ids until the node is gone. Those under its name are its own;
// so it knows what each of them is, and that conditions on it must hold.
type writer struct {
	name   string
	shared bool // it shares its ids with others: no conditions, no bulk deletes
	outage bool // SQL may be away: 503 leaves open what became of a write
	p      *process
	l      *ledger
	rng    *rand.Rand
	acked  func() // called for each acknowledgement
	n      int
}

// run writes until the node does not answer any more, which is nil, or says
// something that cannot be right.
func (w *writer) run(ctx context.Context) error {
	for ctx.Err() == nil {
		id := fmt.Sprintf("%s/k%d", w.name, w.rng.IntN(12))
		var lost bool
		var err error
		switch d := w.rng.IntN(100); {
		case d < 55:
			lost, err = w.put(ctx, id)
		case d < 70:
			lost, err = w.remove(ctx, id)
		case w.shared:
			lost, err = w.put(ctx, id)
		case d < 82:
			lost, err = w.putIf(ctx, id)
		case d < 90:
			lost, err = w.setState(ctx, id)
		case d < 96:
			lost, err = w.batch(ctx)
		default:
			lost, err = w.removeBatch(ctx)
		}
		if lost || err != nil {
			return err
		}
	}
	return nil
}

// content returns bytes that no other write has.
func (w *writer) content() string {
	w.n++
	size := w.rng.IntN(600)
	if w.rng.IntN(40) == 0 {
		size = 100_000
	}
	return fmt.Sprintf("%s %d %x ", w.name, w.n, w.rng.Uint64()) + strings.Repeat("x", size)
}

// atL3 asks for an acknowledgement by L3.
var atL3 = []string{"Edge-Durability", "l3"}

// unknownFate reports whether the node says that it does not know what will remain
// of a write, which is right only of one that asks for L3, and L3 takes long.
func unknownFate(a *answer, header []string) bool {
	return slices.Equal(header, atL3) && strings.Contains(a.body, "problem:unknown-fate")
}

// durability draws a level that survives a kill.
func (w *writer) durability() []string {
	switch w.rng.IntN(20) {
	case 0:
		return atL3
	case 1, 2, 3, 4:
		return []string{"Edge-Durability", "journal"}
	}
	return nil // the default, sync
}

// send makes one request that is to turn id into r. lost says that there was no
// answer; a status of refusals is an answer too, any other one is an error.
func (w *writer) send(ctx context.Context, id string, r record, method, path, body string, header []string, refusals ...int) (lost bool, err error) {
	before := w.l.get(id)
	w.l.ask(id, r)
	a, err := w.p.ask(ctx, method, path, body, header...)
	if err != nil {
		return true, nil
	}
	if w.outage && a.status == 503 {
		return false, nil // it stays among what was asked
	}
	if unknownFate(a, header) || w.outage && unknownFate(a, atL3) {
		w.shared = true // what it is from now on is not known here
		return false, nil
	}
	if a.status >= 400 {
		for _, s := range refusals {
			if a.status == s {
				w.l.settled(id, r)
				return false, nil
			}
		}
		return false, fmt.Errorf("%s %s = %d %s; acknowledged: %v", method, path, a.status, a.body, before)
	}
	if r.version, err = strconv.ParseUint(a.header.Get("Edge-Version"), 10, 64); err != nil {
		return false, fmt.Errorf("%s %s = %d without a version: %w", method, path, a.status, err)
	}
	if !w.shared && r.version <= before.version {
		return false, fmt.Errorf("%s %s made version %d after %v", method, path, r.version, before)
	}
	w.l.settled(id, r)
	w.acked()
	return false, nil
}

func (w *writer) put(ctx context.Context, id string) (bool, error) {
	r := record{content: w.content()}
	return w.send(ctx, id, r, "PUT", "/v1/items/"+id, r.content, w.durability())
}

func (w *writer) remove(ctx context.Context, id string) (bool, error) {
	return w.send(ctx, id, record{gone: true}, "DELETE", "/v1/items/"+id, "", w.durability())
}

// putIf writes on a condition that holds, or now and then on one that does not.
func (w *writer) putIf(ctx context.Context, id string) (bool, error) {
	r, last := record{content: w.content()}, w.l.get(id)
	condition := []string{"Edge-If-Version", strconv.FormatUint(last.version, 10)}
	if last.gone {
		condition = []string{"If-None-Match", "*"}
	}
	if w.rng.IntN(4) > 0 {
		return w.send(ctx, id, r, "PUT", "/v1/items/"+id, r.content, condition)
	}
	a, err := w.p.ask(ctx, "PUT", "/v1/items/"+id, r.content, "Edge-If-Version", "1")
	if err == nil && a.status != 412 {
		return false, fmt.Errorf("a write on version 1 of %s = %d, want 412", id, a.status)
	}
	return err != nil, nil
}

func (w *writer) setState(ctx context.Context, id string) (bool, error) {
	last := w.l.get(id)
	r := record{content: last.content, state: "s" + strconv.Itoa(w.rng.IntN(1000)), gone: last.gone}
	if last.gone {
		return w.send(ctx, id, r, "POST", "/v1/items/"+id+":state", `{"state":"`+r.state+`"}`, nil, 404)
	}
	return w.send(ctx, id, r, "POST", "/v1/items/"+id+":state", `{"state":"`+r.state+`"}`, w.durability())
}

// batch writes a few ids by one request. Each line of the answer is an
// acknowledgement, also when the answer is cut after it.
func (w *writer) batch(ctx context.Context) (bool, error) {
	var body strings.Builder
	asked := map[string]record{}
	for i := range 1 + w.rng.IntN(6) {
		id, r := fmt.Sprintf("%s/b/k%d", w.name, i), record{content: w.content()}
		asked[id] = r
		w.l.ask(id, r)
		if err := json.NewEncoder(&body).Encode(map[string]string{"id": id, "text": r.content}); err != nil {
			return false, err
		}
	}
	level := w.durability()
	a, err := w.p.ask(ctx, "POST", "/v1/items:put", body.String(), level...)
	if a == nil {
		return true, nil
	}
	whole := false
	for line := range strings.Lines(a.body) {
		var out struct {
			ID      string
			Status  int
			Version string
			End     bool
		}
		if !strings.HasSuffix(line, "\n") {
			break // cut
		}
		if err := json.Unmarshal([]byte(line), &out); err != nil {
			return false, fmt.Errorf("line %q: %w", line, err)
		}
		if whole = out.End; whole {
			break
		}
		if out.Status == 500 && slices.Equal(level, atL3) {
			continue // of unknown fate: it stays among what was asked
		}
		r, known := asked[out.ID]
		if r.version, _ = strconv.ParseUint(out.Version, 10, 64); !known || out.Status >= 300 || r.version == 0 {
			return false, fmt.Errorf("line %q after %v", line, asked)
		}
		w.l.settled(out.ID, r)
		w.acked()
	}
	if err == nil && !whole {
		return false, fmt.Errorf("a batch's answer ended early without an error: %q", a.body)
	}
	return err != nil, nil
}

// removeBatch deletes what batch wrote, by its prefix.
func (w *writer) removeBatch(ctx context.Context) (bool, error) {
	prefix := w.name + "/b/"
	ids := w.l.underPrefix(prefix)
	for _, id := range ids {
		w.l.ask(id, record{gone: true})
	}
	level := w.durability()
	a, err := w.p.ask(ctx, "DELETE", "/v1/items?prefix="+prefix, "", level...)
	if err != nil {
		return true, nil
	}
	var out struct{ Version string }
	if unknownFate(a, level) {
		return false, nil // it holds, and stays among what was asked
	}
	if err := json.Unmarshal([]byte(a.body), &out); err != nil || a.status != 200 {
		return false, fmt.Errorf("bulk delete of %s: %d %v: %s", prefix, a.status, err, a.body)
	}
	v, err := strconv.ParseUint(out.Version, 10, 64)
	if err != nil {
		return false, err
	}
	for _, id := range ids {
		w.l.settled(id, record{version: v, gone: true})
	}
	w.acked()
	return false, nil
}
