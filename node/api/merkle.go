package api

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/edgenode/edgenode/node/problem"
	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

// Merkle is what the API asks of the tree of hashes in L3; *tiers.Engine is one.
type Merkle interface {
	MerkleBranch(ctx context.Context, path string) (tiers.TreeHead, error)
	MerkleL2(ctx context.Context, path string) (tiers.TreeHead, error)
	MerkleChildren(ctx context.Context, path string, after []byte, limit int, fn func(c tiers.TreeChild) error) error
	MerkleDirty(ctx context.Context, path string, limit int) (n int, exact bool, err error)
	MerkleDirtyBranches(ctx context.Context, limit int) (counts map[string]int, exact bool, err error)
	MerkleRows(ctx context.Context, path string, keys []string) ([][]byte, error)
	MerkleAudit(ctx context.Context, progress func(tiers.TreeAudit) error, fn func(tiers.TreeFinding) error) (tiers.TreeAudit, error)
	MerkleRebuild(ctx context.Context) error
	Row(ctx context.Context, key item.Key) (v item.View, pending bool, err error)
	Rows(ctx context.Context, keys []item.Key, fn func(i int, v item.View, pending bool) error) error
	L3Name(ctx context.Context) (string, error)
	Repair(ctx context.Context, v item.View) (tiers.Receipt, error)
	TombstoneRetention() time.Duration
}

const (
	maxMerkleKeys = 256
	maxDirty      = 10_000
	typeRecord    = "application/vnd.edgenode.record"
)

// merkleGet answers the questions about the tree.
func (c *call) merkleGet() *problem.Problem {
	if p := c.need(ScopeRead); p != nil {
		return p
	}
	if c.api.merkle == nil {
		return problem.New(problem.NotConfigured, "there is no Merkle tree")
	}
	if done, p := c.consultBulk(OpRead, c.who.Namespace); done || p != nil {
		return p
	}
	switch c.route {
	case routeMerkleRoot:
		return c.merkleRoot()
	case routeMerkleDirty:
		return c.merkleDirty()
	}
	return c.merkleNode()
}

// merklePath is the parameter path: inside the token's namespace.
func (c *call) merklePath(value string, dst *string) *problem.Problem {
	if p := c.reaches([]byte(value)); p != nil {
		return p
	}
	if err := tiers.CheckTreePath(value); err != nil {
		return problem.New(problem.BadParameter, err.Error())
	}
	if p := idProblem(item.CheckIDPrefix(value)); p != nil {
		return p
	}
	*dst = value
	return nil
}

// merkleRoot answers GET /v1/merkle/root: that of what the token sees.
func (c *call) merkleRoot() *problem.Problem {
	if p := noParams(c.query); p != nil {
		return p
	}
	h, err := c.api.merkle.MerkleBranch(c.x.Context(), c.who.Namespace)
	if err != nil {
		return c.fault(err)
	}
	b := appendInt([]byte(`{"format":`), int64(h.Format))
	b = appendString(append(b, `,"path":`...), c.who.Namespace)
	b = appendInt(append(b, `,"tombstone_retention_ms":`...), c.api.merkle.TombstoneRetention().Milliseconds())
	b = append(appendHead(append(b, `,"l3":{`...), h), `},"l2":{`...)
	// Redis that is away, or keeps no copy, is no reason to say nothing of SQL.
	h, err = c.api.merkle.MerkleL2(c.x.Context(), c.who.Namespace)
	if err != nil {
		h.Known = false
	}
	c.answerJSON(append(appendHead(b, h), '}'))
	return nil
}

// appendHead appends the members of a branch: unknown, absent, or its hash.
func appendHead(b []byte, h tiers.TreeHead) []byte {
	switch {
	case !h.Known:
		return append(b, `"state":"unknown"`...)
	case !h.Exists:
		b = append(b, `"state":"absent"`...)
	default:
		b = appendString(append(b, `"state":"hash","hash":`...), h.Hash.String())
	}
	b = strconv.AppendUint(append(b, `,"items":`...), h.Leaves, 10)
	b = strconv.AppendUint(append(b, `,"children":`...), h.Children, 10)
	b = strconv.AppendUint(append(b, `,"seq":"`...), h.Seq, 10)
	return append(b, '"')
}

