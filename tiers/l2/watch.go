package l2

import (
	"bytes"
	"context"
	"errors"

	"github.com/redis/go-redis/v9"
)

// watched is the number of puts from which they are made without the script where
// it can be: two round trips then cost less than what the script costs the server.
const watched = 8

// putWatched makes the puts of calls by WATCH and MULTI (optimistic locking): the
// first round trip reads the heads of what is there, the second one stores what is
// newer, unless one of these keys has changed in between. It does what putScript
// does, at a third of its cost in the server. What it leaves undone is for the
// script: a key for the second time, a form of value that is not ours, all of them
// if something has changed, or if the server refuses to.
//
// In a cluster keys lie in many slots, and a transaction in one: it does nothing
// there.
func (s *Store) putWatched(ctx context.Context, calls []call) {
	client, ok := s.client.(*redis.Client)
	if !ok || len(calls) < watched {
		return
	}
	puts := firstPuts(calls)
	if len(puts) < watched {
		return
	}
	cn := client.Conn() // a WATCH is of one connection
	defer cn.Close()
	newer, err := watch(ctx, cn, puts)
	if err == nil {
		err = exec(ctx, cn, newer)
	}
	if err == nil {
		return
	}
	for _, c := range puts {
		c.afterFailed(ctx, err)
	}
}

// afterFailed puts c right after its transaction has failed with err. What the
// server refuses is left to the script; what could not be asked is not asked again.
func (c *call) afterFailed(ctx context.Context, err error) {
	var refused redis.Error
	switch {
	case c.decided, c.cmd != nil && c.cmd.Err() == nil: // whatever became of others
	case errors.As(err, &refused):
		c.cmd, c.tried = nil, false
	case c.cmd == nil:
		c.cmd, c.tried = redis.NewCmd(ctx), true
		c.cmd.SetErr(err)
	}
}

// firstPuts returns the puts of calls, the first one of each key.
func firstPuts(calls []call) []*call {
	puts := make([]*call, 0, len(calls))
	keys := make(map[string]struct{}, len(calls))
	for i := range calls {
		c := &calls[i]
		if _, twice := keys[c.key]; !twice && c.isPut() {
			keys[c.key] = struct{}{}
			puts = append(puts, c)
		}
	}
	return puts
}

// watch compares puts with what is there, and returns those that are newer. It
// leaves the connection watching.
func watch(ctx context.Context, cn *redis.Conn, puts []*call) (newer []*call, err error) {
	pipe := cn.Pipeline()
	args := append(make([]any, 0, 1+len(puts)), "watch")
	for _, c := range puts {
		args = append(args, c.key)
	}
	pipe.Do(ctx, args...)
	heads := make([]*redis.StringCmd, len(puts))
	for i, c := range puts {
		heads[i] = pipe.GetRange(ctx, c.key, 0, comparedLen-1)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, err
	}
	for i, c := range puts {
		switch answer, clear := compare(heads[i].Val(), c.value()); {
		case !clear:
		case answer == answerWon || answer == answerNew:
			c.answerIf = answer
			newer = append(newer, c)
		default:
			c.decided, c.answerIf = true, answer
		}
	}
	return newer, nil
}

// exec stores puts in a transaction, which ends the watching, also if there are
// none.
func exec(ctx context.Context, cn *redis.Conn, puts []*call) error {
	if len(puts) == 0 {
		return cn.Do(ctx, "unwatch").Err()
	}
	pipe := cn.TxPipeline()
	for _, c := range puts {
		c.cmd, c.tried = redis.NewCmd(ctx, "set", c.key, c.arg[0], "px", c.arg[1]), true
		_ = pipe.Process(ctx, c.cmd) // queues only
	}
	_, err := pipe.Exec(ctx)
	return err
}

// compare decides as putScript does, whose comment has the rules: cur is the
// beginning of what is there, value what is to be put. It is not clear about a form
// of value that is not ours.
func compare(cur string, value []byte) (answer int, clear bool) {
	switch {
	case cur == "":
		return answerNew, true
	case !known(cur[0]):
		return 0, false
	case len(cur) < untilOffset: // damaged
		return answerWon, true
	}
	order := bytes.Compare([]byte(cur[1:untilOffset]), value[1:untilOffset])
	if order == 0 {
		there, new := hashOf([]byte(cur)), hashOf(value)
		order = bytes.Compare(there[:], new[:])
	}
	switch {
	case order > 0:
		return answerLost, true
	case order == 0 && hasRecord([]byte(cur)):
		return answerSame, true
	}
	return answerWon, true
}
