package proxy

import (
	"math"
	"math/bits"
	"net/http"
)

// An answer that stays in this process is stored in a smaller form, whose layout
// is in the package comment: what is not there takes no room, lines that can be
// made from other members are made when they are sent, and lines that many answers
// have alike lie once, in a block (see blocks).

// formatCompact is the number of that form.
const formatCompact = 2

// Bits of the compact form, above the flags.
const (
	hasSeconds    = 1 << (6 + iota) // lifetime and windows are seconds, else ms
	hasAge                          // u32 initial age, ms
	hasWindow                       // u32 stale-while-revalidate
	hasIfError                      // u32 stale-if-error
	hasDate                         // u32 Date, Unix s; else the second of received
	hasModified                     // u32 Last-Modified, Unix s
	hasBlock                        // u64 number of the block
	makesDate                       // the line of Date is made
	makesModified                   // the line of Last-Modified is made
	plainURL                        // nothing in the URL is escaped in Cache-Status

	hasWords = hasAge | hasWindow | hasIfError | hasDate | hasModified
)

// All flags fit below the bits.
const _ = uint(hasSeconds - metaParted<<1)

const (
	compactHead = 24
	blockVary   = math.MaxUint8 // as length of the nominated names: those of the block
)

// A compactForm is what is to be stored in the compact form.
type compactForm struct {
	status int
	f      *freshness
	header http.Header
	own    []string // names of the lines that the answer keeps itself
	with   *block   // has the others; nil if there are none
	vary   string
	url    string
}

// append appends the compact form. It reports false, and dst as it was, if a member
// does not fit.
func (c *compactForm) append(dst []byte) ([]byte, bool) {
	f := c.f
	unit := int64(1)
	set := uint16(f.flags)
	if f.lifetime%1000 == 0 && f.whileRevalidate%1000 == 0 && f.ifError%1000 == 0 {
		unit, set = 1000, set|hasSeconds
	}
	var words [5]uint32
	n, fits := 0, f.flags < hasSeconds && c.status == c.status&math.MaxUint16 && f.received >= 0 && f.received < 1<<48
	word := func(bit uint16, v, unit int64) {
		fits = fits && v >= 0 && v/unit <= math.MaxUint32 && v%unit == 0
		words[n], set, n = uint32(v/unit), set|bit, n+1
	}
	if f.initialAge != 0 {
		word(hasAge, f.initialAge, 1)
	}
	if f.whileRevalidate != 0 {
		word(hasWindow, f.whileRevalidate, unit)
	}
	if f.ifError != 0 {
		word(hasIfError, f.ifError, unit)
	}
	if f.date != f.received-f.received%1000 {
		word(hasDate, f.date, 1000)
	}
	if f.lastModified != noTime {
		word(hasModified, f.lastModified, 1000)
	}
	if fits = fits && f.lifetime >= 0 && f.lifetime/unit <= math.MaxUint32; !fits {
		return dst, false
	}
	if c.with != nil {
		set |= hasBlock
	}
	if isPlain(c.url) {
		set |= plainURL
	}
	start := len(dst)
	var head [compactHead]byte
	dst = append(dst, head[:]...)
	if c.with != nil {
		dst = le.AppendUint64(dst, c.with.id)
	}
	for _, w := range words[:n] {
		dst = le.AppendUint32(dst, w)
	}
	dst, made, etagAt, etagLen := c.appendOwn(dst)
	set |= made
	b := dst[start:]
	own, vary := len(b)-ownAt(set), c.vary
	varyLen := len(vary)
	if c.with != nil && vary != "" && vary == c.with.vary {
		vary, varyLen = "", blockVary
	}
	if own > math.MaxUint16 || etagLen > math.MaxUint8 || len(vary) >= blockVary {
		return dst[:start], false
	}
	b[0], b[1] = formatCompact, kindAnswer
	le.PutUint16(b[2:], uint16(c.status))
	le.PutUint16(b[4:], set)
	le.PutUint16(b[6:], uint16(own))
	le.PutUint64(b[8:], uint64(f.received)|uint64(etagAt)<<48)
	le.PutUint32(b[16:], uint32(f.lifetime/unit))
	b[20], b[21] = byte(etagLen), byte(varyLen)
	if c.with != nil {
		le.PutUint16(b[22:], c.with.slot)
	}
	return append(dst, vary...), true
}

// appendOwn appends the lines that the answer keeps itself, but those that can be
// made, for which it returns the bits. The place of the entity tag is that in these
// lines.
func (c *compactForm) appendOwn(dst []byte) (out []byte, made uint16, etagAt, etagLen int) {
	start := len(dst)
	var room [len(http.TimeFormat)]byte
	makes := func(name string, at int64) bool {
		lines := c.header[name]
		return len(lines) == 1 && at >= 0 && at%1000 == 0 && at/1000 <= math.MaxUint32 &&
			string(appendDate(room[:0], uint32(at/1000))) == lines[0]
	}
	for _, name := range c.own {
		switch {
		case name == "Date" && makes(name, c.f.date):
			made |= makesDate
		case name == "Last-Modified" && makes(name, c.f.lastModified):
			made |= makesModified
		default:
			var at, n int
			if dst, at, n = appendField(dst, name, c.header[name]); n > 0 && etagLen == 0 {
				etagAt, etagLen = at-start, n
			}
		}
	}
	return dst, made, etagAt, etagLen
}