// merkleNode answers GET /v1/merkle/nodes: a branch and a page of its children.
func (c *call) merkleNode() *problem.Problem {
	path, limit := c.who.Namespace, defaultPage
	var after []byte
	p := params(c.query, func(name, value string) (bool, *problem.Problem) {
		switch name {
		case "path":
			return true, c.merklePath(value, &path)
		case "limit":
			return true, intParam(name, value, 0, maxPage, &limit)
		case "after":
			var err error
			if after, err = base64.RawURLEncoding.DecodeString(value); err != nil || len(after) > 1+item.MaxIDLen {
				return true, &problem.Problem{Kind: problem.BadCursor}
			}
			after = append([]byte{}, after[min(1, len(after)):]...)
			return true, nil
		}
		return false, nil
	})
	if p != nil {
		return p
	}
	ctx := c.x.Context()
	h, err := c.api.merkle.MerkleBranch(ctx, path)
	if err != nil {
		return c.fault(err)
	}
	b := appendInt([]byte(`{"format":`), int64(h.Format))
	b = append(appendHead(append(appendString(append(b, `,"path":`...), path), ','), h), `,"list":[`...)
	n, last := 0, []byte(nil)
	if limit > 0 && h.Known && h.Exists {
		err = c.api.merkle.MerkleChildren(ctx, path, after, limit, func(child tiers.TreeChild) error {
			if n++; n > 1 {
				b = append(b, ',')
			}
			last = child.Segment
			b = appendChild(b, child)
			return nil
		})
		if err != nil {
			return c.fault(err)
		}
	}
	b = append(b, ']')
	if n > 0 && n == limit {
		b = appendString(append(b, `,"next":`...), base64.RawURLEncoding.EncodeToString(append([]byte{1}, last...)))
	}
	c.answerJSON(b)
	return nil
}

func appendChild(b []byte, child tiers.TreeChild) []byte {
	b = appendString(append(b, `{"segment":`...), child.Segment)
	b = strconv.AppendBool(append(b, `,"item":`...), child.Leaf)
	b = appendString(append(b, `,"hash":`...), child.Hash.String())
	return append(strconv.AppendUint(append(b, `,"items":`...), child.Leaves, 10), '}')
}

// merkleDirty answers GET /v1/merkle/dirty: how many items of a branch have
// changes that are not in the tree yet; or how many of each first segment.
func (c *call) merkleDirty() *problem.Problem {
	path, limit, branches := c.who.Namespace, maxDirty, false
	p := params(c.query, func(name, value string) (bool, *problem.Problem) {
		switch name {
		case "path":
			return true, c.merklePath(value, &path)
		case "limit":
			return true, intParam(name, value, 1, maxDirty, &limit)
		case "branches":
			return true, flagParam(name, value, &branches)
		}
		return false, nil
	})
	if p != nil {
		return p
	}
	if branches {
		return c.merkleDirtyBranches(path, limit)
	}
	n, exact, err := c.api.merkle.MerkleDirty(c.x.Context(), path, limit)
	if err != nil {
		return c.fault(err)
	}
	b := appendString([]byte(`{"path":`), path)
	b = appendInt(append(b, `,"items":`...), int64(n))
	c.answerJSON(strconv.AppendBool(append(b, `,"exact":`...), exact))
	return nil
}

