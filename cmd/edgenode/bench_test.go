package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/edgenode/edgenode/node/load"
)

// TestBench: a node is filled, read, written and played a log, in both loops.
func TestBench(t *testing.T) {
	url := serve(t, "")
	bench := func(args ...string) result {
		t.Helper()
		return command("", append([]string{"bench", url, "-c", "4", "-d", "300ms", "--warmup", "10ms"}, args...)...)
	}
	bench("--fill", "-k", "20", "--size", "100,2KiB", "--durability", "memory", "--writes", "50%").exits(t, exitDone).
		says(t, "closed loop, 4 connections", "GET", " 0 misses", "PUT", "status 200")
	var r load.Report
	decode(t, bench("-k", "20", "--rate", "500", "--dist", "zipf", "--json").exits(t, exitDone).out, &r)
	if r.Loop != "open" || r.Requests+r.NotSent != 150 || r.Failed > 0 || r.Reads.Misses > 0 || r.Service == nil || r.Latency.P50 == 0 {
		t.Errorf("open loop: %+v", r)
	}

	log := filepath.Join(t.TempDir(), "access.log")
	text := ""
	for i, key := range []string{"a", "b", "a"} {
		text += fmt.Sprintf("192.0.2.1 - - [02/Mar/2026:10:00:0%d +0000] \"GET /%s HTTP/1.1\" 200 300\n", i, key)
	}
	if err := os.WriteFile(log, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	played := command("", "bench", url+"/v1/items/log/{key}", "--trace", log, "--speed", "100", "--put-misses", "--warmup", "0s", "--json", "-c", "1")
	r = load.Report{}
	decode(t, played.exits(t, exitDone).out, &r)
	if r.Reads.Requests != 3 || r.Reads.Misses != 2 || r.Writes.Requests != 2 || r.Writes.Bytes != 600 {
		t.Errorf("log: %+v", r)
	}

	bench("--dist", "often").exits(t, exitUsage).says(t, "often")
	bench("--size", "many").exits(t, exitUsage).says(t, "--size")
	bench("--writes", "some").exits(t, exitUsage).says(t, "--writes")
	bench("--keys", "0").exits(t, exitUsage).says(t, "above 0")
	command("", "bench", "http://192.0.2.1").exits(t, exitUsage).says(t, "--anywhere")
	bench("--trace", "bench_test.go").exits(t, exitFailed).says(t, "no requests in it")
	command("", "bench").exits(t, exitUsage)
	command("", "bench", "http://127.0.0.1:1", "-d", "50ms", "--warmup", "0s").exits(t, exitUnavailable).says(t, "error connect", "refused")
	command("", "bench", "http://127.0.0.1:1", "--fill").exits(t, exitUnavailable).says(t, "could not be put")
}
