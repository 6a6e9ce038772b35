package node

import (
	stdlog "log"
	"log/slog"
)

// divertStray sends what packages of others write to the standard logger, such
// as net/http's transport about an origin that speaks unasked, to log at debug,
// until the function that it returns is called. The standard logger is the
// process's: only what runs a process calls this.
func divertStray(log *slog.Logger) (restore func()) {
	w, flags := stdlog.Writer(), stdlog.Flags()
	stdlog.SetOutput(slog.NewLogLogger(log.Handler(), slog.LevelDebug).Writer())
	stdlog.SetFlags(0)
	return func() {
		stdlog.SetOutput(w)
		stdlog.SetFlags(flags)
	}
}
