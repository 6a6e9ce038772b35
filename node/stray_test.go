package node

import (
	"bytes"
	stdlog "log"
	"log/slog"
	"strings"
	"testing"
)

func TestRedisLinesAreDebug(t *testing.T) {
	var out bytes.Buffer
	level := new(slog.LevelVar)
	s := strayLogger{slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: level}))}
	s.Printf(t.Context(), "unseen %d", 1)
	level.Set(slog.LevelDebug)
	s.Printf(t.Context(), "failed to dial after %d attempts", 1)
	if got := out.String(); !strings.Contains(got, `level=DEBUG msg="failed to dial after 1 attempts"`) || strings.Contains(got, "unseen") {
		t.Errorf("logged %q", got)
	}
}

func TestStrayLinesAreDebug(t *testing.T) {
	var out, before bytes.Buffer
	w := stdlog.Writer()
	stdlog.SetOutput(&before)
	defer stdlog.SetOutput(w)
	level := new(slog.LevelVar)
	restore := divertStray(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: level})))
	stdlog.Print("unseen")
	level.Set(slog.LevelDebug)
	stdlog.Print("stray line")
	restore()
	stdlog.Print("after")
	if got := out.String(); !strings.Contains(got, `level=DEBUG msg="stray line"`) || strings.Contains(got, "unseen") {
		t.Errorf("logged %q, want the stray line at debug only", got)
	}
	if got := before.String(); !strings.Contains(got, "after") || strings.Contains(got, "stray") {
		t.Errorf("the standard logger wrote %q, want what came after only", got)
	}
}
