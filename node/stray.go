package node

import (
	"context"
	"fmt"
	stdlog "log"
	"log/slog"

	"github.com/redis/go-redis/v9"
)

// divertStray sends what packages of others write to the standard logger, such
// as net/http's transport about an origin that speaks unasked, to log at debug,
// until the function that it returns is called; so too what the Redis client
// writes to a logger of its own, for good. Both loggers are the process's: only
// what runs a process calls this.
func divertStray(log *slog.Logger) (restore func()) {
	redis.SetLogger(strayLogger{log})
	w, flags := stdlog.Writer(), stdlog.Flags()
	stdlog.SetOutput(slog.NewLogLogger(log.Handler(), slog.LevelDebug).Writer())
	stdlog.SetFlags(0)
	return func() {
		stdlog.SetOutput(w)
		stdlog.SetFlags(flags)
	}
}

// A strayLogger takes what the Redis client says. The engine says the same with
// more sense: which tier, since when, what it means.
type strayLogger struct{ log *slog.Logger }

// Printf logs a line at debug.
func (s strayLogger) Printf(ctx context.Context, format string, v ...any) {
	if s.log.Enabled(ctx, slog.LevelDebug) {
		s.log.DebugContext(ctx, fmt.Sprintf(format, v...))
	}
}
