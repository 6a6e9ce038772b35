package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// An itemInfo is what the node says of an item in the fields of an answer.
type itemInfo struct {
	ID        string  `json:"id"`
	Version   string  `json:"version,omitempty"`
	ETag      string  `json:"etag,omitempty"`
	MIME      string  `json:"mime,omitempty"`
	State     string  `json:"state,omitempty"`
	Cache     string  `json:"cache_status,omitempty"`
	Persisted string  `json:"persisted,omitempty"`
	Existed   string  `json:"existed,omitempty"`
	Size      *int64  `json:"size,omitempty"`
	Text      *string `json:"text,omitempty"`
	Base64    *string `json:"content_b64,omitempty"`
}

func infoOf(id string, h http.Header) itemInfo {
	return itemInfo{
		ID: id, Version: h.Get("Edge-Version"), ETag: strings.Trim(h.Get("ETag"), `"`), MIME: h.Get("Content-Type"),
		State: h.Get("Edge-State"), Cache: h.Get("Cache-Status"), Persisted: h.Get("Edge-Persisted"), Existed: h.Get("Edge-Existed"),
	}
}

// getCommand reads one item.
type getCommand struct {
	nodeFlags
	jsonFlag
	ID     string `arg:"" help:"Id of the item."`
	Output string `short:"o" type:"path" placeholder:"FILE" help:"Write the content there, all or nothing."`
	Verify bool   `help:"Let the node recompute the hash of the content."`
	Least  uint64 `name:"min-version" placeholder:"VERSION" help:"Take this version or a newer one only."`
}

// Run writes the content as it is, or with --json in one object with what
// belongs to it.
func (c *getCommand) Run(p *process) error {
	n, err := c.client()
	if err != nil {
		return err
	}
	defer n.close()
	ctx, stop := p.interruptible()
	defer stop()
	query := url.Values{}
	if c.Verify {
		query.Set("verify", "1")
	}
	if c.Least != 0 {
		query.Set("min_version", strconv.FormatUint(c.Least, 10))
	}
	resp, err := n.do(ctx, request{method: "GET", path: itemPath(c.ID, ""), query: query})
	if err != nil {
		return fmt.Errorf("get %s: %w", c.ID, err)
	}
	defer func() { _ = resp.Body.Close() }() // it was only read
	switch {
	case c.Output != "":
		err = toFile(c.Output, resp.Body)
	case c.JSON:
		err = itemJSON(p.out, c.ID, resp)
	default:
		_, err = io.Copy(p.out, resp.Body)
	}
	if err != nil {
		return &exitError{exitFailed, fmt.Errorf("get %s: %w", c.ID, err)}
	}
	return nil
}

// itemJSON writes an item with its content: as text if it is UTF-8.
func itemJSON(w io.Writer, id string, resp *http.Response) error {
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	info, size := infoOf(id, resp.Header), int64(len(content))
	info.Size = &size
	if text := string(content); utf8.ValidString(text) {
		info.Text = &text
	} else {
		text = base64.StdEncoding.EncodeToString(content)
		info.Base64 = &text
	}
	return writeJSON(w, info)
}

