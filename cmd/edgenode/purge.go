package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// purgeCommand purges by exactly one selector.
type purgeCommand struct {
	nodeFlags
	jsonFlag
	ID     string   `name:"id" xor:"by" required:"" help:"The copies of this item."`
	For    string   `name:"for-url" xor:"by" required:"" placeholder:"URL" help:"Answers for this URL, every variant."`
	Host   string   `xor:"by" required:"" help:"Answers for this host."`
	Prefix string   `xor:"by" required:"" help:"Answers whose URL begins so, or copies of items whose id does."`
	Tag    []string `xor:"by" required:"" help:"What carries one of these tags; may be repeated."`
	State  string   `xor:"by" required:"" help:"The copies of items in this state."`
	All    bool     `xor:"by" required:"" help:"Everything."`

	Soft bool `help:"Make stale what would be gone: it may stand in while the origin fails, and is validated."`
	Wait bool `help:"Wait until every node of the group has applied it."`
}

// selection returns the body of the request.
func (c *purgeCommand) selection() ([]byte, error) {
	body := map[string]any{}
	for name, value := range map[string]string{"id": c.ID, "url": c.For, "host": c.Host, "prefix": c.Prefix, "state": c.State} {
		if value != "" {
			body[name] = value
		}
	}
	if len(c.Tag) > 0 {
		body["tags"] = c.Tag
	}
	if c.All {
		body["all"] = true
	}
	if len(body) != 1 { // an empty value of one that was given
		return nil, &exitError{exitUsage, fmt.Errorf("purge: the selector is empty; to purge everything say --all")}
	}
	if c.Soft {
		body["soft"] = true
	}
	return json.Marshal(body)
}

// Run purges; the purge holds when it returns.
func (c *purgeCommand) Run(p *process) error {
	n, err := c.client()
	if err != nil {
		return err
	}
	defer n.close()
	ctx, stop := p.interruptible()
	defer stop()
	body, err := c.selection()
	if err != nil {
		return err
	}
	query := url.Values{}
	if c.Wait {
		query.Set("wait", "all")
	}
	var done struct {
		Version  string `json:"version"`
		L1       int64  `json:"l1"`
		L2       int64  `json:"l2"`
		L3       int64  `json:"l3"`
		Complete bool   `json:"complete"`
		Nodes    struct {
			Applied []string `json:"applied"`
			Pending []string `json:"pending"`
		} `json:"nodes"`
	}
	raw, err := n.object(ctx, request{
		method: "POST", path: "/v1/purge", query: query, body: bytes.NewReader(body), length: int64(len(body)),
		header: http.Header{"Content-Type": {"application/json"}},
	}, &done)
	if err != nil {
		return fmt.Errorf("purge: %w", err)
	}
	if c.JSON {
		fmt.Fprintf(p.out, "%s\n", raw)
		return nil
	}
	fmt.Fprintf(p.out, "purged: version %s, removed %d from memory, %d from Redis and %d from SQL so far", done.Version, done.L1, done.L2, done.L3)
	if !done.Complete {
		fmt.Fprint(p.out, "; it holds already, the rest is removed in the background")
	}
	fmt.Fprintf(p.out, "\nnodes: %s", strings.Join(done.Nodes.Applied, ", "))
	if len(done.Nodes.Pending) > 0 {
		fmt.Fprintf(p.out, "; pending: %s", strings.Join(done.Nodes.Pending, ", "))
	}
	fmt.Fprintln(p.out)
	return nil
}
