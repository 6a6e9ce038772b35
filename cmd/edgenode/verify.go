package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/edgenode/edgenode/node/verify"
)

// verifyCommand compares by trees of hashes: the items of two nodes, or a node's
// tree with its rows.
type verifyCommand struct {
	nodeFlags
	jsonFlag
	With          string `placeholder:"URL" help:"Base URL of a node to compare with; without it the node's tree is compared with its own rows in SQL."`
	WithTokenFile string `type:"path" placeholder:"FILE" help:"File with the bearer token for that node; without it the same token is used."`
	Path          string `help:"Only the branch of ids that begin so; it ends with one of . / :"`
	Shallow       bool   `help:"Name the branches right below that differ, and do not go down."`
	Limit         int    `placeholder:"N" help:"Stop after this many differences."`
	Repair        bool   `help:"Give each node the other's newer rows, deletes included."`
	Missing       string `enum:"skip,copy,delete" default:"skip" help:"What to do with an item that one node lacks and that is so old that its delete may be forgotten: skip (default), copy it to where it is missing, or delete it where it is."`
	Rebuild       bool   `help:"Have the node build its tree anew from all rows, and do nothing else."`
}

// Run exits with 7 if there are differences that were not repaired.
func (c *verifyCommand) Run(p *process) error {
	if err := c.check(); err != nil {
		return &exitError{exitUsage, fmt.Errorf("verify: %w", err)}
	}
	here, err := c.client()
	if err != nil {
		return err
	}
	defer here.close()
	ctx, stop := p.interruptible()
	defer stop()
	switch {
	case c.Rebuild:
		err = c.rebuild(ctx, p, here)
	case c.With == "":
		err = c.audit(ctx, p, here)
	default:
		var there *client
		if there, err = c.other(); err == nil {
			defer there.close()
			err = c.compare(ctx, p, here, there)
		}
	}
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	return nil
}

func (c *verifyCommand) check() error {
	switch {
	case c.With == "" && (c.Repair || c.Shallow || c.Path != "" || c.Limit != 0 || c.WithTokenFile != ""):
		return errors.New("--repair, --shallow, --path, --limit and --with-token-file need --with")
	case c.Rebuild && c.With != "":
		return errors.New("--rebuild goes without --with")
	case c.Repair && c.Shallow:
		return errors.New("--repair goes down to items; leave out --shallow")
	case c.Limit < 0:
		return errors.New("--limit is below 0")
	}
	return verify.CheckPath(c.Path)
}

// other returns a client for the node of --with.
func (c *verifyCommand) other() (*client, error) {
	f := nodeFlags{URL: c.With, Token: c.Token}
	if c.WithTokenFile != "" {
		b, err := os.ReadFile(c.WithTokenFile)
		if err != nil {
			return nil, err
		}
		f.Token = trimmed(b)
	}
	return f.client()
}

func (c *verifyCommand) rebuild(ctx context.Context, p *process, n *client) error {
	var answer struct {
		State string `json:"state"`
	}
	raw, err := n.object(ctx, request{method: "POST", path: "/v1/merkle/rebuild"}, &answer)
	if err != nil {
		return err
	}
	if c.JSON {
		_, err = fmt.Fprintf(p.out, "%s\n", raw)
	} else {
		_, err = fmt.Fprintln(p.out, "the tree is being built; /healthz says when it follows again")
	}
	return err
}

// An auditLine is one line of an answer to an audit.
type auditLine struct {
	Items     uint64   `json:"items"`
	Leaves    uint64   `json:"leaves"`
	Findings  uint64   `json:"findings"`
	Undecided uint64   `json:"undecided"`
	ID        *string  `json:"id"`
	Tree      string   `json:"tree"`
	End       bool     `json:"end"`
	Good      bool     `json:"good"`
	Counted   bool     `json:"counted"`
	Problem   *refusal `json:"problem"`
}

// audit compares the tree with the rows.
func (c *verifyCommand) audit(ctx context.Context, p *process, n *client) error {
	resp, err := n.do(ctx, request{method: "POST", path: "/v1/merkle/audit"})
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // it was only read
	bar := p.isTerminal(p.err)
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var l auditLine
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return &exitError{exitUnavailable, fmt.Errorf("answer of %s: %w; is it an edgenode?", n.base, err)}
		}
		done, err := c.auditLine(p, &l, lines.Bytes(), bar)
		if done || err != nil {
			return err
		}
	}
	return &exitError{exitUnavailable, errors.Join(lines.Err(), errors.New("the answer was cut off; try again"))}
}