// merkleDirtyBranches counts for each of the first segments of all ids.
func (c *call) merkleDirtyBranches(path string, limit int) *problem.Problem {
	if path != "" {
		return problem.New(problem.BadParameter, "branches are those of the whole tree: without path, and with a token that sees all")
	}
	counts, exact, err := c.api.merkle.MerkleDirtyBranches(c.x.Context(), limit)
	if err != nil {
		return c.fault(err)
	}
	b := []byte(`{"branches":[`)
	for i, segment := range slices.Sorted(maps.Keys(counts)) {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(append(b, `{"segment":`...), segment)
		b = append(appendInt(append(b, `,"items":`...), int64(counts[segment])), '}')
	}
	c.answerJSON(strconv.AppendBool(append(b, `],"exact":`...), exact))
	return nil
}

// merklePost answers what takes a body, and what only operators ask for.
func (c *call) merklePost() *problem.Problem {
	need := ScopeRead
	if c.route != routeMerkleDiff && c.route != routeMerkleRecords {
		need = ScopeAdmin
	}
	if p := c.need(need); p != nil {
		return p
	}
	if p := noParams(c.query); p != nil {
		return p
	}
	if c.api.merkle == nil {
		return problem.New(problem.NotConfigured, "there is no Merkle tree")
	}
	switch c.route {
	case routeMerkleDiff:
		return c.merkleDiff()
	case routeMerkleRecords:
		return c.records()
	case routeMerkleAudit:
		return c.merkleAudit()
	}
	if c.who.Namespace != "" {
		return problem.New(problem.OutsideNamespace, "the tree is that of all items")
	}
	if err := c.api.merkle.MerkleRebuild(c.x.Context()); err != nil {
		return c.fault(err)
	}
	c.api.log.Info("audit: merkle rebuild", "token", c.who.Name, "client", c.x.Client())
	c.answerJSON([]byte(`{"state":"building"`))
	return nil
}

// merkleDiff answers POST /v1/merkle/diff, the questions of a node that compares:
// rows of the tree by their keys.
func (c *call) merkleDiff() *problem.Problem {
	return c.withBody(maxSmallBody, func(body []byte) *problem.Problem {
		path, keys := c.who.Namespace, []string(nil)
		var refused *problem.Problem
		err := members(body, func(name string, value []byte) error {
			switch name {
			case "path":
				var s string
				if err := stringMember(name, value, &s); err != nil {
					return err
				}
				refused = c.merklePath(s, &path)
				return nil
			case "keys":
				return stringsMember(name, value, &keys)
			}
			return fmt.Errorf("member %q is not known", name)
		})
		if err != nil {
			return problem.New(problem.BadBody, err.Error())
		}
		if refused != nil {
			return refused
		}
		if len(keys) == 0 || len(keys) > maxMerkleKeys {
			return problem.Newf(problem.BadBody, "%d keys, allowed are 1 to %d", len(keys), maxMerkleKeys)
		}
		for i := range keys {
			raw, err := base64.StdEncoding.DecodeString(keys[i])
			if err != nil {
				return problem.Newf(problem.BadBody, "key %d: %v", i, err)
			}
			keys[i] = string(raw)
		}
		return c.merkleRows(path, keys)
	})
}

func (c *call) merkleRows(path string, keys []string) *problem.Problem {
	rows, err := c.api.merkle.MerkleRows(c.x.Context(), path, keys)
	if err != nil {
		return c.fault(err)
	}
	b := appendInt([]byte(`{"format":`), tiers.TreeFormat)
	b = append(b, `,"rows":[`...)
	for i, row := range rows {
		if i > 0 {
			b = append(b, ',')
		}
		if row == nil {
			b = append(b, "null"...)
			continue
		}
		b = append(base64.StdEncoding.AppendEncode(append(b, '"'), row), '"')
	}
	c.answerJSON(append(b, ']'))
	return nil
}

