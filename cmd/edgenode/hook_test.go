package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/edgenode/edgenode/hooks/abi"
	"github.com/edgenode/edgenode/hooks/hooktest"
)

// program returns the command line as a process of its own.
func program(args ...string) *exec.Cmd {
	c := exec.Command(os.Args[0], args...)
	c.Env = append(os.Environ(), "TEST_MAIN_IS_EDGENODE=1")
	return c
}

// execute runs one command line as a process.
func execute(t testing.TB, in string, args ...string) result {
	t.Helper()
	c := program(args...)
	var out, errs bytes.Buffer
	c.Stdin, c.Stdout, c.Stderr = strings.NewReader(in), &out, &errs
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{c.ProcessState.ExitCode(), out.String(), errs.String()}
}

// write puts content into a file of a temporary directory.
func write(t testing.TB, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// example is a committed module.
func example(name string) string {
	return filepath.Join("..", "..", "wasm-examples", name, name+".wasm")
}

// denyAll is a module whose route hook refuses everything.
func denyAll() []byte {
	return hooktest.Guest(abi.Route, hooktest.Result(abi.Deny, 0, 0)).Bytes()
}

func passAll() []byte {
	return hooktest.Guest(abi.Route, hooktest.Result(abi.Pass, 0, 0)).Bytes()
}

func TestHookTest(t *testing.T) {
	module := write(t, "deny.wasm", denyAll())
	good := write(t, "cases.toml", []byte("[[case]]\nname = \"no\"\nhook = \"route\"\nkey = \"https://a/b\"\nwant = { verdict = \"deny\" }\n"))
	execute(t, "", "hook", "test", module, good).exits(t, exitDone).says(t, "ok    route: no", "1 passed, 0 failed")

	bad := write(t, "cases.toml", []byte("[[case]]\nname = \"yes\"\nhook = \"route\"\nkey = \"https://a/b\"\nwant = { verdict = \"pass\", asked = true }\n"))
	execute(t, "", "hook", "test", module, bad).exits(t, exitDiffers).
		says(t, "FAIL  route: yes", "verdict\n        - want \"pass\"\n        + got  \"deny\"", "1 of 1 cases differ")
	var report struct {
		Passed, Failed int
		Cases          []hooktest.Outcome
	}
	decode(t, command("", "hook", "test", "--json", module, bad).exits(t, exitDiffers).out, &report)
	if report.Failed != 1 || len(report.Cases[0].Differences) != 1 || report.Cases[0].Differences[0].Field != "verdict" {
		t.Errorf("--json: %+v", report)
	}

	f := func(cases, remark string) {
		t.Helper()
		command("", "hook", "test", module, write(t, "cases.toml", []byte(cases))).exits(t, exitFailed).says(t, remark)
	}
	f("", "no cases")
	f("[[case", "cases.toml")
	f("[[case]]\nname = \"x\"\nhook = \"rout\"\n", "rout")
	f("[[case]]\nname = \"x\"\nhook = \"route\"\nwants = 1\n", "wants")
	f("[[case]]\nname = \"x\"\nhook = \"route\"\nkey = \"a\"\n", "want is missing")
	f("[[case]]\nname = \"x\"\nhook = \"route\"\nkey = \"a\"\nwant = { verdikt = \"deny\" }\n", "want has no field \"verdikt\"")
	f("[[case]]\nname = \"x\"\nhook = \"ttl\"\nkey = \"a\"\nwant = { asked = true }\n", "the module has no hook \"ttl\", it has route")
	command("", "hook", "test", write(t, "x.wasm", []byte("x")), good).exits(t, exitFailed).says(t, "x.wasm", "inspect")
	command("", "hook", "test", module).exits(t, exitUsage)
	command("", "hook", "test", module+".no", good).exits(t, exitUsage)
}

// TestHookTestSaysWhy shows what the host logged of a fault.
func TestHookTestSaysWhy(t *testing.T) {
	trap := write(t, "trap.wasm", hooktest.Guest(abi.Route, []byte{0x00}).Bytes()) // unreachable
	text := "[[case]]\nname = \"one\"\nhook = \"route\"\nkey = \"a\"\nwant = { faulted = false }\n"
	text += strings.ReplaceAll(text, "one", "two")
	command("", "hook", "test", trap, write(t, "cases.toml", []byte(text))).exits(t, exitDiffers).
		says(t, "FAIL  route: one", "FAIL  route: two", "hook fault", "reason=trap", "unreachable", "2 of 2 cases differ")
}

func TestHookExamplesPass(t *testing.T) {
	for _, name := range []string{"evict-gdsf", "route-header", "ttl-by-type"} {
		cases := strings.TrimSuffix(example(name), name+".wasm") + "cases.toml"
		command("", "hook", "test", example(name), cases).exits(t, exitDone).says(t, "0 failed")
	}
}

func TestHookBench(t *testing.T) {
	execute(t, "", "hook", "bench", "--time", "20ms", example("evict-gdsf")).exits(t, exitDone).says(t, "evict ", "admit ", "ratio")
	var list []struct {
		Hook                      string
		NS, Ratio, Fuel, Allocs   float64
		EmptyNS                   float64 `json:"empty_ns"`
		Limit                     uint64  `json:"fuel_limit"`
		Faults, Calls, Candidates int
	}
	decode(t, command("", "hook", "bench", "--json", "--time", "20ms", example("route-header")).exits(t, exitDone).out, &list)
	if len(list) != 1 || list[0].Hook != "route" || list[0].NS <= 0 || list[0].EmptyNS <= 0 || list[0].Fuel < 100 ||
		list[0].Limit != 20_000 || list[0].Faults != 0 || list[0].Calls == 0 || list[0].Allocs > 0.5 {
		t.Errorf("--json: %+v", list)
	}
	decode(t, command("", "hook", "bench", "--json", "--time", "20ms", write(t, "loop.wasm",
		hooktest.Guest(abi.Route, []byte{0x03, 0x40, 0x0c, 0, 0x0b, 0x00}).Bytes())).exits(t, exitDone).out, &list)
	if list[0].Faults == 0 {
		t.Error("a module that never ends has no faults")
	}
	command("", "hook", "bench", "-H", "x", example("route-header")).exits(t, exitUsage).says(t, "no name and colon")
	command("", "hook", "bench", "--config", write(t, "c.toml", []byte("a = ")), example("route-header")).exits(t, exitFailed).says(t, "c.toml", "line 1")
}

// accessLog has ten thousand lines, in the node's format and in the combined one.
func accessLog() []byte {
	var b bytes.Buffer
	for i := range 5000 {
		key := int(math.Pow(500, float64(i*7919%5000)/5000))
		fmt.Fprintf(&b, `{"time":"2026-01-02T03:%02d:%02d.000Z","client":"192.0.2.1","method":"GET","scheme":"https","host":"shop.example","target":"/a/%d","status":200,"bytes":%d,"ms":1,"site":"shop","headers":{"X-Tenant":"t1"}}`+"\n",
			i/60%60, i%60, key, 1000+key*13%5000)
		fmt.Fprintf(&b, `192.0.2.1 - - [02/Jan/2026:03:%02d:%02d +0000] "GET /live/%d HTTP/1.1" 200 %d "-" "curl \"x\""`+"\n", i/60%60, i%60, key, 500+key)
	}
	b.WriteString("nonsense\n")
	return b.Bytes()
}

func TestHookReplayDecisions(t *testing.T) {
	log := write(t, "access.log", accessLog())
	args := []string{"hook", "replay", "--pool", "eu", "--pool", "us", example("route-header"), log}
	execute(t, "", args...).exits(t, exitDone).says(t, "10000 requests", "1 lines skipped", "line 10001", "route: asked 10000 times", "pass", "key addition")
	lines := command("", append(args, "--each")...).exits(t, exitDone).out
	if n := strings.Count(lines, "\n"); n != 10_000 || !strings.Contains(lines, `"key":"http://localhost/live/1","verdict":"pass"`) ||
		!strings.Contains(lines, `"key_addition":"t1"`) {
		t.Errorf("--each: %d lines, %.300s", n, lines)
	}
	f := func(content, remark string) {
		t.Helper()
		command("", "hook", "replay", example("route-header"), write(t, "a.log", []byte(content))).exits(t, exitFailed).says(t, "a.log", remark)
	}
	f("", "no requests in it: it is empty")
	f("a b c\n", "line 1: neither JSON nor the common log format")
	f("{\"method\":1}\n", "line 1: json")
	f("a - - [02/Jan/2026:03:00:00 +0000] \"GET\" 200 1\n", "request \"GET\"")
	f("ECT1 {}", "bad trace")
	f("\x1f\x8b\x00", "gzip")
}

func TestHookReplayHitRatio(t *testing.T) {
	log := write(t, "access.log", accessLog())
	execute(t, "", "hook", "replay", "--capacity", "5%,64KiB", example("evict-gdsf"), log).exits(t, exitDone).
		says(t, "5.00%  hook", "5.00%  auto", "5.00%  lru", "65536", "calls, 0 faults")
	var report struct {
		Requests int
		Ratios   []struct {
			Policy   string
			HitRatio float64 `json:"hit_ratio"`
			Calls    int     `json:"hook_calls"`
		} `json:"hit_ratios"`
	}
	decode(t, command("", "hook", "replay", "--json", "--capacity", "5%", example("evict-gdsf"), log).exits(t, exitDone).out, &report)
	if len(report.Ratios) != 3 || report.Ratios[0].Policy != "hook" || report.Ratios[0].Calls == 0 || report.Ratios[1].HitRatio < report.Ratios[2].HitRatio {
		t.Errorf("--json: %+v", report)
	}
	command("", "hook", "replay", "--capacity", "much", example("evict-gdsf"), log).exits(t, exitUsage).says(t, "capacity \"much\"", "64MiB")
	command("", "hook", "replay", "--policy", "best", example("evict-gdsf"), log).exits(t, exitUsage).says(t, "unknown policy", "auto")
}

// TestBenchReplay speaks with the process as a player of traces does.
func TestBenchReplay(t *testing.T) {
	var in []byte
	for i := range 4000 {
		id := i % 100
		if i > 100 && i%3 > 0 {
			id = i % 10 // some are asked for often
		}
		in = binary.LittleEndian.AppendUint32(in, uint32(id))
		in = binary.LittleEndian.AppendUint32(in, 100)
		in = binary.LittleEndian.AppendUint64(in, math.Float64bits(float64(i)/10))
	}
	first := strings.Repeat("0", 100)
	if got := execute(t, string(in), "bench", "replay", "1MiB").exits(t, exitDone).out; got != first+strings.Repeat("1", 3900) {
		t.Errorf("all fits, but %d of %d are hits", strings.Count(got, "1"), len(got))
	}
	for _, args := range [][]string{{"5000"}, {"--policy", "tan", "5000"}, {"--hook", example("evict-gdsf"), "5000"}} {
		got := execute(t, string(in), append([]string{"bench", "replay"}, args...)...).exits(t, exitDone).out
		if hits := strings.Count(got, "1"); len(got) != 4000 || hits < 2000 || hits > 3800 {
			t.Errorf("%v: %d hits in %d answers, half of the objects fit", args, hits, len(got))
		}
	}
	execute(t, string(in[:20]), "bench", "replay", "5000").exits(t, exitFailed).says(t, "request 2", "unexpected EOF")
	execute(t, "", "bench", "replay", "0").exits(t, exitUsage).says(t, "capacity \"0\"")
	execute(t, "", "bench", "replay", "--hook", example("route-header"), "5000").exits(t, exitFailed).says(t, "evict")
}

func TestHookNew(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, language := range []string{"go", "rust", "assemblyscript", "c", "wat"} {
		out := execute(t, "", "hook", "new", language, "my-"+language).exits(t, exitDone).says(t, "cases.toml", "edgenode hook test my-"+language+".wasm cases.toml").out
		if strings.Contains(out, "{{") {
			t.Errorf("%s: %s", language, out)
		}
	}
	command("", "hook", "new", "c", "my-c").exits(t, exitFailed).says(t, "my-c is not empty")
	command("", "hook", "new", "c", "My C").exits(t, exitFailed).says(t, "1 to 64 of a-z")
	command("", "hook", "new", "cobol", "x").exits(t, exitUsage)
	var project struct{ Build, Files []string }
	decode(t, command("", "hook", "new", "--json", "wat", "two").exits(t, exitDone).out, &project)
	if len(project.Files) != 2 || len(project.Build) != 1 {
		t.Errorf("--json: %+v", project)
	}
}

func TestHookKeysAndManifest(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	execute(t, "", "hook", "keygen", "ops").exits(t, exitDone).says(t, "ops.key", "hooks_trusted_keys = [\"ops ")
	if st, err := os.Stat("ops.key"); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("private key: %v, %v", st, err)
	}
	command("", "hook", "keygen", "ops").exits(t, exitFailed).says(t, "ops.key exists", "another file")
	command("", "hook", "keygen", "o p s").exits(t, exitFailed).says(t, "1 to 64 of a-z")

	module := write(t, "deny.wasm", denyAll())
	execute(t, "", "hook", "sign", "-k", "ops.key", module).exits(t, exitDone).says(t, "deny.wasm.sig: signed with ops")
	if b, err := os.ReadFile(module + ".sig"); err != nil || !strings.HasPrefix(string(b), "ops ") || strings.Count(string(b), "\n") != 1 {
		t.Errorf("signature: %q, %v", b, err)
	}
	command("", "hook", "sign", "-k", "ops.key.pub", module).exits(t, exitFailed).says(t, "mode 0644")
	command("", "hook", "sign", "-k", write(t, "x.key", []byte("x")), module).exits(t, exitFailed).says(t, "no private key")
	command("", "hook", "sign", "-k", write(t, "x.key", []byte("edge-hook-key-v1 ops AAAA")), module).exits(t, exitFailed).says(t, "damaged")
	command("", "hook", "sign", "-k", "ops.key", write(t, "x.wasm", []byte("x"))).exits(t, exitFailed).says(t, "x.wasm")

	manifest := write(t, "m.json", []byte(`{"name": "deny", "hooks": ["route"], "guards": true}`))
	command("", "hook", "manifest", module, manifest).exits(t, exitDone)
	command("", "hook", "inspect", module).exits(t, exitDone).says(t, "guards", "deny")
	command("", "hook", "manifest", module, manifest).exits(t, exitFailed).says(t, "has a manifest already")
	command("", "hook", "manifest", module, write(t, "m.json", []byte("{"))).exits(t, exitFailed).says(t, "m.json")
}