// toFile writes r to a file that appears only when it is whole.
func toFile(name string, r io.Reader) (err error) {
	f, err := os.CreateTemp(dirOf(name), ".edgenode-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = io.Copy(f, r)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

func dirOf(name string) string {
	if i := strings.LastIndexByte(name, os.PathSeparator); i > 0 {
		return name[:i]
	}
	return "."
}

// putCommand stores one item.
type putCommand struct {
	nodeFlags
	jsonFlag
	ID         string   `arg:"" help:"Id of the item: 1 to 1,024 bytes of UTF-8."`
	File       string   `arg:"" optional:"" default:"-" help:"File with the content; - is standard input."`
	MIME       string   `name:"mime" placeholder:"TYPE" help:"Content type; without it the node decides between JSON and binary."`
	TTL        string   `name:"ttl" help:"Lifetime: 900, 15m, l1=60,l3=1d, a class (minute hour day week) or never."`
	Tags       []string `placeholder:"TAG,..." help:"Tags, comma-separated or repeated."`
	State      string   `help:"State: up to 32 of a-z 0-9 _ -."`
	Tiers      []string `placeholder:"TIER,..." help:"Tiers: l1, l2, l3."`
	Durability string   `enum:",memory,journal,sync,l3" default:"" help:"Level that the acknowledgement waits for: memory, journal, sync or l3."`
	IfMatch    string   `placeholder:"ETAG" help:"Store only over this content; * for any."`
	IfAbsent   bool     `help:"Store only if there is no such item."`
}

// Run stores the content and shows what was acknowledged.
func (c *putCommand) Run(p *process) error {
	n, err := c.client()
	if err != nil {
		return err
	}
	defer n.close()
	ctx, stop := p.interruptible()
	defer stop()
	body, length, err := open(c.File, p)
	if err != nil {
		return fmt.Errorf("put %s: %w", c.ID, err)
	}
	defer func() { _ = body.Close() }() // it was only read
	resp, err := n.do(ctx, request{method: "PUT", path: itemPath(c.ID, ""), header: c.header(), body: body, length: length})
	if err != nil {
		return fmt.Errorf("put %s: %w", c.ID, err)
	}
	defer func() { _ = resp.Body.Close() }() // it was only read
	info := infoOf(c.ID, resp.Header)
	info.MIME = "" // of the empty answer
	if c.JSON {
		return writeJSON(p.out, info)
	}
	fmt.Fprintf(p.out, "stored %s: version %s, etag %s, persisted %s\n", c.ID, info.Version, info.ETag, info.Persisted)
	return nil
}

// header returns the fields that the flags mean.
func (c *putCommand) header() http.Header {
	h := http.Header{}
	for name, value := range map[string]string{
		"Content-Type": c.MIME, "Edge-TTL": c.TTL, "Edge-Tags": strings.Join(c.Tags, ","), "Edge-State": c.State,
		"Edge-Tiers": strings.Join(c.Tiers, ","), "Edge-Durability": c.Durability, "If-Match": quoted(c.IfMatch),
	} {
		if value != "" {
			h.Set(name, value)
		}
	}
	if c.IfAbsent {
		h.Set("If-None-Match", "*")
	}
	return h
}

// quoted returns an entity tag in the quotes that the wire wants.
func quoted(etag string) string {
	if etag == "" || etag == "*" || strings.HasPrefix(etag, `"`) {
		return etag
	}
	return `"` + etag + `"`
}

// open returns the content to store and its length, -1 if that is not known.
func open(name string, p *process) (io.ReadCloser, int64, error) {
	if name == "-" {
		return io.NopCloser(p.in), -1, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return f, -1, err
	}
	return f, info.Size(), nil
}

// deleteCommand deletes one item.
type deleteCommand struct {
	nodeFlags
	jsonFlag
	ID         string `arg:"" help:"Id of the item."`
	IfMatch    string `placeholder:"ETAG" help:"Delete only this content; * for any."`
	Durability string `enum:",memory,journal,sync,l3" default:"" help:"Level that the acknowledgement waits for."`
}

// Run deletes the item; that there is none is no error.
func (c *deleteCommand) Run(p *process) error {
	n, err := c.client()
	if err != nil {
		return err
	}
	defer n.close()
	ctx, stop := p.interruptible()
	defer stop()
	h := http.Header{}
	if c.IfMatch != "" {
		h.Set("If-Match", quoted(c.IfMatch))
	}
	if c.Durability != "" {
		h.Set("Edge-Durability", c.Durability)
	}
	resp, err := n.do(ctx, request{method: "DELETE", path: itemPath(c.ID, ""), header: h})
	if err != nil {
		return fmt.Errorf("delete %s: %w", c.ID, err)
	}
	defer func() { _ = resp.Body.Close() }() // it is empty
	info := infoOf(c.ID, resp.Header)
	info.MIME = "" // of the empty answer
	if c.JSON {
		return writeJSON(p.out, info)
	}
	fmt.Fprintf(p.out, "deleted %s: existed %s, persisted %s\n", c.ID, info.Existed, info.Persisted)
	return nil
}

// statusCommand says where an item is.
type statusCommand struct {
	nodeFlags
	jsonFlag
	ID string `arg:"" help:"Id of the item."`
}

// whereabouts is the node's answer to a question of status.
type whereabouts struct {
	Where     string `json:"where"`
	Version   string `json:"version"`
	L1        bool   `json:"l1"`
	L2        bool   `json:"l2"`
	L3        bool   `json:"l3"`
	Tombstone bool   `json:"tombstone"`
}

// Run shows where the newest version of the item is.
func (c *statusCommand) Run(p *process) error {
	n, err := c.client()
	if err != nil {
		return err
	}
	defer n.close()
	ctx, stop := p.interruptible()
	defer stop()
	var s whereabouts
	raw, err := n.object(ctx, request{method: "GET", path: itemPath(c.ID, ":status")}, &s)
	if err != nil {
		return fmt.Errorf("status %s: %w", c.ID, err)
	}
	if c.JSON {
		fmt.Fprintf(p.out, "%s\n", raw)
	} else {
		fmt.Fprintf(p.out, "%s: %s\n", c.ID, s)
	}
	if s.Where == "missing" || s.Tombstone {
		return &exitError{exitMissing, fmt.Errorf("status %s: there is no such item", c.ID)}
	}
	return nil
}

// String returns the answer for people.
func (s whereabouts) String() string {
	text := s.Where
	if s.Tombstone {
		text += ", deleted"
	}
	if v, err := strconv.ParseUint(s.Version, 10, 64); err == nil {
		text += fmt.Sprintf(", version %s of %s", s.Version, time.UnixMilli(int64(v>>16)).UTC().Format(time.RFC3339))
	}
	for _, t := range []struct {
		name string
		in   bool
	}{{"l1", s.L1}, {"l2", s.L2}, {"l3", s.L3}} {
		if t.in {
			text += ", in " + t.name
		}
	}
	return text
}
