package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Duration is a span of time, written "100ms", "2s", "1h30m" or "30d" (a day
// is 24 hours). A number without unit is refused.
type Duration time.Duration

// errDuration is what is wrong with a text that is no duration.
var errDuration = errors.New("not a duration; write a number with a unit: ns, us, ms, s, m, h or d, as in \"100ms\", \"1h30m\", \"30d\"")

// UnmarshalText sets d from its written form. On an error d is unchanged.
func (d *Duration) UnmarshalText(text []byte) error {
	s := string(text)
	var days time.Duration
	if i := strings.IndexByte(s, 'd'); i > 0 {
		n, err := strconv.ParseUint(s[:i], 10, 32)
		if err != nil || n > uint64(math.MaxInt64/(24*time.Hour)) {
			return errDuration
		}
		days, s = time.Duration(n)*24*time.Hour, s[i+1:]
		if s == "" {
			*d = Duration(days)
			return nil
		}
	}
	if s == "0" { // time.ParseDuration takes it; here every value has a unit
		return errDuration
	}
	rest, err := time.ParseDuration(s)
	if err != nil || (days > 0 && rest < 0) || rest > math.MaxInt64-days {
		return errDuration
	}
	*d = Duration(days + rest)
	return nil
}

// String returns the shortest written form: "100ms", "1h30m", "24h", "30d".
// From two whole days on it counts in days.
func (d Duration) String() string {
	const day = 24 * time.Hour
	t := time.Duration(d)
	if t >= 2*day && t%day == 0 {
		return strconv.FormatInt(int64(t/day), 10) + "d"
	}
	s := t.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// Std returns d as the standard library's type.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// Millis is a span of time written as a bare integer of milliseconds, for keys
// whose name ends in _ms.
type Millis time.Duration

// Std returns m as the standard library's type.
func (m Millis) Std() time.Duration { return time.Duration(m) }

// Size is a number of bytes, written "64KiB", "256MiB", "1GiB", "1TiB" or
// "512B". Keys whose name ends in _bytes also take a bare integer.
type Size int64

// Units of Size.
const (
	KiB Size = 1 << 10
	MiB Size = 1 << 20
	GiB Size = 1 << 30
	TiB Size = 1 << 40
)

// sizeUnits is in the order in which a suffix is looked for: "B" ends them all.
var sizeUnits = []struct {
	name  string
	bytes Size
}{{"TiB", TiB}, {"GiB", GiB}, {"MiB", MiB}, {"KiB", KiB}, {"B", 1}}

// UnmarshalText sets s from its written form. On an error s is unchanged.
func (s *Size) UnmarshalText(text []byte) error {
	in := string(text)
	for _, u := range sizeUnits {
		digits, ok := strings.CutSuffix(in, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(digits), 10, 63)
		if err != nil {
			return sizeError(in)
		}
		if n > uint64(math.MaxInt64/u.bytes) {
			return fmt.Errorf("too large; the largest size is %d bytes", int64(math.MaxInt64))
		}
		*s = Size(n) * u.bytes
		return nil
	}
	return sizeError(in)
}

// sizeError says what is wrong with in; decimal units get a hint of their own.
func sizeError(in string) error {
	lower := strings.ToLower(in)
	for _, u := range []string{"k", "m", "g", "t"} {
		for _, suffix := range []string{u, u + "b", u + "ib"} {
			digits, ok := strings.CutSuffix(lower, suffix)
			if _, err := strconv.ParseUint(digits, 10, 63); ok && err == nil {
				return fmt.Errorf("not a size; sizes count in 1024s, write \"%s%siB\"", digits, strings.ToUpper(u))
			}
		}
	}
	return errors.New("not a size; write a whole number with a unit: B, KiB, MiB, GiB or TiB, as in \"256MiB\"")
}

// String returns s in the largest unit that divides it: "256MiB", "1500B".
func (s Size) String() string {
	for _, u := range sizeUnits {
		if s != 0 && s%u.bytes == 0 {
			return strconv.FormatInt(int64(s/u.bytes), 10) + u.name
		}
	}
	return "0B"
}
