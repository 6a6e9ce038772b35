package hooktool

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/edgenode/edgenode/hooks/hooktest"
	"github.com/edgenode/edgenode/node/hooktool/replay"
)

// maxLine bounds a line of an access log, in bytes.
const maxLine = 1 << 20

// A Recorded is one request of an access log.
type Recorded struct {
	Line    int
	Millis  int64 // Unix ms
	Client  netip.Addr
	Method  string
	Key     string // scheme://host/path?query, or the id of an item
	Site    string // "" for items
	Status  int
	Bytes   int64 // of the body
	TTL     *int64
	Headers hooktest.Headers
}

// A Recording is what a file holds: an access log, or a trace of keys and sizes.
type Recording struct {
	Requests []Recorded    // nil for a trace
	Trace    *replay.Trace // nil if no request could have been a hit
	Skipped  int           // lines that are no request
	First    string        // why the first of these is none
}

// ReadOptions say what a file leaves out.
type ReadOptions struct {
	Rate float64 // requests a second for a trace without times; default replay.DefaultRate
	Base string  // scheme and host for lines without a host; default http://localhost
}

// ReadRecording reads a file, compressed by gzip or not: a trace (replay.ReadTrace),
// the node's own access log, or one in the common or combined log format. Lines
// that are no request are counted and left out; a file of nothing else is an
// error.
func ReadRecording(path string, o ReadOptions) (*Recording, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	r, err := replay.Uncompress(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	head, err := r.Peek(5)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if replay.IsTrace(head) {
		t, err := replay.ReadTrace(r, o.Rate)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		return &Recording{Trace: t}, nil
	}
	rec, err := readLog(r, o)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	rec.Trace.Name = path
	return rec, nil
}

func readLog(r *bufio.Reader, o ReadOptions) (*Recording, error) {
	if o.Base == "" {
		o.Base = "http://localhost"
	}
	rec, builder := &Recording{}, replay.Builder{}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	number := 0
	for lines.Scan() {
		number++
		text := bytes.TrimSpace(lines.Bytes())
		if len(text) == 0 {
			continue
		}
		one, err := parseLine(text, o.Base)
		if err != nil {
			if rec.Skipped++; rec.Skipped == 1 {
				rec.First = fmt.Sprintf("line %d: %v", number, err)
			}
			continue
		}
		one.Line = number
		if len(rec.Requests) == replay.MaxRequests {
			return nil, fmt.Errorf("more than %d requests; cut the log", replay.MaxRequests)
		}
		rec.Requests = append(rec.Requests, one)
		if one.cacheable() {
			if err := builder.Add([]byte(one.Key), uint32(min(one.Bytes, 1<<32-1)), one.Millis); err != nil {
				return nil, err
			}
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("line %d: %w", number+1, err)
	}
	if len(rec.Requests) == 0 {
		why := "it is empty"
		if rec.First != "" {
			why = rec.First
		}
		return nil, fmt.Errorf("no requests in it: %s; give an access log of edgenode, one in the common or combined format, or a trace in ECT1", why)
	}
	rec.Trace = builder.Trace("")
	return rec, nil
}

// cacheable reports whether the request counts for the hit ratio: a GET with the
// whole object, or with word that it has not changed.
func (r *Recorded) cacheable() bool {
	return r.Method == "GET" && (r.Status == 200 || r.Status == 304) && r.Bytes >= 0
}

func parseLine(text []byte, base string) (Recorded, error) {
	if text[0] == '{' {
		return parseOwn(text, base)
	}
	return parseCommon(string(text), base)
}

// own is a line of the node's access log. The node writes no header fields but
// agent and referer; files made for replays may have "headers".
type own struct {
	Time    time.Time         `json:"time"`
	Client  netip.Addr        `json:"client"`
	Method  string            `json:"method"`
	Scheme  string            `json:"scheme"`
	Host    string            `json:"host"`
	Target  string            `json:"target"`
	Status  int               `json:"status"`
	Bytes   int64             `json:"bytes"`
	Site    string            `json:"site"`
	TTL     *int64            `json:"ttl"`
	Agent   string            `json:"agent"`
	Referer string            `json:"referer"`
	Headers map[string]string `json:"headers"`
}

func parseOwn(text []byte, base string) (Recorded, error) {
	var o own
	if err := json.Unmarshal(text, &o); err != nil {
		return Recorded{}, err
	}
	if o.Method == "" || !strings.HasPrefix(o.Target, "/") {
		return Recorded{}, errors.New("no method, or no target that begins with a slash")
	}
	r := Recorded{
		Millis: o.Time.UnixMilli(), Client: o.Client, Method: o.Method, Site: o.Site,
		Status: o.Status, Bytes: o.Bytes, TTL: o.TTL,
	}
	if o.Host != "" {
		base = cmpOr(o.Scheme, "http") + "://" + o.Host
	}
	r.Key = base + o.Target
	path, _, _ := strings.Cut(o.Target, "?")
	if id, ok := strings.CutPrefix(path, "/v1/items/"); ok && o.Site == "" {
		if id, err := url.PathUnescape(id); err == nil {
			r.Key = id
		}
	} else if r.Site == "" {
		r.Site = "site"
	}
	r.header("user-agent", o.Agent)
	r.header("referer", o.Referer)
	for name, value := range o.Headers {
		r.header(strings.ToLower(name), value)
	}
	return r, nil
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func (r *Recorded) header(name, value string) {
	if value != "" && value != "-" {
		r.Headers = append(r.Headers, hooktest.Field{Name: name, Value: value})
	}
}

// parseCommon reads a line in the common log format, client ident user [time]
// "request" status bytes, and in the combined one, with "referer" "agent" after
// it.
func parseCommon(text, base string) (Recorded, error) {
	var r Recorded
	before, rest, ok := strings.Cut(text, " [")
	at, rest, ok2 := strings.Cut(rest, "] \"")
	if !ok || !ok2 {
		return r, errors.New("neither JSON nor the common log format: client ident user [time] \"request\" status bytes")
	}
	moment, err := time.Parse("02/Jan/2006:15:04:05 -0700", at)
	if err != nil {
		return r, err
	}
	request, rest, ok := cutQuoted(rest)
	words := strings.Fields(request)
	numbers := strings.Fields(rest)
	if !ok || len(words) < 2 || len(numbers) < 2 {
		return r, fmt.Errorf("request %q, or what follows it, is not that of the common log format", request)
	}
	r = Recorded{Millis: moment.UnixMilli(), Method: words[0], Site: "site", Key: base + words[1]}
	if strings.Contains(words[1], "://") {
		r.Key = words[1]
	} else if !strings.HasPrefix(words[1], "/") {
		return r, fmt.Errorf("target %q begins with no slash", words[1])
	}
	client, _, _ := strings.Cut(before, " ")
	r.Client, _ = netip.ParseAddr(client) // it may be a name
	if r.Status, err = strconv.Atoi(numbers[0]); err != nil {
		return r, fmt.Errorf("status: %w", err)
	}
	if numbers[1] != "-" {
		if r.Bytes, err = strconv.ParseInt(numbers[1], 10, 64); err != nil {
			return r, fmt.Errorf("bytes: %w", err)
		}
	}
	if _, rest, ok = strings.Cut(rest, "\""); ok {
		var referer, agent string
		referer, rest, _ = cutQuoted(rest)
		r.header("referer", referer)
		if _, rest, ok = strings.Cut(rest, "\""); ok {
			agent, _, _ = cutQuoted(rest)
			r.header("user-agent", agent)
		}
	}
	return r, nil
}

// cutQuoted returns what stands before the next quote that no backslash escapes,
// and after it.
func cutQuoted(s string) (inside, rest string, ok bool) {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}
