package replica

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/edgenode/edgenode/node/verify"
	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

var (
	_ verify.Tree = (*ownTree)(nil)
	_ verify.Tree = (*hubTree)(nil)
)

// An ownTree is a branch of this node's tree.
type ownTree struct {
	e    Engine
	path string
}

// Head returns its root.
func (t *ownTree) Head(ctx context.Context) (verify.Head, error) {
	return t.e.MerkleBranch(ctx, t.path)
}

// Rows returns rows of it.
func (t *ownTree) Rows(ctx context.Context, keys []string) ([][]byte, error) {
	return t.e.MerkleRows(ctx, t.path, keys)
}

// A hubTree is the same branch at the hub.
type hubTree struct {
	hub  *hub
	path string
}

// Head returns its root.
func (t *hubTree) Head(ctx context.Context) (verify.Head, error) {
	var answer struct {
		Format int    `json:"format"`
		State  string `json:"state"`
		Hash   string `json:"hash"`
		Seq    uint64 `json:"seq,string"`
	}
	if err := t.hub.object(ctx, http.MethodGet, "/v1/merkle/nodes?limit=0&path="+escape(t.path), nil, &answer); err != nil {
		return verify.Head{}, err
	}
	return verify.ParseHead(answer.Format, answer.State, answer.Hash, answer.Seq)
}

// Rows returns rows of it.
func (t *hubTree) Rows(ctx context.Context, keys []string) ([][]byte, error) {
	raw := make([][]byte, len(keys))
	for i, k := range keys {
		raw[i] = []byte(k)
	}
	body, err := json.Marshal(map[string]any{"path": t.path, "keys": raw})
	if err != nil {
		return nil, err
	}
	var answer struct {
		Rows [][]byte `json:"rows"`
	}
	err = t.hub.object(ctx, http.MethodPost, "/v1/merkle/diff", body, &answer)
	return answer.Rows, err
}

// compare makes what is here what the hub has, by the trees of hashes, and has the
// feed read from where the hub's tree was when it began.
//
// The hub is right: what it has is stored here if it is newer, and what it has not
// is removed, whether or not it remembers why. What is newer here stays, since
// versions never go back: it is counted and told.
func (r *Replica) compare(ctx context.Context, why string) error {
	r.enter(StateRepairing)
	begin := r.o.Now()
	store, err := r.hubStore(ctx)
	if err != nil {
		return err
	}
	c := comparison{r: r, g: group{r: r, ctx: ctx}}
	for pass, before := 0, -1; pass < maxPasses && c.g.stored != before; pass++ {
		before = c.g.stored
		if err := c.all(ctx); err != nil {
			return err
		}
	}
	r.metrics.compared(why, c.g.stored)
	r.newer.Store(c.newer)
	r.checked = r.o.Now()
	r.log.Info("compared with the hub", "why", why, "hub", r.o.From, "differed", c.differed, "stored", c.g.stored-c.removed, "removed", c.removed,
		"newer_here", c.newer, "took", time.Duration(r.checked-begin)*time.Millisecond)
	if why == whyCheck && store == r.cursor.Store {
		return nil // the feed goes on where it was
	}
	r.cursor.Store, r.cursor.Compare, r.cursor.Seq = store, "", c.from
	r.seq.Store(c.from)
	r.behind.Store(1) // until the feed says
	return r.cursor.save()
}

// maxPasses bounds the passes of a comparison. A tree that changes while it is read
// may hide a difference, and storing what was found changes this node's: so there is
// another pass after one that has stored something. What a busy hub changes
// meanwhile, the feed tells.
const maxPasses = 5

// hubStore returns the identity of the hub's database.
func (r *Replica) hubStore(ctx context.Context) (string, error) {
	a, err := r.hub.ask(ctx, http.MethodGet, "/v1/changes?form=record&since=now&limit=1", nil, silence)
	if err != nil {
		return "", err
	}
	defer a.close()
	store := a.resp.Header.Get(storeField)
	if store == "" {
		return "", errBadHub
	}
	return store, nil
}

