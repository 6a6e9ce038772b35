package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"
)

// An acknowledged is an item that the node said it has.
type acknowledged struct {
	id, version, etag string
	content           []byte
}

// A package is one item: its JSON as go list wrote it.
type packageItem struct {
	id      string
	content []byte
}

// items stores the real JSON of go list, one item per package.
func (s *stage) items(ctx context.Context) error {
	packages, err := standardLibrary(ctx)
	if err != nil {
		return err
	}
	begin := time.Now()
	var bytes int
	acked, err := s.putAll(ctx, packages)
	if err != nil {
		return err
	}
	for _, a := range acked {
		bytes += len(a.content)
	}
	took := time.Since(begin)
	s.say("\nStored go list -json std: %d items, %.1f MB, each acknowledged after its fdatasync, in %.2f s (%.0f/s with %d writers).",
		len(acked), float64(bytes)/1e6, took.Seconds(), float64(len(acked))/took.Seconds(), workers)
	return s.check(ctx, acked)
}

// standardLibrary returns an item for each package of the standard library.
func standardLibrary(ctx context.Context) ([]packageItem, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-json", "std").Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	var list []packageItem
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var raw json.RawMessage
		if err := d.Decode(&raw); err == io.EOF {
			return list, nil
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		var p struct{ ImportPath string }
		if err := json.Unmarshal(raw, &p); err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		list = append(list, packageItem{"std/" + p.ImportPath, raw})
	}
}

// putAll stores items, several at once, and returns what was acknowledged.
func (s *stage) putAll(ctx context.Context, list []packageItem) ([]acknowledged, error) {
	var mu sync.Mutex // guards acked
	var acked []acknowledged
	err := each(ctx, list, func(ctx context.Context, p packageItem) error {
		a, err := s.put(ctx, p.id, p.content)
		mu.Lock()
		defer mu.Unlock()
		if err == nil {
			acked = append(acked, a)
		}
		return err
	})
	return acked, err
}

func (s *stage) itemURL(id string) string {
	return "http://" + s.node.data + "/v1/items/" + url.PathEscape(id)
}

// put stores one item and returns its acknowledgement.
func (s *stage) put(ctx context.Context, id string, content []byte) (acknowledged, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, s.itemURL(id), bytes.NewReader(content))
	if err != nil {
		return acknowledged{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Edge-Tags", "demo")
	resp, err := s.client.Do(req)
	if err != nil {
		return acknowledged{}, err
	}
	defer func() { _ = resp.Body.Close() }() // it is empty, or an error
	if resp.StatusCode >= 300 {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 4096)) // for the message only
		return acknowledged{}, &statusError{id, resp.StatusCode, string(text)}
	}
	if p := resp.Header.Get("Edge-Persisted"); p != "sync" {
		return acknowledged{}, fmt.Errorf("%s: acknowledged as %q instead of sync", id, p)
	}
	return acknowledged{id, resp.Header.Get("Edge-Version"), resp.Header.Get("ETag"), content}, nil
}

// check reads every acknowledged item back and compares content, version and
// entity tag.
func (s *stage) check(ctx context.Context, acked []acknowledged) error {
	return each(ctx, acked, func(ctx context.Context, a acknowledged) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.itemURL(a.id)+"?verify=1", nil)
		if err != nil {
			return err
		}
		resp, err := s.client.Do(req)
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }() // it was only read
		body, err := io.ReadAll(resp.Body)
		switch {
		case err != nil:
			return err
		case resp.StatusCode != http.StatusOK:
			return fmt.Errorf("acknowledged, but %w", &statusError{a.id, resp.StatusCode, string(body)})
		case !bytes.Equal(body, a.content):
			return fmt.Errorf("%s: the content is not what was acknowledged", a.id)
		case resp.Header.Get("Edge-Version") != a.version || resp.Header.Get("ETag") != a.etag:
			return fmt.Errorf("%s: version %s and tag %s instead of %s and %s", a.id, resp.Header.Get("Edge-Version"), resp.Header.Get("ETag"), a.version, a.etag)
		}
		return nil
	})
}

// killAfter is how many acknowledgements the writers get before the kill.
const killAfter = 2000

// crash writes without a pause, kills the node in the middle, starts it again
// and checks every acknowledgement.
func (s *stage) crash(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	acks := make(chan acknowledged, workers)
	var writers sync.WaitGroup
	for w := range workers {
		writers.Go(func() { s.write(ctx, w, acks) })
	}
	go func() { writers.Wait(); close(acks) }()
	var acked []acknowledged
	var killed error
	for a := range acks {
		if acked = append(acked, a); len(acked) == killAfter {
			killed = s.node.kill()
		}
	}
	if killed != nil || len(acked) < killAfter {
		return errors.Join(errors.New("the writers ended before the kill"), killed)
	}
	s.client.CloseIdleConnections()
	s.say("\nKilled the node (SIGKILL) with %d writers at work: %d more items had been acknowledged.", workers, len(acked))
	took, err := s.node.start(ctx)
	if err != nil {
		return err
	}
	begin := time.Now()
	if err := s.check(ctx, acked); err != nil {
		return err
	}
	s.say("Started it again in %v: all %d are there, each with its content, version and tag (checked in %.2f s).",
		took.Round(time.Millisecond), len(acked), time.Since(begin).Seconds())
	return s.checkLibrary(ctx)
}

// write stores small items of one writer until the node is gone.
func (s *stage) write(ctx context.Context, writer int, acks chan<- acknowledged) {
	for n := 0; ; n++ {
		id := fmt.Sprintf("live/%d/%d", writer, n)
		a, err := s.put(ctx, id, fmt.Appendf(nil, `{"writer": %d, "number": %d}`, writer, n))
		if err != nil {
			return // the node was killed: nothing was acknowledged
		}
		acks <- a
	}
}

// checkLibrary compares the items of before the crash with go list once more.
func (s *stage) checkLibrary(ctx context.Context) error {
	packages, err := standardLibrary(ctx)
	if err != nil {
		return err
	}
	err = each(ctx, packages, func(ctx context.Context, p packageItem) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.itemURL(p.id), nil)
		if err != nil {
			return err
		}
		resp, err := s.client.Do(req)
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }() // it was only read
		if body, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(body, p.content) {
			return errors.Join(fmt.Errorf("%s: the content is not that of go list", p.id), err)
		}
		return nil
	})
	if err == nil {
		s.say("So are the %d items of go list, byte for byte.", len(packages))
	}
	return err
}

// hookCalls returns what the node's metrics say of its hooks.
func (s *stage) hookCalls(ctx context.Context) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.node.admin+"/metrics", nil)
	if err != nil {
		return "", err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }() // it was only read
	var calls []string
	faults := 0.0
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), "} ")
		if hook, ok := strings.CutPrefix(name, `edgenode_hooks_calls_total{hook="`); ok {
			calls = append(calls, strings.Trim(hook, `"`)+" "+value+" calls")
		}
		if strings.HasPrefix(name, "edgenode_hooks_faults_total{") {
			n, err := strconv.ParseFloat(value, 64)
			if err != nil {
				return "", err
			}
			faults += n
		}
	}
	if len(calls) == 0 {
		return "", errors.Join(errors.New("the node's metrics show no hook"), lines.Err())
	}
	return fmt.Sprintf("%s, %.0f faults", strings.Join(calls, ", "), faults), lines.Err()
}
