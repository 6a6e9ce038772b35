package config_test

import (
	"testing"
	"time"

	"github.com/edgenode/edgenode/node/config"
)

func TestDuration(t *testing.T) {
	f := func(in string, want time.Duration, out string) {
		t.Helper()
		var d config.Duration
		if err := d.UnmarshalText([]byte(in)); err != nil || d.Std() != want || d.String() != out {
			t.Errorf("%q = %v (%v), %v, want %v (%v)", in, d.Std(), d, err, want, out)
		}
	}
	f("100ms", 100*time.Millisecond, "100ms")
	f("1h30m", 90*time.Minute, "1h30m")
	f("60s", time.Minute, "1m")
	f("24h", 24*time.Hour, "24h") // one day stays hours
	f("30d", 720*time.Hour, "30d")
	f("1d12h", 36*time.Hour, "36h")
	f("0s", 0, "0s")
	f("-1s", -time.Second, "-1s") // the range of the key refuses it
	bad := func(in string) {
		t.Helper()
		d := config.Duration(7)
		if err := d.UnmarshalText([]byte(in)); err == nil || d != 7 {
			t.Errorf("%q = %v, %v, want an error and no change", in, d, err)
		}
	}
	for _, in := range []string{"", "0", "10", "d", "1dd", "-1d", "1d-1h", "1.5d", "9999999d", "106751d24h", "1 s", "s"} {
		bad(in)
	}
}

func TestSize(t *testing.T) {
	f := func(in string, want config.Size, out string) {
		t.Helper()
		var s config.Size
		if err := s.UnmarshalText([]byte(in)); err != nil || s != want || s.String() != out {
			t.Errorf("%q = %d (%v), %v, want %d (%v)", in, s, s, err, want, out)
		}
	}
	f("256MiB", 256<<20, "256MiB")
	f("1 GiB", 1<<30, "1GiB")
	f("1024KiB", 1<<20, "1MiB")
	f("1500B", 1500, "1500B")
	f("0B", 0, "0B")
	bad := func(in, want string) {
		t.Helper()
		s := config.Size(7)
		err := s.UnmarshalText([]byte(in))
		if err == nil || s != 7 {
			t.Fatalf("%q = %v, %v, want an error and no change", in, s, err)
		}
		has(t, err.Error(), want)
	}
	bad("256MB", `write "256MiB"`)
	bad("64k", `write "64KiB"`)
	bad("12 cats", "whole number with a unit")
	bad("1.5GiB", "whole number with a unit")
	bad("-1B", "whole number with a unit")
	bad("", "whole number with a unit")
	bad("9999999999TiB", "too large")
}
