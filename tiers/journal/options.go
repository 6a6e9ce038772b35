package journal

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// Defaults and limits of Options, in bytes unless said.
const (
	DefaultMaxBytes      = 1 << 30
	DefaultSegmentBytes  = 64 << 20
	DefaultBufferBytes   = 4 << 20
	DefaultRetryInterval = time.Second

	// MaxPayloadBytes is the largest payload of any journal; a small quota
	// makes it less, see Journal.MaxPayload.
	MaxPayloadBytes = 64 << 20

	minSegmentBytes = 32 << 10
	maxSegmentBytes = 1 << 30
	firstBytes      = 4 << 20 // size of the first segment; the next are twice as large, up to SegmentBytes
	blockBytes      = 4 << 10
)

// Options says where and how large a journal is. The zero value of a field is
// its default; Dir has none.
type Options struct {
	Dir string // directory of the segments, made if missing; the journal alone uses it
	FS  FS     // nil: OS{}

	// MaxBytes is the quota: the bytes that all files of the journal take on
	// disk, prepared segments included. Default 1 GiB, at least 256 KiB. Moving
	// records off a failed file takes one more segment for a moment.
	MaxBytes int64
	// SegmentBytes is the size of a full-grown segment. Default 64 MiB, at
	// least 32 KiB; more than MaxBytes/8 is taken as MaxBytes/8.
	SegmentBytes int64
	// ReserveBytes is the part of the quota that AppendReserved alone may use.
	// Default 5 % of MaxBytes; negative for none.
	ReserveBytes int64
	// BufferBytes bounds the records that wait to be written; there are two
	// such buffers, and a larger record takes its own size for a moment.
	// Default 4 MiB, at least 64 KiB.
	BufferBytes int
	// RetryInterval is the pause between two tries to get a file after the
	// disk refused one. Default 1 s.
	RetryInterval time.Duration

	Version string           // of the binary, at most 32 bytes; a binary too old for the format names it. Default "unversioned"
	Now     func() time.Time // nil: time.Now
	Salt    func() uint32    // of a segment's checksums; nil: random
	Logger  *slog.Logger     // nil: none
	Metrics *metrics.Set     // nil: none
}

// fill sets the defaults.
func (o *Options) fill() {
	def := func(p *int64, v int64) {
		if *p == 0 {
			*p = v
		}
	}
	def(&o.MaxBytes, DefaultMaxBytes)
	def(&o.SegmentBytes, DefaultSegmentBytes)
	def(&o.ReserveBytes, o.MaxBytes/20)
	o.ReserveBytes = max(o.ReserveBytes, 0)
	o.SegmentBytes = min(o.SegmentBytes, o.MaxBytes/8) &^ (blockBytes - 1)
	if o.BufferBytes == 0 {
		o.BufferBytes = DefaultBufferBytes
	}
	if o.RetryInterval == 0 {
		o.RetryInterval = DefaultRetryInterval
	}
	if o.FS == nil {
		o.FS = OS{}
	}
	if o.Version == "" {
		o.Version = "unversioned"
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Salt == nil {
		o.Salt = rand.Uint32
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// validate reports every fault at once.
func (o *Options) validate() error {
	var errs []error
	bad := func(f bool, format string, args ...any) {
		if f {
			errs = append(errs, fmt.Errorf("journal: options: "+format, args...))
		}
	}
	bad(o.Dir == "", "Dir is empty; set it to a directory")
	bad(o.MaxBytes < 8*minSegmentBytes, "MaxBytes is %d; set at least %d", o.MaxBytes, 8*minSegmentBytes)
	bad(o.SegmentBytes < minSegmentBytes && o.MaxBytes >= 8*minSegmentBytes,
		"SegmentBytes is %d; set at least %d", o.SegmentBytes, minSegmentBytes)
	bad(o.SegmentBytes > maxSegmentBytes, "SegmentBytes is %d; set at most %d", o.SegmentBytes, maxSegmentBytes)
	bad(o.ReserveBytes > o.MaxBytes/2, "ReserveBytes is %d; set at most half of MaxBytes, %d", o.ReserveBytes, o.MaxBytes/2)
	bad(o.BufferBytes < 64<<10, "BufferBytes is %d; set at least %d", o.BufferBytes, 64<<10)
	bad(o.RetryInterval < 0, "RetryInterval is %v; set zero or more", o.RetryInterval)
	bad(len(o.Version) > 32, "Version has %d bytes; set at most 32", len(o.Version))
	return errors.Join(errs...)
}
