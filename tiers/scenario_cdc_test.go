package tiers_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/tiertest"
	"github.com/edgenode/edgenode/tiers/tiertest/redistest"
)

// A streamEvent is what a test writes into an entry.
type streamEvent struct {
	Seq, Prev uint64
	Op, ID    string
	Content   string
	Version   uint64
	Missing   bool // the row is newer or gone
}

func formatEvent(dst []byte, ev *tiers.Event) []byte {
	out := streamEvent{Seq: ev.Seq, Prev: ev.Prev, Op: ev.Op, Version: uint64(ev.Version)}
	if ev.Rule == nil && ev.Op != tiers.EventReset {
		out.ID, out.Missing = ev.Key.ID(), ev.Row == nil
	}
	if ev.Row != nil {
		out.Content = string(ev.Row.Content())
	}
	b, err := json.Marshal(&out)
	if err != nil {
		panic(err)
	}
	return append(dst, b...)
}

// A consumer reads the stream from its last entry on.
type consumer struct {
	*testing.T
	server  *redistest.Server
	at      string
	last    uint64
	started bool
	items   map[string]string
	entries int
	packed  int
	resets  int
	first   string // kind of the first entry
}

func newConsumer(t *testing.T, server *redistest.Server) *consumer {
	return &consumer{T: t, server: server, at: "0", items: map[string]string{}}
}

func (c *consumer) read() {
	c.Helper()
	dec, err := zstd.NewReader(nil)
	if err != nil {
		c.Fatal(err)
	}
	defer dec.Close()
	list, _ := c.server.Do("XRANGE", tiers.DefaultRedisPrefix+"cdc", "("+c.at, "+").([]any)
	for _, entry := range list {
		parts := entry.([]any)
		fields := map[string]string{}
		values := parts[1].([]any)
		for i := 0; i+1 < len(values); i += 2 {
			fields[fmt.Sprint(values[i])] = fmt.Sprint(values[i+1])
		}
		data := []byte(fields["data"])
		if fields["enc"] == "zstd" {
			c.packed++
			if data, err = dec.DecodeAll(data, nil); err != nil {
				c.Fatal(err)
			}
		}
		var ev streamEvent
		if err := json.Unmarshal(data, &ev); err != nil {
			c.Fatalf("%v in %q", err, data)
		}
		if c.at = fmt.Sprint(parts[0]); c.at != strconv.FormatUint(ev.Seq, 10)+"-0" || fields["seq"] != strconv.FormatUint(ev.Seq, 10) {
			c.Errorf("entry %s has number %s and event %d", c.at, fields["seq"], ev.Seq)
		}
		c.apply(&ev)
	}
}

func (c *consumer) apply(ev *streamEvent) {
	c.Helper()
	if c.started && ev.Op != tiers.EventReset && ev.Prev != c.last {
		c.Errorf("entry %d says it follows %d, the last one is %d", ev.Seq, ev.Prev, c.last)
	}
	if c.entries == 0 {
		c.first = ev.Op
	}
	c.started, c.last = true, ev.Seq
	c.entries++
	switch {
	case ev.Op == tiers.EventReset:
		c.resets++
	case ev.Op == tiers.EventDelete || ev.Op == tiers.EventExpire:
		delete(c.items, ev.ID)
	case !ev.Missing && ev.ID != "":
		c.items[ev.ID] = ev.Content
	}
}

// A shiftedClock is the system's, and what was added to it.
type shiftedClock struct{ by atomic.Int64 }

func (c *shiftedClock) milli() int64        { return time.Now().UnixMilli() + c.by.Load() }
func (c *shiftedClock) add(d time.Duration) { c.by.Add(d.Milliseconds()) }