func (c *verifyCommand) auditLine(p *process, l *auditLine, raw []byte, bar bool) (done bool, err error) {
	if bar && l.ID == nil {
		progress(p.err, l.Items, l.Leaves, l.End || l.Problem != nil)
	}
	switch {
	case l.Problem != nil:
		return true, &exitError{exitCodeOf(l.Problem), l.Problem}
	case c.JSON:
		_, err = fmt.Fprintf(p.out, "%s\n", raw)
	case l.ID != nil && l.Tree == "":
		_, err = fmt.Fprintf(p.out, "%s\tnot in the tree\n", *l.ID)
	case l.ID != nil:
		_, err = fmt.Fprintf(p.out, "%s\tanother leaf than its row\n", *l.ID)
	case l.End:
		_, err = fmt.Fprintf(p.out, "%d rows, %d leaves, %d differ, %d changed meanwhile\n", l.Items, l.Leaves, l.Findings, l.Undecided)
	}
	if err == nil && l.End && !l.Good {
		err = &exitError{exitDiffers, errors.New("the tree is not that of the rows; find out why, then build it anew with edgenode verify --rebuild")}
	}
	return l.End, err
}

// progress draws a bar over the last one.
func progress(w io.Writer, done, of uint64, end bool) {
	const width = 30
	share := 1.0
	if done < of {
		share = float64(done) / float64(of)
	}
	full := int(share * width)
	fmt.Fprintf(w, "\r[%s%s] %3.0f %% of %d ", strings.Repeat("#", full), strings.Repeat(".", width-full), 100*share, of)
	if end {
		fmt.Fprint(w, "\r\x1b[K")
	}
}

// A verdict is one difference, as it is shown.
type verdict struct {
	ID     string `json:"id"`
	Item   bool   `json:"item"`
	Here   string `json:"here,omitempty"` // the hash, if it is there
	There  string `json:"there,omitempty"`
	Repair string `json:"repair,omitempty"`
}

func (v *verdict) text() string {
	what := "differs"
	switch {
	case v.There == "":
		what = "only here"
	case v.Here == "":
		what = "only there"
	}
	if v.Repair != "" {
		what += "\t" + v.Repair
	}
	return v.ID + "\t" + what
}

// compare finds what differs between two nodes, and repairs it if that is asked
// for.
func (c *verifyCommand) compare(ctx context.Context, p *process, here, there *client) error {
	a, b := &treeNode{here, c.Path}, &treeNode{there, c.Path}
	r := verify.Repairer{Here: a, There: b, Missing: c.Missing, Now: func() int64 { return time.Now().UnixMilli() }}
	left, repaired := 0, 0
	out := json.NewEncoder(p.out)
	o := verify.Query{Path: []byte(c.Path), Shallow: c.Shallow, Limit: c.Limit}
	stats, err := verify.Diff(ctx, a, b, o, func(d verify.Difference) error {
		v := verdict{ID: string(d.ID), Item: d.Leaf}
		if d.HasMine {
			v.Here = d.Mine.String()
		}
		if d.HasTheirs {
			v.There = d.Theirs.String()
		}
		done := false
		if c.Repair {
			var err error
			if v.Repair, done, err = r.Repair(ctx, v.ID); err != nil {
				return fmt.Errorf("repair of %q: %w", v.ID, err)
			}
		}
		if done {
			repaired++
		} else {
			left++
		}
		if c.JSON {
			return out.Encode(&v)
		}
		_, err := fmt.Fprintln(p.out, v.text())
		return err
	})
	if err != nil {
		return peerFault(err)
	}
	if c.JSON {
		err = out.Encode(map[string]any{
			"end": true, "differences": stats.Differences, "repaired": repaired, "round_trips": stats.RoundTrips,
			"rows": stats.Rows, "hashes": stats.Hashes, "moved": stats.Moved, "truncated": stats.Truncated,
		})
	} else {
		_, err = fmt.Fprintf(p.out, "%d differ, %d repaired; %d round trips, %d hashes\n", stats.Differences, repaired, stats.RoundTrips, stats.Hashes)
	}
	if err == nil && left > 0 {
		err = &exitError{exitDiffers, fmt.Errorf("%s and %s differ in %d", here.base, there.base, left)}
	}
	return err
}

// peerFault gives the errors of a comparison their exit codes.
func peerFault(err error) error {
	var e *exitError
	switch {
	case errors.As(err, &e):
		return err
	case errors.Is(err, verify.ErrBuilding):
		return &exitError{exitUnavailable, fmt.Errorf("%w; try again when /healthz says that it follows", err)}
	case errors.Is(err, verify.ErrUnlike), errors.Is(err, verify.ErrBadPeer):
		return &exitError{exitRefused, err}
	}
	return err
}