// ownTreeIsWhole waits until everything that is here is in the tree: what is not
// would not be compared.
func (r *Replica) ownTreeIsWhole(ctx context.Context) error {
	if err := r.o.Engine.Flush(ctx); err != nil {
		return err
	}
	seq := r.o.Engine.LastChange()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		head, err := r.o.Engine.MerkleBranch(ctx, "")
		if err != nil && !errors.Is(err, tiers.ErrTreeUnknown) {
			return err
		}
		if err == nil && head.Known && head.Seq >= seq {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// A comparison is what differs, a page at a time.
type comparison struct {
	r   *Replica
	g   group
	ids []string

	from              uint64 // the feed is to be read from here: the least number of the branches
	begun             bool
	differed, removed int
	newer             int64
}

// all is one pass over all branches.
func (c *comparison) all(ctx context.Context) error {
	if err := c.r.ownTreeIsWhole(ctx); err != nil {
		return err
	}
	c.begun, c.newer = false, 0
	for _, path := range c.r.paths() {
		if err := c.branch(ctx, path); err != nil {
			return err
		}
	}
	return nil
}

// branch makes one branch equal.
func (c *comparison) branch(ctx context.Context, path string) error {
	theirs := &hubTree{c.r.hub, path}
	head, err := theirs.Head(ctx)
	if err != nil {
		return err
	}
	if !head.Known {
		return fmt.Errorf("replica: hub: %w", verify.ErrBuilding)
	}
	if !c.begun || head.Seq < c.from {
		c.from, c.begun = head.Seq, true
	}
	_, err = verify.Diff(ctx, &ownTree{c.r.o.Engine, path}, theirs, verify.Query{Path: []byte(path)}, func(d verify.Difference) error {
		if !d.Leaf {
			return nil
		}
		c.differed++
		c.ids = append(c.ids, string(d.ID))
		if len(c.ids) < groupRecords {
			return nil
		}
		return c.fetch(ctx)
	})
	if err != nil {
		return err
	}
	return c.fetch(ctx)
}

// A found is what the hub has of an id.
type found struct {
	ID      string `json:"id"`
	Record  []byte `json:"record"`
	Size    int64  `json:"size"` // of a content that is too long for a line
	Pending bool   `json:"pending"`
	Later   bool   `json:"later"`
	End     bool   `json:"end"`
}

// fetch asks for the records of ids, and stores them.
func (c *comparison) fetch(ctx context.Context) error {
	for len(c.ids) > 0 {
		later, err := c.page(ctx)
		if err != nil {
			return err
		}
		if len(later) >= len(c.ids) {
			return fmt.Errorf("%w: no record of %d", errBadHub, len(c.ids))
		}
		c.ids = later
	}
	return nil
}

// page asks once, and returns what is to be asked for again.
func (c *comparison) page(ctx context.Context) (later []string, err error) {
	body, err := json.Marshal(map[string]any{"ids": c.ids})
	if err != nil {
		return nil, err
	}
	a, err := c.r.hub.ask(ctx, http.MethodPost, "/v1/merkle/records", body, silence)
	if err != nil {
		return nil, err
	}
	defer a.close()
	lines := bufio.NewScanner(a)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var f found
		if err := json.Unmarshal(lines.Bytes(), &f); err != nil {
			return nil, fmt.Errorf("%w: %w", errBadHub, err)
		}
		switch {
		case f.End:
			return later, c.g.store()
		case f.Later:
			later = append(later, f.ID)
		default:
			if err := c.settle(ctx, &f); err != nil {
				return nil, err
			}
		}
	}
	return nil, errors.Join(errBadHub, lines.Err())
}

// settle makes one item what the hub has.
func (c *comparison) settle(ctx context.Context, f *found) error {
	key, ok := c.r.keyOf(f.ID)
	if !ok {
		return fmt.Errorf("%w: a record of %q", errBadHub, f.ID)
	}
	mine, _, err := c.r.o.Engine.Row(ctx, key)
	if err != nil {
		return err
	}
	switch {
	case f.Size > 0:
		return c.g.long(key)
	case f.Record != nil:
		if err := c.g.record(key, f.Record); err != nil {
			return err
		}
		if theirs := item.View(f.Record); mine != nil && mine.Version() > theirs.Version() {
			c.newer++
		}
	case mine == nil || mine.Kind() == item.KindTombstone || f.Pending:
		return nil // of what is on its way the feed tells
	default:
		c.removed++
		if err := c.g.record(key, tombstone(key, mine.Version()+1)); err != nil {
			return err
		}
	}
	if len(c.g.vs) < groupRecords && c.g.bytes < groupBytes {
		return nil
	}
	return c.g.store()
}