// TestD13_StreamInRedis: one of two nodes writes the stream; it goes on without gap
// and without repeating anything when that one is killed, when Redis is away, and
// begins anew, and says so, when Redis has lost it.
func TestD13_StreamInRedis(t *testing.T) {
	server, db := redistest.Start(t, redistest.Options{}), filepath.Join(t.TempDir(), "l3.db")
	var now shiftedClock
	dirs := [2]string{t.TempDir(), t.TempDir()}
	start := func(i int) *tiers.Engine {
		return openRedis(t, dirs[i], server, func(o *tiers.Options) {
			onFile(db, &tiertest.Store{})(o)
			o.L3Shared, o.FollowInterval, o.BatchFlush = true, 5*time.Millisecond, time.Millisecond
			o.CDCEnabled, o.CDCMaxLen, o.FormatEvent = true, 100_000, formatEvent
			o.Now = now.milli
		})
	}
	nodes := [2]*tiers.Engine{start(0), start(1)}
	c := newConsumer(t, server)
	rng := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 17))
	write := func(n int) {
		t.Helper()
		for i := range n {
			e, id := nodes[rng.IntN(2)], fmt.Sprintf("k%d", rng.IntN(40))
			if rng.IntN(4) == 0 {
				del(t, e, id)
			} else {
				put(t, e, id, fmt.Sprint(i, " ", strings.Repeat("text ", rng.IntN(100))))
			}
		}
		if _, err := nodes[0].DeleteMatching(t.Context(), tiers.Query{Prefix: "k1"}, 0); err != nil {
			t.Fatal(err)
		}
		flush(t, nodes[0])
		flush(t, nodes[1])
	}
	settled := func(when string) {
		t.Helper()
		until(t, 20*time.Second, when+": the stream is at the end", func() bool {
			c.read()
			return nodes[0].Settled() && nodes[1].Settled() && c.last >= max(nodes[0].LastChange(), nodes[1].LastChange())-1 && sameItems(t, nodes[0], c.items)
		})
	}
	until(t, 20*time.Second, "somebody writes the stream", func() bool { return nodes[0].WritesStream() != nodes[1].WritesStream() })
	write(scale(5000, 150))
	settled("at first")
	for round := range scale(20, 3) {
		i := 0
		if nodes[1].WritesStream() {
			i = 1
		}
		if err := nodes[i].CloseAbruptly(); err != nil {
			t.Fatal(err)
		}
		nodes[i] = start(i)
		write(100)
		now.add(11 * time.Second) // its lease is over
		if round%2 == 1 {
			server.Stop()
			write(20)
			server.Cont()
		}
		settled(fmt.Sprint("after kill ", round))
	}
	if c.resets > 1 || c.packed == 0 || c.packed == c.entries {
		t.Errorf("%d entries, %d of them packed, %d resets", c.entries, c.packed, c.resets)
	}

	lost := func(how string, lose func()) {
		t.Helper()
		behind := newConsumer(t, server) // has seen nothing yet
		at, resets := c.last, c.resets
		lose()
		put(t, nodes[0], how, "x")
		flush(t, nodes[0])
		until(t, 20*time.Second, how+": who follows finds the reset", func() bool { c.read(); return c.resets > resets && c.last > at })
		until(t, 20*time.Second, how+": who is behind finds it first", func() bool { behind.read(); return behind.entries > 0 })
		if behind.first != tiers.EventReset {
			t.Errorf("%s: the stream begins with %s", how, behind.first)
		}
	}
	lost("deleted", func() { server.Do("DEL", tiers.DefaultRedisPrefix+"cdc") })
	lost("flushed", func() { server.Do("FLUSHALL") })
	lost("restarted without persistence", func() { server.Kill(); server.Restart() })

	// Nobody writes: the reset comes all the same, for those who are behind.
	behind, at := newConsumer(t, server), c.last
	server.Do("FLUSHALL")
	until(t, 20*time.Second, "a reset while nobody writes", func() bool { behind.read(); return behind.resets == 1 })
	if behind.last < at || behind.entries != 1 {
		t.Errorf("%d entries up to %d, the stream was at %d", behind.entries, behind.last, at)
	}
}

// sameItems reports whether a consumer has what the engine lists.
func sameItems(t *testing.T, e *tiers.Engine, items map[string]string) bool {
	t.Helper()
	n := 0
	same := true
	if _, err := e.List(t.Context(), tiers.Query{Limit: 1000}, func(v item.View) error {
		n++
		same = same && items[v.Key().ID()] == string(v.Content())
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return same && n == len(items)
}