// merkleAudit answers POST /v1/merkle/audit: lines of progress and findings, and
// what has come of it last.
func (c *call) merkleAudit() *problem.Problem {
	if c.who.Namespace != "" {
		return problem.New(problem.OutsideNamespace, "the tree is that of all items")
	}
	ctx, cancel := context.WithCancelCause(c.x.Context())
	defer cancel(nil)
	defer context.AfterFunc(c.api.draining, func() { cancel(errDraining) })()
	s := auditing{c: c}
	a, err := c.api.merkle.MerkleAudit(ctx, func(a tiers.TreeAudit) error {
		return s.line(func(b []byte) []byte { return appendAudit(b, a) })
	}, func(f tiers.TreeFinding) error {
		return s.line(func(b []byte) []byte {
			b = appendString(append(b, `"id":`...), f.ID)
			if f.InTree {
				b = appendString(append(b, `,"tree":`...), f.Tree.String())
			}
			return appendString(append(b, `,"row":`...), f.Row.String())
		})
	})
	if errors.Is(err, errDraining) {
		err = tiers.ErrShuttingDown
	}
	switch {
	case err != nil && s.w == nil:
		return c.fault(err)
	case err != nil:
		p := c.fault(err)
		err = s.line(func(b []byte) []byte { return p.AppendJSON(append(b, `"problem":`...)) })
	default:
		err = s.line(func(b []byte) []byte {
			b = strconv.AppendBool(append(b, `"end":true,"good":`...), a.Good())
			b = strconv.AppendBool(append(b, `,"counted":`...), a.Counted)
			return appendAudit(append(b, ','), a)
		})
	}
	c.sent(err)
	return nil
}

func appendAudit(b []byte, a tiers.TreeAudit) []byte {
	b = strconv.AppendUint(append(b, `"items":`...), a.Items, 10)
	b = strconv.AppendUint(append(b, `,"leaves":`...), a.Leaves, 10)
	b = strconv.AppendUint(append(b, `,"findings":`...), a.Findings, 10)
	return strconv.AppendUint(append(b, `,"undecided":`...), a.Undecided, 10)
}

// auditing writes an answer line by line, each at once.
type auditing struct {
	c *call
	w io.Writer
}

func (s *auditing) line(members func(b []byte) []byte) (err error) {
	if s.w == nil {
		s.c.status(200)
		s.c.x.Add("Content-Type", typeNDJSON)
		s.c.x.Add("Cache-Control", "no-store")
		if s.w, err = s.c.x.Stream(-1); err != nil {
			return err
		}
	}
	if _, err = s.w.Write(append(members([]byte{'{'}), "}\n"...)); err != nil {
		return err
	}
	if w, ok := s.w.(interface{ Flush() error }); ok {
		return w.Flush()
	}
	return nil
}

// record answers GET and PUT /v1/merkle/record?id=: what L3 holds of an id, with
// versions, tombstones too; and the same from another node.
func (c *call) record(method string) *problem.Problem {
	scope, op := ScopeRead, OpRead
	if method == "PUT" {
		scope, op = ScopeWrite, OpWrite
	}
	if p := c.need(scope); p != nil {
		return p
	}
	if c.api.merkle == nil {
		return problem.New(problem.NotConfigured, "there is no Merkle tree")
	}
	id := ""
	p := params(c.query, func(name, value string) (bool, *problem.Problem) {
		if name == "id" {
			id = value
		}
		return name == "id", nil
	})
	if p == nil {
		p = idProblem(item.CheckID(id))
	}
	if p == nil {
		p = c.reaches([]byte(id))
	}
	if p != nil {
		return p
	}
	if done, p := c.consult2(op, id); done || p != nil {
		return p
	}
	key := item.AppendKey(nil, item.NamespaceItem, id)
	if method == "PUT" {
		return c.putRecord(key)
	}
	v, pending, err := c.api.merkle.Row(c.x.Context(), key)
	if err != nil {
		return c.fault(err)
	}
	if v == nil && !pending {
		return &problem.Problem{Kind: problem.NotFound}
	}
	c.status(200)
	c.x.Add("Content-Type", typeRecord)
	c.x.Add("Cache-Control", "no-store")
	c.x.Add("Edge-Pending", strconv.FormatBool(pending))
	c.sent(c.x.Send(v))
	return nil
}

