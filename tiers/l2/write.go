package l2

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/edgenode/edgenode/tiers/item"
)

// An OpKind says what an Op does.
type OpKind byte

// The kinds of operations.
const (
	// OpPut stores Record (a put) unless L2 holds something newer or equal. A
	// record whose lifetime in L2 is over is not stored; what is older than it
	// is removed all the same.
	OpPut OpKind = 1 + iota
	// OpTombstone stores Record (a tombstone), which lives for TombstoneTTL and
	// keeps older puts out.
	OpTombstone
	// OpDrop removes what L2 holds for Key if it is older than Version. For
	// twice the time limit of a call, older puts that are still under way are
	// kept out as well.
	OpDrop
)

// An Op is one operation of a batch. Its bytes are read during Apply only.
type Op struct {
	Kind    OpKind
	Record  item.View    // for OpPut and OpTombstone
	Key     item.Key     // for OpDrop
	Version item.Version // for OpDrop
}

// An Outcome says what became of an Op. With neither Won nor Same nor Err, L2
// holds something newer, or a newer form of value that is left alone.
type Outcome struct {
	Won  bool  // stored; for OpDrop: nothing older is there now
	Same bool  // the same write was there already
	Err  error // wraps ErrRejected or ErrUnavailable; what was done is told there
}

// Limits of one pipeline.
const (
	pipelineOps   = 1000
	pipelineBytes = 4 << 20
)

// Apply carries out ops in pipelines of up to 1,000 operations or 4 MiB, one or
// two round trips each, and fills in out, which must be as long as ops. Order among
// operations of one key does not matter: versions decide.
//
// An operation that the server refuses has its error in its outcome and does not
// fail the others. Apply returns an error that wraps ErrUnavailable if the
// server could not be asked; the operations it concerns have it too, and may
// have been done or not.
func (s *Store) Apply(ctx context.Context, ops []Op, out []Outcome) error {
	if len(out) != len(ops) {
		return fmt.Errorf("%w: apply: %d outcomes for %d operations", ErrRejected, len(out), len(ops))
	}
	var errs []error
	for len(ops) > 0 {
		n := pipelineLen(ops)
		if err := s.applyPart(ctx, ops[:n], out[:n]); err != nil {
			errs = append(errs, err)
			failRest(out[n:], err)
			break
		}
		ops, out = ops[n:], out[n:]
	}
	return errors.Join(errs...)
}

func failRest(out []Outcome, err error) {
	for i := range out {
		out[i] = Outcome{Err: err}
	}
}

// pipelineLen returns how many of ops go into the next pipeline.
func pipelineLen(ops []Op) int {
	size := 0
	for i, op := range ops {
		size += len(op.Record)
		if i == pipelineOps || i > 0 && size > pipelineBytes {
			return i
		}
	}
	return len(ops)
}

func (s *Store) applyPart(ctx context.Context, ops []Op, out []Outcome) error {
	start := time.Now()
	ctx2, cancel := s.bounded(ctx)
	defer cancel()
	calls := make([]call, len(ops))
	now := s.opts.Clock()
	values := s.borrow(ops)
	defer s.giveBack(values) // no command is under way then
	for i, op := range ops {
		calls[i] = s.callOf(op, now, values)
	}
	s.run(ctx2, calls)
	s.metrics.applyTime.UpdateDuration(start)
	var unavailable error
	for i := range calls {
		out[i] = s.outcome(ctx, ops[i].Kind, &calls[i])
		if err := out[i].Err; err != nil && !errors.Is(err, ErrRejected) && unavailable == nil {
			unavailable = err
		}
	}
	return unavailable
}

// maxKept bounds the buffers of values that are kept for the next batch.
const maxKept = 1 << 20

// borrow returns an empty buffer with room for the values of ops.
func (s *Store) borrow(ops []Op) *[]byte {
	size := 0
	for _, op := range ops {
		size += valueHeadLen + len(op.Record)
	}
	b, ok := s.values.Get().(*[]byte)
	if !ok || cap(*b) < size {
		fresh := make([]byte, 0, size)
		b = &fresh
	}
	*b = (*b)[:0]
	return b
}

func (s *Store) giveBack(b *[]byte) {
	if cap(*b) <= maxKept {
		s.values.Put(b)
	}
}

// A call is one script with one key, or what does the same.
type call struct {
	script   *script
	key      string
	arg      [3]any
	args     int
	put      bool
	cmd      *redis.Cmd
	tried    bool  // cmd is a SET
	answerIf int   // the answer, if tried, if that went well
	decided  bool  // answerIf is the answer, without a command
	err      error // found before it was sent
}

// callOf returns the script call of op, with its value in the free part of values.
func (s *Store) callOf(op Op, now int64, values *[]byte) call {
	if op.Kind == OpDrop {
		if err := op.Key.Check(); err != nil {
			return call{err: fmt.Errorf("%w: %w", ErrRejected, err)}
		}
		return s.dropCall(op.Key, bound(op.Version), now)
	}
	v := op.Record
	if kind, err := kindOf(op); err != nil {
		return call{err: fmt.Errorf("%w: %w", ErrRejected, err)}
	} else if kind != v.Kind() {
		return call{err: fmt.Errorf("%w: a record of kind %d for an operation of kind %d", ErrRejected, v.Kind(), op.Kind)}
	}
	r := registersOf(v)
	life := s.lifetime(v, now)
	if life <= 0 {
		return s.dropCall(v.Key(), r, now)
	}
	start := len(*values)
	*values = appendValue(*values, r, now+life, v)
	return call{script: &s.scripts.put, key: s.dataKey(v.Key()), arg: [3]any{(*values)[start:], life}, args: 2, put: true}
}

