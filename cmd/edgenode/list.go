package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
)

// pageItems is how many items are asked for at once.
const pageItems = 1000

// maxLine bounds one line of a list: 256 tags of 256 bytes, escaped, fit.
const maxLine = 1 << 20

// listCommand lists items.
type listCommand struct {
	nodeFlags
	jsonFlag
	Prefix string `help:"Only ids that begin so."`
	State  string `help:"Only items in this state."`
	Tag    string `help:"Only items with this tag."`
	Limit  int    `placeholder:"N" help:"Stop after this many; without it all are listed."`
}

// A listed is one line of a page: an item, or the end.
type listed struct {
	ID    string   `json:"id"`
	Size  int64    `json:"size"`
	MIME  string   `json:"mime"`
	State string   `json:"state"`
	Tags  []string `json:"tags"`

	Version string `json:"version"`
	End     bool   `json:"end"`
	Next    string `json:"next"`
}

// Run writes a line per item: JSON as the node sent it, or id, size, type, state,
// version and tags between tabs; on a terminal in columns.
func (c *listCommand) Run(p *process) error {
	n, err := c.client()
	if err != nil {
		return err
	}
	defer n.close()
	ctx, stop := p.interruptible()
	defer stop()
	out := bufio.NewWriter(p.out)
	write, finish := c.writer(out, p.isTerminal(p.out))
	err = c.pages(ctx, n, write)
	if err = errors.Join(err, finish(), out.Flush()); err != nil {
		return fmt.Errorf("list: %w", err)
	}
	return nil
}

// writer returns what writes one item, and what ends the output.
func (c *listCommand) writer(out io.Writer, terminal bool) (write func(line []byte, item *listed) error, finish func() error) {
	nothing := func() error { return nil }
	if c.JSON {
		return func(line []byte, _ *listed) error { _, err := fmt.Fprintf(out, "%s\n", line); return err }, nothing
	}
	if terminal {
		t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "ID\tSIZE\tTYPE\tSTATE\tVERSION\tTAGS")
		out, finish = t, t.Flush
	} else {
		finish = nothing
	}
	return func(_ []byte, i *listed) error {
		_, err := fmt.Fprintf(out, "%s\t%d\t%s\t%s\t%s\t%s\n", i.ID, i.Size, i.MIME, i.State, i.Version, strings.Join(i.Tags, ","))
		return err
	}, finish
}

// pages asks for page after page.
func (c *listCommand) pages(ctx context.Context, n *client, write func([]byte, *listed) error) error {
	query := url.Values{}
	for name, value := range map[string]string{"prefix": c.Prefix, "state": c.State, "tag": c.Tag} {
		if value != "" {
			query.Set(name, value)
		}
	}
	left := c.Limit
	for {
		ask := pageItems
		if c.Limit > 0 {
			ask = min(ask, left)
		}
		query.Set("limit", strconv.Itoa(ask))
		count, next, err := page(ctx, n, query, write)
		if err != nil {
			return err
		}
		left -= count
		if next == "" || c.Limit > 0 && left <= 0 {
			return nil
		}
		query.Set("cursor", next)
	}
}

// page asks for one page. A page without its last line was cut off.
func page(ctx context.Context, n *client, query url.Values, write func([]byte, *listed) error) (count int, next string, err error) {
	resp, err := n.do(ctx, request{
		method: "GET", path: "/v1/items", query: query, header: http.Header{"Accept": {"application/x-ndjson"}},
	})
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }() // it was only read
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var i listed
		if err := json.Unmarshal(lines.Bytes(), &i); err != nil {
			return count, "", &exitError{exitUnavailable, fmt.Errorf("answer of %s: %w; is it an edgenode?", n.base, err)}
		}
		if i.End {
			return count, i.Next, nil
		}
		if err := write(lines.Bytes(), &i); err != nil {
			return count, "", err
		}
		count++
	}
	if err := lines.Err(); err != nil {
		return count, "", &exitError{exitUnavailable, err}
	}
	return count, "", &exitError{exitUnavailable, errors.New("the answer was cut off; list again")}
}
