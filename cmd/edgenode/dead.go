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
	"strconv"
	"text/tabwriter"
)

// deadCommand works with the writes that SQL refuses.
type deadCommand struct {
	List  deadListCommand  `cmd:"" default:"withargs" help:"List them (default): id, version, what it was, bytes, and what SQL said last."`
	Retry deadRetryCommand `cmd:"" help:"Give them to SQL once more, after its limits or tables were changed."`
	Drop  deadDropCommand  `cmd:"" help:"Give them up for good. What SQL has of the ids is served again, if anything."`
}

// A deadLetter is one line of a page of them, or the end.
type deadLetter struct {
	ID      string `json:"id"`
	Version string `json:"version"`
	Kind    string `json:"kind"`
	Bytes   int64  `json:"bytes"`
	Reason  string `json:"reason"`

	End  bool   `json:"end"`
	Next string `json:"next"`
}

type deadListCommand struct {
	nodeFlags
	jsonFlag
}

// Run writes a line per letter: JSON as the node sent it, or values between tabs;
// on a terminal in columns.
func (c *deadListCommand) Run(p *process) error {
	n, err := c.client()
	if err != nil {
		return err
	}
	defer n.close()
	ctx, stop := p.interruptible()
	defer stop()
	var out io.Writer = p.out
	finish := func() error { return nil }
	if !c.JSON && p.isTerminal(p.out) {
		t := tabwriter.NewWriter(p.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "ID\tVERSION\tKIND\tBYTES\tREASON")
		out, finish = t, t.Flush
	}
	err = eachDead(ctx, n, func(line []byte, d *deadLetter) error {
		if c.JSON {
			_, err := fmt.Fprintf(out, "%s\n", line)
			return err
		}
		_, err := fmt.Fprintf(out, "%s\t%s\t%s\t%d\t%s\n", d.ID, d.Version, d.Kind, d.Bytes, d.Reason)
		return err
	})
	if err = errors.Join(err, finish()); err != nil {
		return fmt.Errorf("dead-letters list: %w", err)
	}
	return nil
}

// eachDead calls fn with every dead letter, page by page.
func eachDead(ctx context.Context, n *client, fn func(line []byte, d *deadLetter) error) error {
	query := url.Values{"limit": {strconv.Itoa(pageItems)}}
	for {
		resp, err := n.do(ctx, request{
			method: "GET", path: "/v1/dead-letters", query: query, header: http.Header{"Accept": {"application/x-ndjson"}},
		})
		if err != nil {
			return err
		}
		next, err := readDead(resp.Body, n, fn)
		if err = errors.Join(err, resp.Body.Close()); err != nil || next == "" {
			return err
		}
		query.Set("cursor", next)
	}
}

// readDead reads one page. A page without its last line was cut off.
func readDead(body io.Reader, n *client, fn func(line []byte, d *deadLetter) error) (next string, err error) {
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var d deadLetter
		if err := json.Unmarshal(lines.Bytes(), &d); err != nil {
			return "", &exitError{exitUnavailable, fmt.Errorf("answer of %s: %w; is it an edgenode?", n.base, err)}
		}
		if d.End {
			return d.Next, nil
		}
		if err := fn(lines.Bytes(), &d); err != nil {
			return "", err
		}
	}
	return "", &exitError{exitUnavailable, errors.Join(lines.Err(), errors.New("the answer was cut off; try again"))}
}

// deadTargets say which letters are meant.
type deadTargets struct {
	nodeFlags
	jsonFlag
	IDs []string `arg:"" optional:"" name:"id" help:"Ids of items."`
	All bool     `help:"All that there are now."`
}

type deadRetryCommand struct{ deadTargets }

// Run says for each letter whether SQL has it now.
func (c *deadRetryCommand) Run(p *process) error { return c.do(p, "retry", "SQL has it") }

type deadDropCommand struct{ deadTargets }

// Run says for each letter whether it was given up.
func (c *deadDropCommand) Run(p *process) error { return c.do(p, "drop", "given up") }

// do sends the ids and shows what came of each. Its error, if some failed, is
// that of the last one.
func (c *deadTargets) do(p *process, verb, done string) error {
	if (len(c.IDs) == 0) != c.All {
		return &exitError{exitUsage, fmt.Errorf("dead-letters %s: name ids, or say --all", verb)}
	}
	n, err := c.client()
	if err != nil {
		return err
	}
	defer n.close()
	ctx, stop := p.interruptible()
	defer stop()
	ids := c.IDs
	if c.All {
		if err := eachDead(ctx, n, func(_ []byte, d *deadLetter) error { ids = append(ids, d.ID); return nil }); err != nil {
			return fmt.Errorf("dead-letters %s: %w", verb, err)
		}
	}
	var failed error
	for len(ids) > 0 && err == nil {
		now := ids[:min(len(ids), pageItems)]
		ids = ids[len(now):]
		err = c.send(ctx, n, p.out, verb, done, now, &failed)
	}
	if err = errors.Join(err, failed); err != nil {
		return fmt.Errorf("dead-letters %s: %w", verb, err)
	}
	return nil
}

// send sends one batch of ids.
func (c *deadTargets) send(ctx context.Context, n *client, out io.Writer, verb, done string, ids []string, failed *error) error {
	var body bytes.Buffer
	for _, id := range ids {
		line, err := json.Marshal(map[string]string{"id": id})
		if err != nil {
			return err
		}
		body.Write(append(line, '\n'))
	}
	resp, err := n.do(ctx, request{
		method: "POST", path: "/v1/dead-letters:" + verb, body: &body, length: int64(body.Len()),
		header: http.Header{"Content-Type": {"application/x-ndjson"}},
	})
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // it was only read
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var r struct {
			ID      string   `json:"id"`
			Problem *refusal `json:"problem"`
			End     bool     `json:"end"`
		}
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return &exitError{exitUnavailable, fmt.Errorf("answer of %s: %w; is it an edgenode?", n.base, err)}
		}
		switch {
		case r.End:
			return nil
		case c.JSON:
			_, err = fmt.Fprintf(out, "%s\n", lines.Bytes())
		case r.Problem != nil:
			_, err = fmt.Fprintf(out, "%s\tfailed: %v\n", r.ID, r.Problem)
		default:
			_, err = fmt.Fprintf(out, "%s\t%s\n", r.ID, done)
		}
		if err != nil {
			return err
		}
		if r.Problem != nil {
			*failed = &exitError{exitCodeOf(r.Problem), fmt.Errorf("%s: %w", r.ID, r.Problem)}
		}
	}
	return &exitError{exitUnavailable, errors.Join(lines.Err(), errors.New("the answer was cut off; try again"))}
}