// isPlain reports whether a URL stands in Cache-Status as it is.
func isPlain(url string) bool {
	for i := range len(url) {
		if c := url[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// parseCompact checks that b is of the compact form.
func parseCompact(b []byte) bool {
	if len(b) < compactHead || b[1] != kindAnswer && b[1] != kindSole {
		return false
	}
	set := le.Uint16(b[4:])
	vary := int(b[21])
	if vary == blockVary {
		vary = 0
	}
	own := int(le.Uint16(b[6:]))
	want := ownAt(set) + own + vary
	if b[1] == kindSole {
		want += hashLen
	}
	return len(b) == want && int(le.Uint16(b[14:]))+int(b[20]) <= own &&
		(set&hasBlock != 0 || b[21] != blockVary && le.Uint16(b[22:]) == 0) && le.Uint16(b[22:]) < maxBlocks &&
		(set&makesModified == 0 || set&hasModified != 0)
}

// ownAt returns where the lines begin in a compact form with these bits.
func ownAt(set uint16) int {
	return compactHead + int(set&hasBlock/hasBlock)*8 + 4*bits.OnesCount16(set&hasWords)
}

// The methods below are for the compact form alone.

func (m meta) set() uint16           { return le.Uint16(m.b[4:]) }
func (m meta) received() int64       { return int64(le.Uint64(m.b[8:]) & (1<<48 - 1)) }
func (m meta) ownEnd() int           { return ownAt(m.set()) + int(le.Uint16(m.b[6:])) }
func (m meta) own() []byte           { return m.b[ownAt(m.set()):m.ownEnd()] }
func (m meta) blockID() uint64       { return le.Uint64(m.b[compactHead:]) }
func (m meta) blockSlot() int        { return int(le.Uint16(m.b[22:])) }
func (m meta) makes(bit uint16) bool { return m.set()&bit != 0 }

func (m meta) compactVary() string {
	switch n := int(m.b[21]); {
	case n != blockVary:
		return text(m.b[m.ownEnd() : m.ownEnd()+n])
	case m.with != nil:
		return m.with.vary
	}
	return ""
}

func (m meta) compactFreshness() freshness {
	set := m.set()
	unit := int64(1)
	if set&hasSeconds != 0 {
		unit = 1000
	}
	f := freshness{flags: metaFlags(set & (hasSeconds - 1)), received: m.received(), lifetime: int64(le.Uint32(m.b[16:])) * unit, lastModified: noTime}
	f.date = f.received - f.received%1000
	at := compactHead + int(set&hasBlock/hasBlock)*8
	if set&hasWords == 0 {
		return f
	}
	if set&hasAge != 0 {
		f.initialAge = int64(le.Uint32(m.b[at:]))
		at += 4
	}
	if set&hasWindow != 0 {
		f.whileRevalidate = int64(le.Uint32(m.b[at:])) * unit
		at += 4
	}
	if set&hasIfError != 0 {
		f.ifError = int64(le.Uint32(m.b[at:])) * unit
		at += 4
	}
	if set&hasDate != 0 {
		f.date = int64(le.Uint32(m.b[at:])) * 1000
		at += 4
	}
	if set&hasModified != 0 {
		f.lastModified = int64(le.Uint32(m.b[at:])) * 1000
	}
	return f
}

// appendMade appends the lines that are made. They come first: every answer is
// looked through for Date. shown are the dates that were made last.
func (m meta) appendMade(dst []byte, shown *[2]shownDate) []byte {
	set := m.set()
	at := ownAt(set)
	if set&makesDate != 0 {
		dst = append(shown[0].append(append(dst, "Date: "...), m.dateSecond(set, at)), "\r\n"...)
	}
	if set&makesModified != 0 {
		dst = append(shown[1].append(append(dst, "Last-Modified: "...), le.Uint32(m.b[at-4:])), "\r\n"...)
	}
	return dst
}

// dateSecond returns Date in Unix s; at is where the lines begin. Date and
// Last-Modified are the last of the members before them.
func (m meta) dateSecond(set uint16, at int) uint32 {
	switch set & (hasDate | hasModified) {
	case hasDate:
		return le.Uint32(m.b[at-4:])
	case hasDate | hasModified:
		return le.Uint32(m.b[at-8:])
	}
	return uint32(m.received() / 1000)
}

// compactAge is age.
func (m meta) compactAge(now int64) int64 {
	set, initial := m.set(), int64(0)
	if set&hasAge != 0 {
		initial = int64(le.Uint32(m.b[compactHead+int(set&hasBlock/hasBlock)*8:]))
	}
	return max(initial+now-m.received(), 0)
}

// compactLine is line.
func (m meta) compactLine(name string) []byte {
	f := m.compactFreshness()
	switch {
	case m.makes(makesDate) && name == "Date":
		return appendDate(nil, uint32(f.date/1000))
	case m.makes(makesModified) && name == "Last-Modified":
		return appendDate(nil, uint32(f.lastModified/1000))
	}
	if v := lookupLine(m.own(), name); v != nil || m.with == nil {
		return v
	}
	return lookupLine(m.with.lines, name)
}

// appendNote appends the key parameter for a URL (see keyNote) to dst; plain says
// that nothing in it is escaped.
func appendNote(dst, url []byte, plain bool) []byte {
	if !plain {
		return append(dst, keyNote(string(url))...)
	}
	dst = append(dst, `;key="`...)
	dst = append(dst, url...)
	return append(dst, '"')
}
