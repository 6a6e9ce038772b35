package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// walks walks the tree twice.
func (s *stage) walks(ctx context.Context) error {
	files, size, err := tree(s.root)
	if err != nil {
		return err
	}
	s.say("\nThe origin has %d files, %.0f MB: the source of this Go toolchain. The node has 64 MiB of memory.", len(files), float64(size)/1e6)
	s.say("%-22s %8s %8s %8s %8s %8s %9s %8s", "", "requests", "memory", "pending", "SQLite", "origin", "hit ratio", "seconds")
	for _, name := range []string{"first walk", "second walk"} {
		before := s.origin.requests.Load()
		begin := time.Now()
		t, err := s.walk(ctx, files)
		if err != nil {
			return err
		}
		asked := s.origin.requests.Load() - before
		s.say("%-22s %8d %8d %8d %8d %8d %8.1f%% %8.1f", name, t.requests, t.from["l1"], t.from["pending"], t.from["l3"],
			asked, 100*float64(t.hits)/float64(t.requests), time.Since(begin).Seconds())
		if name == "second walk" && asked*10 > int64(t.requests) {
			return fmt.Errorf("the second walk sent %d of %d requests to the origin", asked, t.requests)
		}
	}
	total := 2 * int64(len(files))
	s.say("The origin answered %d of %d requests: %.1f%% saved. Every byte was compared with its file.",
		s.origin.requests.Load(), total, 100*(1-float64(s.origin.requests.Load())/float64(total)))
	return nil
}

// tree returns the regular files below root, with their bytes in all.
func tree(root string) (files []string, size int64, err error) {
	err = filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, name)
		files, size = append(files, filepath.ToSlash(relative)), size+info.Size()
		return err
	})
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("%s has no files", root)
	}
	return files, size, err
}

// A tally counts where answers came from, as Cache-Status tells.
type tally struct {
	mu             sync.Mutex // guards what follows
	requests, hits int
	from           map[string]int // hits by tier
}

func (t *tally) add(status string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.requests++
	parts := strings.Split(status, ";")
	hit, tier := false, "other"
	for _, part := range parts {
		part = strings.TrimSpace(part)
		hit = hit || part == "hit"
		if value, ok := strings.CutPrefix(part, "detail="); ok {
			tier = value
		}
	}
	if hit {
		t.hits++
		t.from[tier]++
	}
}

// walk asks for every file, in order, several at once.
func (s *stage) walk(ctx context.Context, files []string) (*tally, error) {
	t := &tally{from: map[string]int{}}
	err := each(ctx, files, func(ctx context.Context, name string) error {
		status, body, err := s.get(ctx, name, nil)
		if err != nil {
			return err
		}
		want, err := os.ReadFile(filepath.Join(s.root, filepath.FromSlash(name)))
		if err != nil {
			return err
		}
		if !bytes.Equal(body, want) {
			return fmt.Errorf("%s: the answer (%d bytes) is not the file (%d bytes)", name, len(body), len(want))
		}
		t.add(status)
		return nil
	})
	return t, err
}

// get asks the node for a file of the site.
func (s *stage) get(ctx context.Context, name string, header http.Header) (cacheStatus string, body []byte, err error) {
	u := url.URL{Scheme: "http", Host: s.node.data, Path: "/src/" + name}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return "", nil, err
	}
	if header != nil {
		req.Header = header
	}
	req.Host = siteHost
	resp, err := s.client.Do(req)
	if err != nil {
		return "", nil, err
	}
	defer func() { _ = resp.Body.Close() }() // it was only read
	if body, err = io.ReadAll(resp.Body); err != nil {
		return "", nil, fmt.Errorf("%s: %w", name, err)
	}
	if resp.StatusCode != http.StatusOK {
		return "", nil, &statusError{name, resp.StatusCode, string(body)}
	}
	return resp.Header.Get("Cache-Status"), body, nil
}

// A statusError is an answer that is not 200.
type statusError struct {
	name string
	code int
	text string
}

func (e *statusError) Error() string {
	return fmt.Sprintf("%s: status %d: %s", e.name, e.code, strings.TrimSpace(e.text))
}

// each calls f for every element, several at once, and stops at the first error.
func each[T any](ctx context.Context, list []T, f func(context.Context, T) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	work := make(chan T)
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for x := range work {
				if err := f(ctx, x); err != nil {
					cancel(err)
				}
			}
		})
	}
	for _, x := range list {
		select {
		case work <- x:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(work)
	group.Wait()
	return errors.Join(context.Cause(ctx))
}

// routing shows the route hook: tenants have their own origin and their own
// copies, and a name that is none is refused.
func (s *stage) routing(ctx context.Context) error {
	const name = "fmt/print.go"
	before := s.eu.requests.Load()
	for range 2 {
		if _, _, err := s.get(ctx, name, http.Header{"X-Tenant": {"eu-west"}}); err != nil {
			return err
		}
	}
	if n := s.eu.requests.Load() - before; n != 1 {
		return fmt.Errorf("route hook: the tenant's own origin had %d requests instead of 1", n)
	}
	var refused *statusError
	if _, _, err := s.get(ctx, name, http.Header{"X-Tenant": {"../../etc"}}); !errors.As(err, &refused) || refused.code != http.StatusBadRequest {
		return fmt.Errorf("route hook: a tenant that is no name was not refused with 400: %w", err)
	}
	calls, err := s.hookCalls(ctx)
	if err != nil {
		return err
	}
	s.say("\nHooks (WASM, metered): %s.", calls)
	s.say("Tenant eu-west went to its own origin once and then to its own copy; a malformed tenant got 400.")
	return nil
}
