package loopback_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/edgenode/edgenode/node/loopback"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestHost(t *testing.T) {
	f := func(host string, want bool) {
		t.Helper()
		if got := loopback.Host([]byte(host)); got != want {
			t.Errorf("Host(%q) = %v, want %v", host, got, want)
		}
	}
	f("localhost", true)
	f("LocalHost:8080", true)
	f("127.0.0.1", true)
	f("127.9.8.7:80", true)
	f("[::1]", true)
	f("[::1]:8081", true)
	f("[::ffff:127.0.0.1]", true)
	f("127.0.0.256", false)
	f("127.0.0", false)
	f("127.0.0.1.", false)
	f("127.0.0.1.2", false)
	f("127.00.0.1", false)
	f("127.0.0.", false)
	f("", false)
	f("localhost.evil.example", false)
	f("127.0.0.1.evil.example", false)
	f("evil.example", false)
	f("10.0.0.1", false)
	f("[::2]", false)
	f("::1", false)           // a literal needs brackets in Host
	f("[127.0.0.1]", false)   // brackets are for IPv6
	f("[::1%lo]:80", false)   // no zones
	f("localhost:80x", false) // not a port
	f("[::1]x", false)
	f("[::1", false)
	f("localhost:8080@evil.example", false)
}

func TestSameOrigin(t *testing.T) {
	f := func(origin, scheme, host string, want bool) {
		t.Helper()
		if got := loopback.SameOrigin([]byte(origin), scheme, []byte(host)); got != want {
			t.Errorf("SameOrigin(%q, %q, %q) = %v, want %v", origin, scheme, host, got, want)
		}
	}
	f("http://localhost:8080", "http", "localhost:8080", true)
	f("http://localhost:8080", "https", "localhost:8080", false)
	f("http://localhost:9", "http", "localhost:8080", false)
	f("https://evil.example", "http", "localhost:8080", false)
	f("null", "http", "localhost:8080", false)
	f("", "http", "localhost", false) // an empty field is not absent
	if !loopback.SameOrigin(nil, "http", []byte("localhost")) {
		t.Error("an absent Origin was refused")
	}
}

func TestHostDoesNotAllocate(t *testing.T) {
	for _, host := range []string{"localhost:8080", "127.0.0.1:8080"} {
		h := []byte(host)
		if n := testing.AllocsPerRun(100, func() { loopback.Host(h) }); n != 0 {
			t.Errorf("Host(%q) allocates %v times", host, n)
		}
	}
}
