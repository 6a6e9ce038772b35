package breaker_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"go.uber.org/goleak"

	"github.com/edgenode/edgenode/tiers/breaker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errLost = errors.New("lost")

// TestD9_TheBreakerTellsTheTruth: it opens after n failures in a row, half-opens
// after a success, closes after m, and its metrics agree at each step.
func TestD9_TheBreakerTellsTheTruth(t *testing.T) {
	now := time.Unix(1000, 0)
	set := metrics.NewSet()
	var changes []string
	b := breaker.New(breaker.Options{
		Name: "l2", Failures: 3, Successes: 4, Metrics: set, Now: func() time.Time { return now },
		OnChange: func(from, to breaker.State, cause error) {
			changes = append(changes, fmt.Sprintf("%s>%s %v", from, to, cause))
		},
	})
	want := func(s breaker.State, lines ...string) {
		t.Helper()
		if b.State() != s {
			t.Errorf("state %s, want %s", b.State(), s)
		}
		var out bytes.Buffer
		set.WritePrometheus(&out)
		for _, l := range append(lines, fmt.Sprintf(`edgenode_breaker_state{backend="l2"} %d`, s)) {
			if !strings.Contains(out.String(), l+"\n") {
				t.Errorf("metrics lack %s:\n%s", l, out.String())
			}
		}
	}
	calls := func(outcome string, n int) string {
		return fmt.Sprintf(`edgenode_breaker_calls_total{backend="l2",outcome="%s"} %d`, outcome, n)
	}
	for range 2 {
		b.Record(errLost)
	}
	b.Record(nil) // not in a row
	b.Record(errLost)
	b.Record(errLost)
	want(breaker.Closed, calls("failure", 4), calls("success", 1))
	now = now.Add(time.Minute)
	b.Record(errLost)
	want(breaker.Open, calls("failure", 5), `edgenode_breaker_changes_total{backend="l2",to="open"} 1`)
	if _, since, cause := b.Status(); !errors.Is(cause, errLost) || !since.Equal(now) {
		t.Errorf("open by %v since %v", cause, since)
	}
	if b.Allow() {
		t.Error("an open breaker lets a request through")
	}
	want(breaker.Open, calls("rejected", 1))
	now = now.Add(time.Hour)
	if b.Allow() {
		t.Error("time alone lets a request through")
	}
	if !b.Probe(nil) || b.Probe(nil) {
		t.Error("the first success after the opening must say so, and no other")
	}
	want(breaker.HalfOpen)
	passed := 0
	for passed < 100 && b.Allow() {
		passed++
	}
	if passed == 0 || passed > 8 {
		t.Errorf("%d trials under way at once, want a few", passed)
	}
	b.Record(errLost)
	want(breaker.Open, `edgenode_breaker_changes_total{backend="l2",to="open"} 2`)
	for range 3 {
		b.Probe(nil)
	}
	want(breaker.HalfOpen)
	b.Probe(nil)
	want(breaker.Closed, `edgenode_breaker_changes_total{backend="l2",to="closed"} 1`)
	if s, since, cause := b.Status(); s != breaker.Closed || cause != nil || !since.Equal(now) {
		t.Errorf("status %v, %v, %v", s, cause, since)
	}
	b.Probe(errLost) // a probe alone is a warning
	want(breaker.HalfOpen)
	b.Probe(errLost)
	want(breaker.Open)
	if got, want := strings.Join(changes, ", "), "closed>open lost, open>half-open lost, half-open>open lost, open>half-open lost, half-open>closed <nil>, closed>half-open lost, half-open>open lost"; got != want {
		t.Errorf("changes %s\nwant    %s", got, want)
	}
	b.Close()
	var out bytes.Buffer
	if set.WritePrometheus(&out); out.Len() != 0 {
		t.Errorf("left after Close:\n%s", out.String())
	}
}

// TestD12_NoFlapping: of probes every 250 ms, half are lost for ten minutes. The
// breaker closes at most now and then.
func TestD12_NoFlapping(t *testing.T) {
	closings := 0
	b := breaker.New(breaker.Options{Name: "l3", OnChange: func(_, to breaker.State, _ error) {
		if to == breaker.Closed {
			closings++
		}
	}})
	rng := rand.New(rand.NewPCG(1, 2))
	for range 10 * 60 * 4 {
		var err error
		if rng.IntN(2) == 0 {
			err = errLost
		}
		b.Probe(err)
	}
	if closings > 4 {
		t.Errorf("closed %d times within ten minutes at 50 %% loss", closings)
	}
	for range breaker.DefaultSuccesses {
		b.Probe(nil)
	}
	if b.State() != breaker.Closed {
		t.Errorf("state %s after %d successes, want closed", b.State(), breaker.DefaultSuccesses)
	}
}
