package l2

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	wakeName  = "wake"
	wakeCheck = 5 * time.Second // of silence before the server is asked whether it is there
)

// Announce publishes a text to all who Listen with the same prefix now. Nobody may
// hear it; it is a hint to look, never the news itself. The text should be short.
func (s *Store) Announce(ctx context.Context, text string) error {
	ctx2, cancel := s.bounded(ctx)
	defer cancel()
	if err := s.client.Publish(ctx2, s.infraKey(wakeName), text).Err(); err != nil {
		return s.classify(ctx, "announce", err)
	}
	return nil
}

// Listen calls fn with each text that is announced, one call at a time, and with
// "" once it hears: what was announced before may have been missed. It returns when
// ctx ends or the server is lost, and holds a connection until then.
func (s *Store) Listen(ctx context.Context, fn func(text string)) error {
	sub := s.client.Subscribe(ctx, s.infraKey(wakeName))
	defer func() { _ = sub.Close() }()                         // it is over either way
	defer context.AfterFunc(ctx, func() { _ = sub.Close() })() // Receive looks at deadlines only
	asked := false
	for {
		m, err := sub.ReceiveTimeout(ctx, wakeCheck)
		if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() && !asked && ctx.Err() == nil {
			if asked, err = true, sub.Ping(ctx); err == nil {
				continue
			}
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return s.classify(ctx, "listen", err)
		}
		asked = false
		switch m := m.(type) {
		case *redis.Subscription:
			fn("")
		case *redis.Message:
			fn(m.Payload)
		}
	}
}
