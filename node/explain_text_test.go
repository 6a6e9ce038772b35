package node

import "testing"

// TestExplainTextIsPlain: nothing in an explanation commands a terminal.
func TestExplainTextIsPlain(t *testing.T) {
	got := string(explainText(map[string]any{"type": "a\x1b]0;x\x07\nb\u009b31m\u202e", "list": []string{"\x1b[2J"}}))
	if want := "list:\n  - \ufffd[2J\ntype: a\ufffd]0;x\ufffd\ufffdb\ufffd31m\ufffd\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
