package tiers

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/edgenode/edgenode/tiers/durable"
	"github.com/edgenode/edgenode/tiers/l3"
)

// A node is registered in L3 under its identity while it runs. What is kept for
// nodes (changes, tombstones, rules) is kept until each has applied it; and a
// second node with the identity of the first, a copied data directory, is found.
//
// After a crash the registration of the last process is there still. The lock of
// the data directory says that this process is over, if it ran here: then its
// place is taken at once. Elsewhere its lease is waited for.

const (
	heartbeatEvery = 3 * time.Second
	nodeLease      = 3*heartbeatEvery + time.Second
	// identityPatience is how long Open looks whether another holder of the
	// identity lives, that is, renews its lease.
	identityPatience = heartbeatEvery + time.Second
	identityPoll     = 200 * time.Millisecond
	ownIncarnations  = 8
)

// A registration is this process among the nodes of L3. Only Open, then the
// keeper, then Close use it.
type registration struct {
	host string
	runs incarnations
	due  int64 // Unix ms of the next heartbeat
	held bool  // L3 has it
	// tell says that a rule was met, which somebody may wait for; soon, of capacity
	// 1, that the keeper is to look.
	tell atomic.Bool
	soon chan struct{}

	conflict atomic.Pointer[string] // somebody else has the identity; read by health
}

// incarnations are the processes that have run on this directory, the present
// one last, as kept in the file incarnations.json. At says where: in a copy of
// the directory, or on another host, they are not one's own.
type incarnations struct {
	Format int      `json:"format"`
	At     string   `json:"at"`
	Runs   []string `json:"runs"`
}

// openRegistration notes in the data directory that a new process runs.
func (e *Engine) openRegistration() {
	r := &e.node
	r.host, _ = os.Hostname()
	r.soon = make(chan struct{}, 1)
	at, err := filepath.Abs(e.options.DataDir)
	if err == nil {
		if real, err := filepath.EvalSymlinks(at); err == nil {
			at = real
		}
	}
	at = r.host + ":" + at
	path := filepath.Join(e.options.DataDir, "incarnations.json")
	if b, err := os.ReadFile(path); err == nil && json.Unmarshal(b, &r.runs) != nil || r.runs.At != at || r.runs.Format != identityFormat {
		r.runs = incarnations{}
	}
	r.runs.Format, r.runs.At = identityFormat, at
	r.runs.Runs = append(r.runs.Runs, uuid.NewString())
	r.runs.Runs = r.runs.Runs[max(0, len(r.runs.Runs)-ownIncarnations):]
	b, err := json.Marshal(&r.runs)
	if err == nil {
		err = durable.Replace(path, append(b, '\n'))
	}
	if err != nil {
		e.logger.Warn("this run is not noted; the next start after a crash waits until its lease in L3 is over", "err", err)
	}
}

func (r *registration) incarnation() string { return r.runs.Runs[len(r.runs.Runs)-1] }

// applied returns the last change of L3 that nothing here is behind of any more.
func (e *Engine) applied() uint64 {
	if e.options.L3Shared {
		return e.followed.Load()
	}
	return e.l3.LastSeq() // all changes are this node's own
}

func (e *Engine) nodeInfo(incarnation string, lease time.Duration) l3.NodeInfo {
	return l3.NodeInfo{
		ID: e.identity.ID, Name: e.identity.Name, Addr: e.node.host, Incarnation: incarnation,
		AppliedSeq: e.applied(), LeaseUntil: e.clock.UnixMilli() + lease.Milliseconds(),
	}
}

// register makes or renews the registration. Where an earlier process of this
// directory holds it, that is ended first. It fails with l3.ErrIdentityInUse if
// somebody else does; then other is that node.
func (e *Engine) register(ctx context.Context) (other l3.NodeInfo, err error) {
	ctx, cancel := context.WithTimeout(ctx, e.l3TimeoutNow())
	defer cancel()
	r := &e.node
	err = e.l3.RegisterNode(ctx, e.nodeInfo(r.incarnation(), nodeLease))
	if errors.Is(err, l3.ErrIdentityInUse) {
		if other, err = e.takeOver(ctx, err); err == nil {
			err = e.l3.RegisterNode(ctx, e.nodeInfo(r.incarnation(), nodeLease))
		}
	}
	switch {
	case err == nil:
		r.held = true
		r.due = e.clock.UnixMilli() + heartbeatEvery.Milliseconds()
		if r.conflict.Swap(nil) != nil {
			e.logger.Info("the identity is this node's again", "id", e.identity.ID)
		}
	case errors.Is(err, l3.ErrIdentityInUse):
		r.held = false
		text := err.Error()
		if r.conflict.Swap(&text) == nil {
			e.logger.Warn("another holder of this node's identity is registered in L3", "err", err)
		}
	}
	return other, err
}

