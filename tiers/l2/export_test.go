package l2

import "github.com/edgenode/edgenode/tiers/item"

// Forms that tests of the format look into.

func ParseValue(b []byte, key item.Key, nowMilli int64) (item.View, error) {
	return parseValue(b, key, nowMilli)
}

func AppendValue(dst []byte, untilMilli int64, v item.View) []byte {
	return appendValue(dst, registersOf(v), untilMilli, v)
}

func AppendFence(dst []byte, untilMilli int64, v item.Version) []byte {
	return appendValue(dst, bound(v), untilMilli, nil)
}

func AppendMark(dst []byte, m Mark) []byte { return appendMark(dst, m) }
func ParseMark(b []byte) (Mark, bool)      { return parseMark(b) }
func CutContent(b []byte) []byte           { return cutContent(b) }
func HeadLen(b []byte) int                 { return headLen(b) }
func (s *Store) DataKey(k item.Key) string { return s.dataKey(k) }
func (s *Store) DataPattern() string       { return s.dataPattern() }

// An Address is a parsed URL, for comparison.
type Address struct {
	Mode                       Mode
	Network, Hosts, User, Pass string
	Master                     string
	DB                         int
	TLS                        bool
}

func ParseURL(text string) (Address, error) {
	a, err := parseURL(text)
	hosts := ""
	for _, h := range a.hosts {
		hosts += h + " "
	}
	return Address{a.mode, a.network, hosts, a.username, a.password, a.master, a.db, a.tls != nil}, err
}
