package replay

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// A Result is how a cache did.
type Result struct {
	Requests int   `json:"requests"`
	Hits     int   `json:"hits"`
	Bytes    int64 `json:"bytes"`
	HitBytes int64 `json:"hit_bytes"`
}

// HitRatio returns the share of requests that were hits, 0 to 1.
func (r Result) HitRatio() float64 { return float64(r.Hits) / float64(max(r.Requests, 1)) }

// ByteHitRatio returns the share of bytes that hits were, 0 to 1.
func (r Result) ByteHitRatio() float64 { return float64(r.HitBytes) / float64(max(r.Bytes, 1)) }

func (r *Result) add(size uint32, hit bool) {
	r.Requests++
	r.Bytes += int64(size)
	if hit {
		r.Hits++
		r.HitBytes += int64(size)
	}
}

// Run plays all of t against c. It stops with the cause when ctx ends. Progress,
// unless nil, is told now and then how many requests are done.
func Run(ctx context.Context, t *Trace, c Cache, progress func(done int)) (Result, error) {
	var r Result
	for i, id := range t.IDs {
		if i&(1<<14-1) == 0 {
			if ctx.Err() != nil {
				return r, context.Cause(ctx)
			}
			if progress != nil {
				progress(i)
			}
		}
		r.add(t.Sizes[id], c.Access(id, t.Sizes[id], t.Millis[i]))
	}
	return r, nil
}

// Serve answers another program: it reads 16 bytes per request, little endian,
// u32 id, u32 size, f64 seconds since the start, and writes one byte for each in
// order, '1' for a hit and '0' for a miss, until r ends. Ids must be below
// MaxKeys. What it writes is complete when it returns.
func Serve(r io.Reader, w io.Writer, c Cache) (Result, error) {
	in, out := bufio.NewReaderSize(r, 1<<16), bufio.NewWriterSize(w, 1<<16)
	result, err := serve(in, out, c)
	return result, errors.Join(err, out.Flush())
}

func serve(in io.Reader, out io.ByteWriter, c Cache) (result Result, err error) {
	var b [16]byte
	for {
		switch _, err := io.ReadFull(in, b[:]); {
		case errors.Is(err, io.EOF):
			return result, nil
		case err != nil:
			return result, fmt.Errorf("replay: request %d: %w", result.Requests+1, err)
		}
		id, size := binary.LittleEndian.Uint32(b[:]), binary.LittleEndian.Uint32(b[4:])
		seconds := math.Float64frombits(binary.LittleEndian.Uint64(b[8:]))
		if id >= MaxKeys || !(seconds >= 0 && seconds < 1e10) {
			return result, fmt.Errorf("replay: request %d: id %d at %g s; ids are below %d, times from 0 to 1e10",
				result.Requests+1, id, seconds, MaxKeys)
		}
		hit := c.Access(id, size, int64(seconds*1000))
		result.add(size, hit)
		answer := byte('0')
		if hit {
			answer = '1'
		}
		if err := out.WriteByte(answer); err != nil {
			return result, err
		}
	}
}
