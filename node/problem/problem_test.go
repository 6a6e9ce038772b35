package problem_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/edgenode/edgenode/node/problem"
)

var update = flag.Bool("update", false, "rewrite docs/problems.md")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestPageIsTheTable(t *testing.T) {
	const page = "../../docs/problems.md"
	want := problem.Markdown()
	if *update {
		if err := os.WriteFile(page, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs from the table; run: go test ./node/problem -update", page)
	}
}

func TestTableIsWhole(t *testing.T) {
	name := regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`)
	seen := map[string]bool{}
	for e := range problem.All {
		if !name.MatchString(e.Name) || seen[e.Name] {
			t.Errorf("name %q is malformed or there twice", e.Name)
		}
		seen[e.Name] = true
		if e.Status < 400 || e.Status > 599 {
			t.Errorf("%s has status %d", e.Name, e.Status)
		}
		if !strings.HasSuffix(e.Meaning, ".") || !strings.HasSuffix(e.Remedy, ".") || strings.Contains(e.Meaning+e.Remedy, "|") {
			t.Errorf("%s: meaning and remedy must be sentences without |", e.Name)
		}
	}
	if got := problem.Kind(255).Entry().Name; got != "internal" {
		t.Errorf("a kind outside the table is %q", got)
	}
}

// answer collects what is written.
type answer struct {
	status int
	fields []string
	body   []byte
}

func (a *answer) Status(code int)        { a.status = code }
func (a *answer) Add(name, value string) { a.fields = append(a.fields, name+": "+value) }
func (a *answer) Send(body []byte) error { a.body = bytes.Clone(body); return nil }

func TestWrite(t *testing.T) {
	f := func(p *problem.Problem, status int, field string, members map[string]any) {
		t.Helper()
		var x answer
		if err := problem.Write(&x, p); err != nil {
			t.Fatal(err)
		}
		if x.status != status {
			t.Errorf("status %d, want %d", x.status, status)
		}
		if all := strings.Join(x.fields, "\n"); !strings.Contains(all, field) || !strings.Contains(all, "Content-Type: application/problem+json") {
			t.Errorf("fields %q lack %q", all, field)
		}
		var got map[string]any
		if err := json.Unmarshal(x.body, &got); err != nil {
			t.Fatal(err)
		}
		for k, want := range members {
			if got[k] != want {
				t.Errorf("%s = %v, want %v", k, got[k], want)
			}
		}
		if got["status"] != float64(status) || got["title"] == "" || got["remedy"] == "" {
			t.Errorf("status, title or remedy is wrong: %s", x.body)
		}
	}
	f(problem.New(problem.BadID, "it is <empty>"), 400, "Cache-Control: no-store",
		map[string]any{"type": "urn:edgenode:problem:bad-id", "detail": "it is <empty>"})
	f(&problem.Problem{Kind: problem.Throttled, RetryAfter: 1100 * time.Millisecond}, 429, "Retry-After: 2",
		map[string]any{"retry_after": float64(2)})
	f(&problem.Problem{Kind: problem.ContentTooLarge, Limit: 10, Value: 11}, 413, "",
		map[string]any{"limit": float64(10), "value": float64(11)})
	f(&problem.Problem{Kind: problem.MethodNotAllowed, Allow: "GET, HEAD"}, 405, "Allow: GET, HEAD", nil)
	f(&problem.Problem{Kind: problem.Unauthorized, Challenge: "Bearer"}, 401, "WWW-Authenticate: Bearer", nil)
	f(&problem.Problem{Kind: problem.RangeNotSatisfiable, ContentRange: "bytes */3"}, 416, "Content-Range: bytes */3", nil)
	f(&problem.Problem{Kind: problem.Denied, Status: 451}, 451, "", nil) // a hook's status
}

func TestError(t *testing.T) {
	if got, want := problem.Newf(problem.BadTTL, "%d is too much", 7).Error(), "bad-ttl: 7 is too much"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := (&problem.Problem{Kind: problem.Busy}).Error(), "busy"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
