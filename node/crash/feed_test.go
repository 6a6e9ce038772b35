package crash_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A feedEvent is one line of the change feed.
type feedEvent struct {
	Seq, Prev, Op, ID, Version, Text string
	Superseded                       bool
}

// A streamed feed replays server-sent events of one process after the other.
type streamed struct {
	testing.TB
	last  string // id of the last event
	prev  string // number of the last event that had data
	items map[string]string
	n     int
}

// follow reads from p until an item called stop is put, or the stream ends.
func (s *streamed) follow(p *process, stop string) {
	s.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", p.data+"/v1/changes?since=0&content=1", nil)
	if err != nil {
		s.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	if s.last != "" {
		req.Header.Set("Last-Event-ID", s.last)
	}
	resp, err := p.client.Do(req)
	if err != nil {
		s.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 {
		s.Fatalf("GET /v1/changes: %s", resp.Status)
	}
	s.prev, _, _ = strings.Cut(s.last, "@") // a new feed begins there
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if id, ok := strings.CutPrefix(lines.Text(), "id: "); ok {
			s.last = id
		}
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok && s.take(data) == stop {
			return
		}
	}
	if stop != "" {
		s.Fatalf("the stream ended before %s\n%s", stop, p.log())
	}
}

// take applies an event and returns its id.
func (s *streamed) take(data string) string {
	s.Helper()
	var ev feedEvent
	if err := json.Unmarshal([]byte(data), &ev); err != nil {
		s.Fatal(err)
	}
	if ev.Prev != s.prev && s.prev != "" || !strings.HasPrefix(s.last, ev.Seq+"@") {
		s.Errorf("event %s: follows %s, want %s", data, ev.Prev, s.prev)
	}
	s.n++
	switch s.prev = ev.Seq; {
	case ev.Op == "delete":
		delete(s.items, ev.ID)
	case ev.Op == "put" && !ev.Superseded:
		s.items[ev.ID] = ev.Text
	}
	return ev.ID
}

// TestD13_FeedThroughHTTP: who follows the feed of a node, through its stop and
// its kill, has what it has. An orderly stop does not wait for readers.
func TestD13_FeedThroughHTTP(t *testing.T) {
	dir := t.TempDir()
	s := &streamed{TB: t, items: map[string]string{}}
	settings := []string{"EDGENODE_BATCH_FLUSH_MS=2", "EDGENODE_FEEDS_MAX=3"}
	for round := range 3 {
		p := start(t, dir, settings...)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := range 60 {
				p.must("PUT", fmt.Sprintf("/v1/items/k%d", (i*7+round)%20), fmt.Sprintf("%d %d", round, i), written, "Content-Type", "text/plain")
				if i%5 == 0 {
					p.must("DELETE", fmt.Sprintf("/v1/items/k%d", i%20), "", []int{204})
				}
			}
			p.must("PUT", "/v1/items/barrier", "all before is in SQL", written, "Edge-Durability", "l3") // a batch has no order
			p.must("PUT", fmt.Sprintf("/v1/items/end%d", round), "end", written)
		}()
		if round > 0 { // a reader that takes nothing holds up nobody
			stall(t, p)
		}
		s.follow(p, fmt.Sprintf("end%d", round))
		<-done
		for i := range 20 {
			id := fmt.Sprintf("k%d", i)
			a := p.must("GET", "/v1/items/"+id, "", []int{200, 404})
			if got, there := s.items[id]; there != (a.status == 200) || there && got != a.body {
				t.Errorf("round %d: %s is %q, %v by the feed; the node has %d %q", round, id, got, there, a.status, a.body)
			}
		}
		if round == 0 {
			p.kill()
			continue
		}
		ended := make(chan struct{})
		go func() { s.follow(p, ""); close(ended) }()
		p.awaitMetric("edgenode_api_feeds", 2)
		begin := time.Now()
		p.stop()
		if took := time.Since(begin); took > inTime(5*time.Second) {
			t.Errorf("stopped after %v: a reader of the feed held it up", took)
		}
		<-ended
	}
	if s.n < 60 {
		t.Errorf("%d events in all", s.n)
	}
}

// awaitMetric returns when a metric is at least least.
func (p *process) awaitMetric(name string, least float64) {
	p.tb.Helper()
	tick := time.NewTicker(askAgain)
	defer tick.Stop()
	for begin := time.Now(); time.Since(begin) < patience; <-tick.C {
		for line := range strings.Lines(p.must("GET", p.admin+"/metrics", "", ok).body) {
			text, found := strings.CutPrefix(strings.TrimSpace(line), name+" ")
			if v, err := strconv.ParseFloat(text, 64); found && err == nil && v >= least {
				return
			}
		}
	}
	p.tb.Fatalf("%s stays below %v", name, least)
}

// stall asks for the feed and reads nothing of it.
func stall(t *testing.T, p *process) {
	t.Helper()
	u, err := url.Parse(p.data)
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := fmt.Fprintf(c, "GET /v1/changes?since=0 HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
}
