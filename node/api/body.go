package api

import (
	"errors"
	"io"
	"time"

	"github.com/edgenode/edgenode/node/problem"
)

// Sizes of pooled bodies: buffers start small and grow with what arrives, so
// that an announced length costs nothing.
const (
	minBody       = 4 << 10
	maxPooledBody = 1 << 20
)

// withBody reads the whole body, at most limit bytes, and calls fn with it. The
// bytes are valid during fn.
func (c *call) withBody(limit int64, fn func(body []byte) *problem.Problem) *problem.Problem {
	if n := c.x.ContentLength(); n > limit {
		return tooLarge(limit, n)
	}
	buf := c.api.bodies.Get().(*[]byte)
	body, err := readAll(c.x.Body(), (*buf)[:0], limit)
	if cap(body) <= maxPooledBody {
		*buf = body[:0]
	}
	p := c.bodyProblem(err, limit)
	if p == nil {
		p = fn(body)
	}
	c.api.bodies.Put(buf)
	return p
}

// errBodyTooLarge is a body above the API's own limit.
var errBodyTooLarge = errors.New("api: body too large")

// readAll appends what r gives to dst, up to limit bytes.
func readAll(r io.Reader, dst []byte, limit int64) ([]byte, error) {
	if r == nil {
		return dst, nil
	}
	for {
		if len(dst) == cap(dst) {
			dst = append(dst, 0)[:len(dst)]
		}
		n, err := r.Read(dst[len(dst):cap(dst)])
		dst = dst[:len(dst)+n]
		if int64(len(dst)) > limit {
			return dst, errBodyTooLarge
		}
		if err == io.EOF {
			return dst, nil
		}
		if err != nil {
			return dst, err
		}
	}
}

func tooLarge(limit, value int64) *problem.Problem {
	return &problem.Problem{Kind: problem.ContentTooLarge, Limit: limit, Value: value}
}

// bodyProblem returns what an error of reading the body means, nil for nil.
func (c *call) bodyProblem(err error, limit int64) *problem.Problem {
	if err == nil {
		return nil
	}
	var large interface{ BodyTooLarge() bool }
	if errors.Is(err, errBodyTooLarge) || errors.As(err, &large) && large.BodyTooLarge() {
		return tooLarge(limit, max(c.x.ContentLength(), 0))
	}
	c.x.CloseAfter()
	var slow interface{ Timeout() bool }
	if errors.As(err, &slow) && slow.Timeout() {
		return problem.New(problem.RequestTimeout, "the body came slower than min_body_rate")
	}
	var malformed interface{ BodyMalformed() bool }
	if errors.As(err, &malformed) && malformed.BodyMalformed() {
		return problem.New(problem.BadRequest, "the chunks of the body cannot be read; nothing was written")
	}
	var busy interface{ Busy() bool }
	if errors.As(err, &busy) && busy.Busy() {
		return &problem.Problem{Kind: problem.Busy, Detail: "there is no room for this body beside those under way", RetryAfter: time.Second}
	}
	return &problem.Problem{Kind: problem.IncompleteBody}
}
