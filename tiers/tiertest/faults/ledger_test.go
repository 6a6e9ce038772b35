package faults_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

// A ledger is what clients were told. Each client has ids of its own, so what it
// reads is what it wrote last.
type ledger struct {
	mu    sync.Mutex
	items map[string]string // by id; "" is deleted
}

func newLedger() *ledger { return &ledger{items: map[string]string{}} }

func (l *ledger) set(id, content string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.items[id] = content
}

// work has clients put, delete and read until stop is called.
func (l *ledger) work(t *testing.T, e *tiers.Engine) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for client := range 4 {
		wg.Go(func() {
			pace := time.NewTicker(2 * time.Millisecond)
			defer pace.Stop()
			for i := 0; ctx.Err() == nil; i++ {
				l.once(t, e, fmt.Sprintf("c%d/%d", client, i%20), i)
				<-pace.C
			}
		})
	}
	return func() { cancel(); wg.Wait() }
}

// once writes or deletes id, and reads it back from below L1.
func (l *ledger) once(t *testing.T, e *tiers.Engine, id string, i int) {
	key, ctx := item.AppendKey(nil, item.NamespaceItem, id), context.Background()
	content := fmt.Sprintf("%s at %d", id, i)
	var err error
	if i%5 == 4 {
		content = ""
		_, err = e.Delete(ctx, key, nil, 0)
	} else {
		_, err = e.Submit(ctx, &tiers.Write{Key: key, Content: []byte(content), Tiers: item.L2 | item.L3})
	}
	if err != nil {
		t.Errorf("%s: a write fails though SQL is well: %v", id, err)
		return
	}
	l.set(id, content)
	read(t, e, id, content, false)
}

// read compares what id is with what it must be. While a backend is lost nobody
// may know.
func read(t *testing.T, e *tiers.Engine, id, want string, known bool) {
	h, ok, err := e.GetVerified(context.Background(), item.AppendKey(nil, item.NamespaceItem, id))
	defer h.Release()
	if errors.Is(err, tiers.ErrUnavailable) && !known {
		return
	}
	got := ""
	if ok {
		got = string(h.View.Content())
	}
	if err != nil || got != want {
		t.Errorf("%s is %q from %s, %v, want %q", id, got, h.Source, err, want)
	}
}

// check reads every id; known says that all is well.
func (l *ledger) check(t *testing.T, e *tiers.Engine, known bool) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.items) == 0 {
		t.Error("no client did anything")
	}
	for id, want := range l.items {
		read(t, e, id, want, known)
	}
}
