package api

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/edgenode/edgenode/node/problem"
)

// maxTTL bounds every lifetime: what is longer is meant to be for ever.
const maxTTL = 100 * 365 * 24 * time.Hour

// lifetimes are what Edge-TTL says. Zero means for ever, and for copies as long
// as the item.
type lifetimes struct {
	item, l1, l2 time.Duration
}

// parseTTL reads a lifetime for the item, or a list with a lifetime for each
// tier: "l1=60, l2=1h, l3=1d", where that of l3 is the item's own.
func parseTTL(s string) (lifetimes, *problem.Problem) {
	var t lifetimes
	if !strings.Contains(s, "=") {
		d, err := parseLifetime(s)
		if err != nil {
			return t, problem.New(problem.BadTTL, err.Error())
		}
		t.item = d
		return t, nil
	}
	seen := map[string]bool{}
	for part := range strings.SplitSeq(s, ",") {
		name, value, ok := strings.Cut(part, "=")
		name = strings.Trim(name, " \t")
		if !ok || seen[name] {
			return t, problem.Newf(problem.BadTTL, "%q: a list gives each tier one lifetime, as in l1=60, l2=1h, l3=1d", s)
		}
		seen[name] = true
		if p := t.set(name, strings.Trim(value, " \t")); p != nil {
			return t, p
		}
	}
	return t, nil
}

// set takes the lifetime of one tier.
func (t *lifetimes) set(tier, value string) *problem.Problem {
	d, err := parseLifetime(value)
	if err != nil {
		return problem.Newf(problem.BadTTL, "%s: %v", tier, err)
	}
	switch tier {
	case "l1":
		t.l1 = d
	case "l2":
		t.l2 = d
	case "l3":
		t.item = d
	default:
		return problem.Newf(problem.BadTier, "lifetime for %q, the tiers are l1, l2, l3", tier)
	}
	return nil
}

// parseLifetime reads one lifetime: seconds, numbers with units, a class or
// never. Zero is refused, so that never is always meant.
func parseLifetime(s string) (time.Duration, error) {
	if s == "never" {
		return 0, nil
	}
	if d := classLifetime(s); d != 0 {
		return d, nil
	}
	d, ok := sumUnits(s)
	if !ok {
		return 0, fmt.Errorf("%q is not a lifetime", s)
	}
	if d <= 0 || d > maxTTL {
		return 0, fmt.Errorf("%q is out of range, allowed are 1ms to 36500d, or never", s)
	}
	return d, nil
}

// classLifetime returns the exact duration of a named class, 0 if there is none.
func classLifetime(s string) time.Duration {
	switch s {
	case "minute":
		return time.Minute
	case "hour":
		return time.Hour
	case "day":
		return 24 * time.Hour
	case "week":
		return 7 * 24 * time.Hour
	}
	return 0
}

// sumUnits reads digits, which are seconds, or a sequence of digits and units.
// It saturates.
func sumUnits(s string) (sum time.Duration, ok bool) {
	for first := true; s != "" || first; first = false {
		digits := len(s) - len(strings.TrimLeft(s, "0123456789"))
		n := saturatingInt(s[:digits])
		letters := s[digits:]
		letters = letters[:len(letters)-len(strings.TrimLeft(letters, "abcdefghijklmnopqrstuvwxyz"))]
		unit := unitOf(letters)
		if first && digits == len(s) {
			unit = time.Second
		}
		if digits == 0 || unit == 0 {
			return 0, false
		}
		if n > (math.MaxInt64-int64(sum))/int64(unit) {
			sum = math.MaxInt64
		} else {
			sum += time.Duration(n) * unit
		}
		s = s[digits+len(letters):]
	}
	return sum, true
}

func unitOf(s string) time.Duration {
	switch s {
	case "ms":
		return time.Millisecond
	case "s":
		return time.Second
	case "m":
		return time.Minute
	case "h":
		return time.Hour
	case "d":
		return 24 * time.Hour
	case "w":
		return 7 * 24 * time.Hour
	}
	return 0
}

// saturatingInt reads decimal digits up to the largest int64.
func saturatingInt(digits string) int64 {
	var n int64
	for i := range len(digits) {
		if n > (math.MaxInt64-9)/10 {
			return math.MaxInt64
		}
		n = 10*n + int64(digits[i]-'0')
	}
	return n
}
