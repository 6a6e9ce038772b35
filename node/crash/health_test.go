package crash_test

import (
	"encoding/json"
	"time"
)

// A health is what /healthz shows, as far as tests look at it.
type health struct {
	Verdict string   `json:"verdict"`
	Reasons []string `json:"reasons"`
	L2      *struct {
		backendHealth
		Trusted bool `json:"trusted"`
	} `json:"l2"`
	L3     *backendHealth `json:"l3"`
	Filter struct {
		Trusted bool   `json:"trusted"`
		Reason  string `json:"reason"`
		Items   uint64 `json:"items"`
	} `json:"filter"`
	Merkle struct {
		State string `json:"state"`
		Lag   uint64 `json:"lag_changes"`
	} `json:"merkle"`
	Journal struct {
		Records int64 `json:"records"`
		Pending int64 `json:"pending_items"`
	} `json:"journal"`
}

type backendHealth struct {
	OK        bool    `json:"ok"`
	LatencyMS float64 `json:"latency_ms"`
	Circuit   string  `json:"circuit"`
	Error     string  `json:"error"`
}

// health asks how the node is.
func (p *process) health() *health {
	p.tb.Helper()
	h := new(health)
	if err := json.Unmarshal([]byte(p.must("GET", p.admin+"/healthz", "", ok).body), h); err != nil {
		p.tb.Fatal(err)
	}
	return h
}

// askAgain is the pause between two looks at what nobody announces.
const askAgain = 20 * time.Millisecond

// awaitHealth returns when health is as f wants it, and how long that took.
func (p *process) awaitHealth(f func(h *health) bool) time.Duration {
	p.tb.Helper()
	begin := time.Now()
	tick := time.NewTicker(askAgain)
	defer tick.Stop()
	for {
		h := p.health()
		if f(h) {
			return time.Since(begin)
		}
		if time.Since(begin) > patience {
			p.tb.Fatalf("health stays %+v, L2 %+v, L3 %+v:\n%s", h, h.L2, h.L3, p.log())
		}
		<-tick.C
	}
}
