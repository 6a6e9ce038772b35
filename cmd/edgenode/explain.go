package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// explainCommand asks the admin listener what is stored and why.
type explainCommand struct {
	jsonFlag
	Admin  string   `env:"EDGENODE_ADMIN" default:"http://127.0.0.1:8081" help:"Base URL of the node's admin listener."`
	Token  string   `env:"EDGENODE_TOKEN" help:"Bearer token with the scope admin; not needed on loopback."`
	Method string   `short:"X" help:"Method of the request; default GET."`
	Header []string `short:"H" sep:"none" placeholder:"NAME: VALUE" help:"Header field of the request; may be repeated."`
	Client string   `placeholder:"ADDRESS" help:"Client address of the request."`
	ID     bool     `name:"id" help:"URL is the id of an item."`
	URL    string   `arg:"" name:"url" help:"What is asked about, as in https://shop.example/a?b."`
}

// request returns what is asked: GET for what is stored, POST for a request.
func (c *explainCommand) request() (request, error) {
	if c.ID {
		return request{method: "GET", path: "/explain", query: url.Values{"id": {c.URL}}}, nil
	}
	headers := map[string][]string{}
	for _, h := range c.Header {
		name, value, ok := strings.Cut(h, ":")
		if !ok {
			return request{}, &exitError{exitUsage, fmt.Errorf("explain: header %q has no colon; write --header 'Accept-Language: de'", h)}
		}
		headers[name] = append(headers[name], strings.TrimSpace(value))
	}
	question := map[string]any{"url": c.URL, "headers": headers}
	if c.Method != "" {
		question["method"] = c.Method
	}
	if c.Client != "" {
		question["client"] = c.Client
	}
	body, err := json.Marshal(question)
	if err != nil {
		return request{}, err
	}
	return request{method: "POST", path: "/explain", body: bytes.NewReader(body), length: int64(len(body))}, nil
}

// Run shows the answer: as text, or with --json as the node gave it.
func (c *explainCommand) Run(p *process) error {
	flags := adminFlags{Admin: c.Admin, Token: c.Token}
	n, err := flags.client()
	if err != nil {
		return err
	}
	defer n.close()
	ctx, stop := p.interruptible()
	defer stop()
	r, err := c.request()
	if err != nil {
		return err
	}
	r.header = http.Header{"Content-Type": {"application/json"}, "Accept": {"text/plain"}}
	if c.JSON {
		r.header.Set("Accept", "application/json")
	}
	resp, err := n.do(ctx, r)
	if err != nil {
		return fmt.Errorf("explain: %w", err)
	}
	defer func() { _ = resp.Body.Close() }() // it was only read
	_, err = io.Copy(p.out, io.LimitReader(resp.Body, maxAnswerText))
	return err
}
