package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const quickTree = "follow_interval = \"10ms\"\nmerkle_calc_jitter = \"1ms\"\nbatch_flush_ms = 1\n"

// settledTrees waits until the trees of nodes have all that was written.
func settledTrees(t *testing.T, urls ...string) {
	t.Helper()
	late := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for _, url := range urls {
		// A last write that is in the tree: what came before is too.
		command("v", "put", "zz/mark", "--durability", "l3", "--url", url).exits(t, exitDone)
		command("", "delete", "zz/mark", "--durability", "l3", "--url", url).exits(t, exitDone)
		for {
			r := command("", "verify", "--json", "--url", url)
			var end auditLine
			lines := strings.Split(strings.TrimSpace(r.out), "\n")
			if r.code == exitDone && json.Unmarshal([]byte(lines[len(lines)-1]), &end) == nil && end.Counted && end.Good {
				break
			}
			if time.Now().After(late) {
				t.Fatalf("the tree of %s does not settle: %d %s%s", url, r.code, r.out, r.err)
			}
			<-tick.C
		}
	}
}

// TestVerify: a tree is that of its rows; two nodes differ by what was written on
// one only, and are equal after a repair, deletes included.
func TestVerify(t *testing.T) {
	a, b := serve(t, quickTree), serve(t, quickTree)
	for i := range 5 {
		command("common", "put", fmt.Sprintf("uk.a:%d", i), "--url", a).exits(t, exitDone)
	}
	command("other", "put", "de/1", "--url", b).exits(t, exitDone)
	settledTrees(t, a, b)
	verify := func(args ...string) result {
		t.Helper()
		return command("", append([]string{"verify", "--url", a, "--with", b}, args...)...)
	}
	verify().exits(t, exitDiffers).says(t, "uk.a:3\tonly here", "de/1\tonly there", "6 differ, 0 repaired")
	verify("--path", "de/").exits(t, exitDiffers).says(t, "de/1\tonly there", "1 differ")
	verify("--shallow").exits(t, exitDiffers).says(t, "uk.\tonly here", "de/\tonly there", "2 differ")
	verify("--limit", "2").exits(t, exitDiffers).says(t, "2 differ")
	verify("--repair").exits(t, exitDone).says(t, "uk.a:3\tonly here\tcopied there", "de/1\tonly there\tcopied here", "6 repaired")
	settledTrees(t, a, b)
	verify().exits(t, exitDone).says(t, "0 differ")
	verify("--path", "uk.").exits(t, exitDone).says(t, "0 differ")

	command("newer", "put", "uk.a:1", "--url", b).exits(t, exitDone)
	command("", "delete", "uk.a:2", "--url", a).exits(t, exitDone)
	command("", "delete", "de/1", "--url", b).exits(t, exitDone)
	settledTrees(t, a, b)
	out := verify("--repair", "--json").exits(t, exitDone).out
	for _, want := range []string{`"id":"uk.a:1"`, `"repair":"copied here"`, `"repair":"deleted there"`, `"repair":"deleted here"`, `"repaired":3`} {
		if !strings.Contains(out, want) {
			t.Errorf("%s is missing in\n%s", want, out)
		}
	}
	settledTrees(t, a, b)
	verify().exits(t, exitDone)
	if got := command("", "get", "uk.a:1", "--url", a).exits(t, exitDone); got.out != "newer" {
		t.Errorf("repaired content %q", got.out)
	}
	command("", "get", "uk.a:2", "--url", b).exits(t, exitMissing)
	command("", "get", "de/1", "--url", a).exits(t, exitMissing)
	command("", "verify", "--rebuild", "--url", a).exits(t, exitDone).says(t, "being built")
	settledTrees(t, a)
	verify().exits(t, exitDone)
}

// TestVerifyTokens: the token of the other node comes from a file.
func TestVerifyTokens(t *testing.T) {
	a, b := serve(t, quickTree), serve(t, quickTree)
	command("x", "put", "uk/1", "--url", a).exits(t, exitDone)
	settledTrees(t, a, b)
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	command("", "verify", "--url", a, "--with", b, "--with-token-file", file).exits(t, exitDiffers)
	command("", "verify", "--url", a, "--with", b, "--with-token-file", file+"x").exits(t, exitFailed)
}

func TestVerifyUsage(t *testing.T) {
	f := func(args ...string) {
		t.Helper()
		command("", append([]string{"verify"}, args...)...).exits(t, exitUsage)
	}
	f("--repair")
	f("--shallow")
	f("--with", "http://127.0.0.1:1", "--path", "uk")
	f("--with", "http://127.0.0.1:1", "--rebuild")
	f("--with", "http://127.0.0.1:1", "--repair", "--shallow")
	f("--with", "http://127.0.0.1:1", "--limit", "-1")
	f("--with", "nonsense")
	f("--with", "http://127.0.0.1:1", "--repair", "--missing", "perhaps")
	command("", "verify", "--url", "http://127.0.0.1:1").exits(t, exitUnavailable)
}