// consult2 asks the policy, if there is one.
func (c *call) consult2(op Op, id string) (done bool, p *problem.Problem) {
	if c.api.policy == nil {
		return false, nil
	}
	return c.consult(op, []byte(id), max(c.x.ContentLength(), 0))
}

// Bounds of an answer with many records.
const (
	maxRecords     = 256
	maxRecordBytes = 8 << 20
)

// records answers POST /v1/merkle/records: what L3 holds of many ids, a line each in
// no order. What would make the answer too long is to be asked for again, and what
// is too long for a line alone.
func (c *call) records() *problem.Problem {
	return c.withBody(maxSmallBody, func(body []byte) *problem.Problem {
		var ids []string
		err := members(body, func(name string, value []byte) error {
			if name != "ids" {
				return unknownMember(name)
			}
			return stringsMember(name, value, &ids)
		})
		if err != nil {
			return problem.New(problem.BadBody, err.Error())
		}
		if len(ids) == 0 || len(ids) > maxRecords {
			return problem.Newf(problem.BadBody, "%d ids, allowed are 1 to %d", len(ids), maxRecords)
		}
		keys := make([]item.Key, len(ids))
		for i, id := range ids {
			if keys[i], err = item.IDKey(id); err != nil {
				return idProblem(err)
			}
			if p := c.reaches(keys[i].Own()); p != nil {
				return p
			}
			if done, p := c.consult2(OpRead, id); done || p != nil {
				return p
			}
		}
		return c.sendRecords(keys)
	})
}

func (c *call) sendRecords(keys []item.Key) *problem.Problem {
	b, size := []byte(nil), 0
	err := c.api.merkle.Rows(c.x.Context(), keys, func(i int, v item.View, pending bool) error {
		b = appendString(append(b, `{"id":`...), keys[i].Own())
		b = strconv.AppendBool(append(b, `,"pending":`...), pending)
		switch {
		case v != nil && len(v.Content()) > maxFeedContent:
			b = appendInt(append(b, `,"size":`...), int64(len(v.Content())))
		case v != nil && size > 0 && size+len(v) > maxRecordBytes:
			b = append(b, `,"later":true`...)
		case v != nil:
			size += len(v)
			b = appendBase64(append(b, `,"record":`...), v)
		}
		b = append(b, "}\n"...)
		return nil
	})
	if err != nil {
		return c.fault(err)
	}
	c.status(200)
	c.x.Add("Content-Type", typeNDJSON)
	c.x.Add("Cache-Control", "no-store")
	c.sent(c.x.Send(append(b, "{\"end\":true}\n"...)))
	return nil
}

// recordSlack is what a record has beside its content at most.
const recordSlack = 1 << 20

func (c *call) putRecord(key item.Key) *problem.Problem {
	return c.withBody(c.api.maxPayload+recordSlack, func(body []byte) *problem.Problem {
		v, err := item.Parse(bytes.Clone(body))
		if err != nil {
			return problem.New(problem.BadBody, err.Error())
		}
		if !bytes.Equal(v.Key(), key) {
			return problem.New(problem.BadBody, "the record is of another id")
		}
		if c.theirs(key.Own()) {
			return c.replicated("the id is read-only here")
		}
		if p := c.spend(1, len(v.Content())); p != nil {
			return p
		}
		_, err = c.api.merkle.Repair(c.x.Context(), v)
		c.api.log.Info("audit: repair", "token", c.who.Name, "client", c.x.Client(), "id", key.ID(), "version", v.Version().String(), "done", err == nil)
		switch {
		case errors.Is(err, item.ErrClockSkew):
			return problem.New(problem.BadVersion, err.Error())
		case err != nil:
			return c.fault(err)
		}
		c.status(204)
		c.sent(c.x.Send(nil))
		return nil
	})
}