// kindOf returns the kind of record that op must have. It checks the record's
// form, so that a mistake of the caller is an error and not a panic.
func kindOf(op Op) (item.Kind, error) {
	if _, err := item.Parse(op.Record); err != nil {
		return 0, err
	}
	switch op.Kind {
	case OpPut:
		return item.KindPut, nil
	case OpTombstone:
		return item.KindTombstone, nil
	}
	return 0, fmt.Errorf("operation of the unknown kind %d", op.Kind)
}

// dropCall removes what is below r, and leaves a fence.
func (s *Store) dropCall(key item.Key, r registers, now int64) call {
	life := (2 * s.timeout()).Milliseconds()
	fence := appendValue(make([]byte, 0, valueHeadLen), r, now+life, nil)
	return call{script: &s.scripts.drop, key: s.dataKey(key), arg: [3]any{r[:], fence, life}, args: 3}
}

// lifetime returns how long a copy of v may live from now on, in ms; 0 or less
// if it is over.
func (s *Store) lifetime(v item.View, now int64) int64 {
	if v.Kind() == item.KindTombstone {
		return s.opts.TombstoneTTL.Milliseconds()
	}
	life := s.opts.MaxTTL.Milliseconds()
	if v.Tiers()&item.L3 != 0 {
		life = min(life, s.limits.Load().L2MaxTTL.Milliseconds())
	}
	if ttl := v.L2TTL(); ttl > 0 {
		life = min(life, ttl)
	}
	if at := v.ExpiresAt(); at != 0 {
		life = min(life, at-now)
	}
	return life
}

// run sends calls in one pipeline. What a server does not know the script of is
// sent again with its source.
func (s *Store) run(ctx context.Context, calls []call) {
	if s.guessNew(calls) {
		s.send(ctx, calls, (*call).isPut, (*call).setNew)
	} else {
		s.putWatched(ctx, calls)
	}
	s.send(ctx, calls, (*call).undone, (*call).byName)
	s.send(ctx, calls, (*call).unknown, (*call).bySource)
	s.learnNew(calls)
}

// send makes one pipeline of the calls for which is true, if any.
func (s *Store) send(ctx context.Context, calls []call, which func(*call) bool, how func(*call, context.Context)) {
	var pipe redis.Pipeliner
	for i := range calls {
		c := &calls[i]
		if !which(c) {
			continue
		}
		if pipe == nil {
			pipe = s.client.Pipeline()
		}
		how(c, ctx)
		_ = pipe.Process(ctx, c.cmd) // queues only
	}
	if pipe != nil {
		_, _ = pipe.Exec(ctx) // each command has its own error
	}
}

// isPut reports whether it may be done without the script.
func (c *call) isPut() bool { return c.err == nil && c.put }

// value is what a put stores.
func (c *call) value() []byte { return c.arg[0].([]byte) }

// setNew is the put of a key that is not there: without the script, which costs
// the server some ten times a SET.
func (c *call) setNew(ctx context.Context) {
	c.cmd = redis.NewCmd(ctx, "set", c.key, c.arg[0], "px", c.arg[1], "nx")
	c.tried, c.answerIf = true, answerNew
}

// undone reports whether the script is to be run: it was not tried without, or
// something is there, or memory is short, when the script still replaces what is
// older.
func (c *call) undone() bool {
	if c.err != nil || c.decided {
		return false
	}
	return !c.tried || absent(c.cmd.Err()) || redis.HasErrorPrefix(c.cmd.Err(), "OOM")
}

func (c *call) byName(ctx context.Context) { c.byScript(ctx, "evalsha", c.script.sha) }

// unknown reports whether the server did not know the script by its name.
func (c *call) unknown() bool { return c.cmd != nil && redis.HasErrorPrefix(c.cmd.Err(), "NOSCRIPT") }

func (c *call) bySource(ctx context.Context) { c.byScript(ctx, "eval", c.script.source) }

func (c *call) byScript(ctx context.Context, command, text string) {
	args := append(make([]any, 0, 4+c.args), command, text, 1, c.key)
	c.cmd, c.tried = redis.NewCmd(ctx, append(args, c.arg[:c.args]...)...), false
}

// answer returns what the script answered, or would have.
func (c *call) answer() (int, error) {
	switch {
	case c.err != nil:
		return 0, c.err
	case c.decided:
		return c.answerIf, nil
	case c.tried:
		return c.answerIf, c.cmd.Err()
	}
	return c.cmd.Int()
}

// Puts of new keys are mostly followed by such, replacements by replacements.
// newShare is the share of new keys among puts, in thousandths, the last
// pipeline weighing a half; from mostlyNew on SET NX is tried first.
const mostlyNew = 750

func (s *Store) guessNew(calls []call) bool {
	if s.newShare.Load() < mostlyNew {
		return false
	}
	for i := range calls {
		if calls[i].isPut() {
			return true
		}
	}
	return false
}

func (s *Store) learnNew(calls []call) {
	puts, fresh := 0, 0
	for i := range calls {
		if !calls[i].isPut() {
			continue
		}
		puts++
		if answer, err := calls[i].answer(); err == nil && answer == answerNew {
			fresh++
		}
	}
	if puts > 0 {
		s.newShare.Store((s.newShare.Load() + int64(fresh*1000/puts)) / 2)
	}
}

func (s *Store) outcome(ctx context.Context, kind OpKind, c *call) Outcome {
	answer, err := c.answer()
	if err != nil {
		return Outcome{Err: s.classify(ctx, "apply", err)}
	}
	drop := c.script == &s.scripts.drop
	o := Outcome{Won: answer == answerWon || answer == answerNew || drop && answer == answerSame, Same: !drop && answer == answerSame}
	if answer == answerForeign {
		s.metrics.foreign.Inc()
	}
	s.metrics.countOp(kind, o)
	return o
}