// takeOver ends the lease of an earlier process of this directory, which its lock
// says is over. Else it returns inUse and who holds the identity.
func (e *Engine) takeOver(ctx context.Context, inUse error) (other l3.NodeInfo, err error) {
	nodes, err := e.l3.Nodes(ctx)
	if err != nil {
		return other, err
	}
	i := slices.IndexFunc(nodes, func(n l3.NodeInfo) bool { return n.ID == e.identity.ID })
	if i < 0 {
		return other, nil // gone meanwhile
	}
	if other = nodes[i]; !slices.Contains(e.node.runs.Runs, other.Incarnation) {
		return other, inUse
	}
	return other, e.l3.RegisterNode(ctx, e.nodeInfo(other.Incarnation, -time.Millisecond))
}

// join registers at start, when L3 is there. It fails if another holder of the
// identity is alive. One that does not renew its lease for identityPatience is
// not: the keeper registers when that lease is over.
func (e *Engine) join(ctx context.Context) error {
	first, err := e.register(ctx)
	if !errors.Is(err, l3.ErrIdentityInUse) {
		if err != nil {
			e.logger.Debug("not registered in L3 yet", "err", err)
		}
		return nil
	}
	limit := time.NewTimer(identityPatience)
	defer limit.Stop()
	tick := time.NewTicker(identityPoll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-limit.C:
			return nil
		case <-tick.C:
		}
		other, err := e.register(ctx)
		if !errors.Is(err, l3.ErrIdentityInUse) {
			return nil
		}
		if other.LeaseUntil > first.LeaseUntil || other.Incarnation != first.Incarnation {
			return err
		}
	}
}

// heartbeat renews the registration when it is due, or makes it when L3 came
// later.
func (e *Engine) heartbeat() {
	if !e.loaded.Load() || !e.l3Up() {
		return
	}
	if told := e.node.tell.Swap(false); e.node.held && !told && e.clock.UnixMilli() < e.node.due {
		return
	}
	if _, err := e.register(e.ctx); err != nil && e.ctx.Err() == nil {
		e.logger.Debug("not registered in L3", "err", err)
	}
}

// leaveNodes ends the registration in order.
func (e *Engine) leaveNodes() {
	if !e.node.held || !e.l3Up() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), probePatience)
	defer cancel()
	if err := e.l3.RegisterNode(ctx, e.nodeInfo(e.node.incarnation(), -time.Millisecond)); err != nil {
		e.logger.Debug("the registration in L3 ends with its lease", "err", err)
	}
}

// Nodes returns those that share this engine's L3, by id. One is known until it is
// removed, or has been away for the retention of tombstones.
func (e *Engine) Nodes(ctx context.Context) ([]Node, error) {
	if err := e.enterRead(); err != nil {
		return nil, err
	}
	defer e.leave()
	limited, cancel := context.WithTimeout(ctx, e.l3TimeoutNow())
	defer cancel()
	list, err := e.l3.Nodes(limited)
	if err != nil {
		return nil, e.feedError(ctx, err)
	}
	cutoff := e.clock.UnixMilli() - time.Duration(e.retention.Load()).Milliseconds()
	nodes := make([]Node, 0, len(list))
	for _, n := range list {
		node := Node{ID: n.ID, Name: n.Name, Addr: n.Addr, Self: n.ID == e.identity.ID, Live: n.Live, Applied: n.AppliedSeq, LeaseUntil: n.LeaseUntil}
		if node.Self {
			node.Applied = e.applied()
		}
		if node.Self || node.Live || n.LeaseUntil > cutoff {
			nodes = append(nodes, node)
		}
	}
	return nodes, nil
}

// RemoveNode forgets a node that is gone for good, so that nothing is kept for it
// any more and no purge waits for it. It fails with ErrNodeLive for one that is
// not gone. A node that comes back nevertheless registers again.
func (e *Engine) RemoveNode(ctx context.Context, id string) (existed bool, err error) {
	nodes, err := e.Nodes(ctx)
	if err != nil {
		return false, err
	}
	if slices.ContainsFunc(nodes, func(n Node) bool { return n.ID == id && (n.Live || n.Self) }) {
		return false, ErrNodeLive
	}
	if err := e.enterWrite(); err != nil {
		return false, err
	}
	defer e.leave()
	limited, cancel := context.WithTimeout(ctx, e.l3TimeoutNow())
	defer cancel()
	if existed, err = e.l3.RemoveNode(limited, id); err != nil {
		return false, e.feedError(ctx, err)
	}
	return existed, nil
}

// appliedPoll is how often AwaitApplied looks at the nodes.
const appliedPoll = 50 * time.Millisecond

// AwaitApplied returns the nodes when all of them have applied the changes up to
// seq, or, if that takes longer, when ctx ends; then it is no error.
func (e *Engine) AwaitApplied(ctx context.Context, seq uint64) ([]Node, error) {
	tick := time.NewTicker(appliedPoll)
	defer tick.Stop()
	for {
		if e.options.L3Shared && e.applied() < seq {
			signal(e.followNow)
		}
		nodes, err := e.Nodes(context.WithoutCancel(ctx))
		if err != nil || !slices.ContainsFunc(nodes, func(n Node) bool { return n.Applied < seq }) {
			return nodes, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nodes, nil
		case <-e.closing:
			return nodes, nil
		}
	}
}
