package l2_test

import (
	"context"
	"errors"
	"testing"

	"github.com/edgenode/edgenode/tiers/l2"
	"github.com/edgenode/edgenode/tiers/tiertest/redistest"
)

// TestWake: who listens is told that it hears, then each text; it ends with its
// context and with the server.
func TestWake(t *testing.T) {
	server := redistest.Start(t, redistest.Options{})
	open := func(prefix string) *l2.Store {
		s, err := l2.Open(l2.Options{URL: server.URL(), Prefix: prefix})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	a, b, other := open("a:"), open("a:"), open("b:")
	heard, ended := make(chan string, 8), make(chan error, 1)
	listen := func() context.CancelCauseFunc {
		ctx, cancel := context.WithCancelCause(context.Background())
		go func() { ended <- a.Listen(ctx, func(text string) { heard <- text }) }()
		if text := <-heard; text != "" {
			t.Errorf("heard %q first", text)
		}
		return cancel
	}
	cancel := listen()
	for _, from := range []*l2.Store{other, b, a} {
		if err := from.Announce(t.Context(), "news"); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if text := <-heard; text != "news" {
			t.Errorf("heard %q", text)
		}
	}
	over := errors.New("over")
	cancel(over)
	if err := <-ended; !errors.Is(err, over) {
		t.Errorf("cancelled: %v", err)
	}
	cancel = listen()
	server.Kill()
	if err := <-ended; !errors.Is(err, l2.ErrUnavailable) {
		t.Errorf("server gone: %v, want ErrUnavailable", err)
	}
	cancel(nil)
	if err := a.Announce(t.Context(), "news"); !errors.Is(err, l2.ErrUnavailable) {
		t.Errorf("announce: %v, want ErrUnavailable", err)
	}
	if len(heard) != 0 {
		t.Errorf("heard %q of another prefix", <-heard)
	}
}
