package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/edgenode/edgenode/node/verify"
)

var _ verify.Node = (*treeNode)(nil)
var _ verify.Tree = (*treeNode)(nil)

// A treeNode is a node to compare, below a path, seen over HTTP.
type treeNode struct {
	*client
	path string
}

// Head returns what is below the path.
func (t *treeNode) Head(ctx context.Context) (verify.Head, error) {
	var answer struct {
		Format int    `json:"format"`
		State  string `json:"state"`
		Hash   string `json:"hash"`
		Seq    uint64 `json:"seq,string"`
	}
	query := url.Values{"path": {t.path}, "limit": {"0"}}
	if _, err := t.object(ctx, request{method: "GET", path: "/v1/merkle/nodes", query: query}, &answer); err != nil {
		return verify.Head{}, err
	}
	return verify.ParseHead(answer.Format, answer.State, answer.Hash, answer.Seq)
}

// maxRowsAnswer bounds the answer to one question for rows.
const maxRowsAnswer = 64 << 20

// Rows returns rows of the tree.
func (t *treeNode) Rows(ctx context.Context, keys []string) ([][]byte, error) {
	raw := make([][]byte, len(keys))
	for i, k := range keys {
		raw[i] = []byte(k)
	}
	body, err := json.Marshal(map[string]any{"path": t.path, "keys": raw})
	if err != nil {
		return nil, err
	}
	resp, err := t.do(ctx, request{method: "POST", path: "/v1/merkle/diff", body: bytes.NewReader(body), length: int64(len(body))})
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }() // it was only read
	var answer struct {
		Rows [][]byte `json:"rows"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxRowsAnswer)).Decode(&answer); err != nil {
		return nil, &exitError{exitUnavailable, fmt.Errorf("answer of %s: %w; is it an edgenode?", t.base, err)}
	}
	return answer.Rows, nil
}

// Retention asks how long the node remembers a delete.
func (t *treeNode) Retention(ctx context.Context) (time.Duration, error) {
	var answer struct {
		Milliseconds int64 `json:"tombstone_retention_ms"`
	}
	_, err := t.object(ctx, request{method: "GET", path: "/v1/merkle/root"}, &answer)
	return time.Duration(answer.Milliseconds) * time.Millisecond, err
}

const recordPath = "/v1/merkle/record"

// Record returns what the node has of id.
func (t *treeNode) Record(ctx context.Context, id string) (record []byte, pending bool, err error) {
	resp, err := t.do(ctx, request{method: "GET", path: recordPath, query: url.Values{"id": {id}}})
	var e *exitError
	if errors.As(err, &e) && e.code == exitMissing {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	defer func() { _ = resp.Body.Close() }() // it was only read
	if record, err = io.ReadAll(resp.Body); err != nil {
		return nil, false, t.unreachable(ctx, err)
	}
	return record, resp.Header.Get("Edge-Pending") == "true", nil
}

// Give hands the node a record.
func (t *treeNode) Give(ctx context.Context, id string, record []byte) (taken bool, err error) {
	resp, err := t.do(ctx, request{
		method: "PUT", path: recordPath, query: url.Values{"id": {id}}, body: bytes.NewReader(record), length: int64(len(record)),
		header: http.Header{"Content-Type": {"application/vnd.edgenode.record"}},
	})
	return took(resp, err, http.StatusConflict)
}

// Remove deletes an item if it still has the version.
func (t *treeNode) Remove(ctx context.Context, id, version string) (done bool, err error) {
	resp, err := t.do(ctx, request{method: "DELETE", path: itemPath(id, ""), header: http.Header{"Edge-If-Version": {version}}})
	return took(resp, err, http.StatusPreconditionFailed)
}

// took says what came of a request that the node may refuse with a status.
func took(resp *http.Response, err error, no int) (bool, error) {
	var r *refusal
	switch {
	case errors.As(err, &r) && r.Status == no:
		return false, nil
	case err != nil:
		return false, err
	}
	return true, resp.Body.Close()
}

// trimmed returns what a file of a token holds.
func trimmed(b []byte) string { return strings.TrimSpace(string(b)) }