// serveProcess runs a node as a process and returns the URLs of its listeners.
func serveProcess(t testing.TB, config string) (data, admin string) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "edgenode.toml")
	text := fmt.Sprintf("data_dir = %q\n%s\n[listen.data]\naddress = \"127.0.0.1:0\"\n[listen.admin]\naddress = \"127.0.0.1:0\"\n", filepath.Join(dir, "data"), config)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c := program("serve", "-c", file)
	log, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(log)
	ended := make(chan struct{})
	t.Cleanup(func() {
		if err := c.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		<-ended
		if err := c.Wait(); err != nil {
			t.Errorf("the node ended: %v", err)
		}
	})
	var seen strings.Builder
	for data == "" || admin == "" {
		if !lines.Scan() {
			close(ended)
			t.Fatalf("the node did not start:\n%s", seen.String())
		}
		fmt.Fprintln(&seen, lines.Text())
		for name, to := range map[string]*string{"data": &data, "admin": &admin} {
			if _, rest, ok := strings.Cut(lines.Text(), "msg=listening listener="+name+" address="); ok {
				*to = "http://" + strings.Fields(rest)[0]
			}
		}
	}
	go func() { // ends with the process
		defer close(ended)
		for lines.Scan() {
		}
	}()
	return data, admin
}

// TestHookLoad replaces the module of a running node, and goes back.
func TestHookLoad(t *testing.T) {
	dir := t.TempDir()
	key := filepath.Join(dir, "ops.key")
	out := execute(t, "", "hook", "keygen", "ops", "-o", key).exits(t, exitDone).out
	trusted := out[strings.Index(out, "hooks_trusted_keys"):]
	first := write(t, "pass.wasm", passAll())
	execute(t, "", "hook", "sign", "-k", key, first).exits(t, exitDone)
	data, admin := serveProcess(t, fmt.Sprintf("%s\n[[hook]]\nname = \"gate\"\nmodule = %q\nhooks = [\"route\"]\n", trusted, first))
	cli := func(args ...string) result { return execute(t, "", append(args, "--admin", admin)...) }
	get := func() result { return command("", "get", "a", "--url", data) }

	cli("hook", "list").exits(t, exitDone).says(t, "generation 1, 1 hooks", "gate", "route")
	get().exits(t, exitMissing)

	second := write(t, "deny.wasm", denyAll())
	cli("hook", "load", "gate", second).exits(t, exitRefused).says(t, "signature")
	cli("hook", "load", "gate", second, "-k", key).exits(t, exitDone).says(t, "generation 2", "uploaded")
	get().exits(t, exitRefused).says(t, "403")
	cli("hook", "rollback").exits(t, exitDone).says(t, "generation 1")
	get().exits(t, exitMissing)
	execute(t, "", "hook", "sign", "-k", key, second).exits(t, exitDone)
	cli("hook", "load", "gate", second).exits(t, exitDone)
	cli("hook", "unload", "gate").exits(t, exitDone)
	get().exits(t, exitMissing)

	cli("hook", "load", "gate", second, "--trial", "shadow").exits(t, exitDone).says(t, "on trial: shadow")
	get().exits(t, exitMissing)
	cli("hook", "abort").exits(t, exitDone)
	cli("hook", "abort").exits(t, exitRefused).says(t, "trial")
	cli("hook", "load", "gate", second, "--trial", "canary", "--share", "1").exits(t, exitDone)
	cli("hook", "promote").exits(t, exitDone)
	get().exits(t, exitRefused)

	cli("hook", "load", "none", second).exits(t, exitRefused).says(t, "unknown-hook")
	cli("hook", "load", "gate", write(t, "x.wasm", []byte("x"))).exits(t, exitFailed).says(t, "x.wasm")
	var report struct {
		Modules []json.RawMessage
	}
	decode(t, cli("hook", "list", "--json").exits(t, exitDone).out, &report)
	if len(report.Modules) != 1 {
		t.Errorf("--json: %+v", report)
	}
	execute(t, "", "hook", "list", "--admin", "http://127.0.0.1:1").exits(t, exitUnavailable)
	execute(t, "", "hook", "list", "--admin", "x").exits(t, exitUsage).says(t, "--admin")
}
