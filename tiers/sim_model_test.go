package tiers_test

import (
	"fmt"
	"slices"
	"strings"

	"github.com/edgenode/edgenode/tiers/item"
)

// What an id must be. As long as nothing goes wrong there is one answer. Where
// the fate of a write is not known, or a crash may have taken what was not as
// durable, there are several, until a read tells.

// A simItem is a version of an item; nil is none.
type simItem struct {
	content, state string
	tags           []string
	version        item.Version // 0: not known, the write failed
	expires        int64        // Unix ms, 0 never
	cache          bool         // has no L3: may be lost at any time
	soft           bool         // purged softly since: served as stale, or not at all
}

func (m *simItem) String() string {
	if m == nil {
		return "nothing"
	}
	s := fmt.Sprintf("%.40q state=%q tags=%q", m.content, m.state, m.tags)
	if m.expires != 0 {
		s += fmt.Sprintf(" until %d", m.expires%1e8)
	}
	if m.cache {
		s += " cache"
	}
	return s
}

func (m *simItem) etag() item.ETag { return item.ETagOf("application/octet-stream", []byte(m.content)) }

// live reports whether a reader at now must see m, if it is the state.
func (m *simItem) live(now int64) bool { return m != nil && (m.expires == 0 || now < m.expires) }

// mayLack reports whether a reader at now may see nothing.
func (m *simItem) mayLack(now int64) bool { return !m.live(now) || m.cache }

// is reports whether v is m, all but the version.
func (m *simItem) is(v item.View) bool {
	return m != nil && m.content == string(v.Content()) && m.isWithoutContent(v)
}

func (m *simItem) isWithoutContent(v item.View) bool {
	var tags []string
	for t := range v.Tags {
		tags = append(tags, t)
	}
	return m.state == v.State() && slices.Equal(m.tags, tags) && m.expires == v.ExpiresAt()
}

// A simState is what an id became by a write.
type simState struct {
	item  *simItem
	level item.Durability // what it survives
	sure  bool            // it took place
}

// A simID is the states of an id, oldest first, that a read or a crash may
// still bring up.
type simID struct {
	states []simState
}

func newSimID() *simID {
	return &simID{states: []simState{{level: item.DurabilityL3, sure: true}}}
}

// lastSure returns the index of the newest state that took place and survives
// a loss of all that is below level.
func (d *simID) lastSure(level item.Durability) int {
	for i := len(d.states) - 1; i > 0; i-- {
		if d.states[i].sure && d.states[i].level >= level {
			return i
		}
	}
	return 0
}

// possible returns the states that a read may find now.
func (d *simID) possible() []simState { return d.states[d.lastSure(0):] }

// known returns the one state that a read may find, if there is but one.
func (d *simID) known() (*simItem, bool) {
	p := d.possible()
	return p[0].item, len(p) == 1
}

// add appends a state. What can not come back any more is forgotten.
func (d *simID) add(s simState) {
	d.states = append(d.states, s)
	d.states = d.states[d.lastSure(item.DurabilitySync):]
}

// crash forgets what is certain, as far as it was below level.
func (d *simID) crash(level item.Durability) {
	d.states = slices.Clone(d.states[d.lastSure(level):])
	for i := 1; i < len(d.states); i++ {
		d.states[i].sure = false
	}
	d.states[0].sure = true
}

// stored says that what the id is now is in L3.
func (d *simID) stored() {
	if p := d.possible(); len(p) == 1 {
		d.states = []simState{{item: p[0].item, level: item.DurabilityL3, sure: true}}
	}
}

// settle says that a read has found the state at index i of the possible ones.
func (d *simID) settle(i int) {
	i += d.lastSure(0)
	if m := d.states[i].item; m == nil || !m.cache { // a copy alone may go again
		d.states[i].sure = true
	}
}

// found judges a read that found v; it says what is wrong, or "".
func (d *simID) found(v item.View, content, stale bool, now int64) string {
	for i, s := range d.possible() {
		m := s.item
		if !m.live(now) || content && !m.is(v) || !content && !m.isWithoutContent(v) || m.soft && !stale {
			continue
		}
		if m.version == 0 {
			m.version = v.Version()
		}
		if m.version == v.Version() {
			d.settle(i)
			return ""
		}
	}
	return fmt.Sprintf("is %s of version %s, want %s", simViewed(v), v.Version(), d.wanted(now))
}

// absent judges a read that found nothing.
func (d *simID) absent(now int64) string {
	matching := -1
	for i, s := range d.possible() {
		if s.item.mayLack(now) {
			if matching >= 0 || s.item != nil && s.item.cache {
				return "" // one of several
			}
			matching = i
		}
	}
	if matching < 0 {
		return fmt.Sprintf("is nothing, want %s", d.wanted(now))
	}
	d.settle(matching)
	return ""
}

func (d *simID) wanted(now int64) string {
	var texts []string
	for _, s := range d.possible() {
		text := s.item.String()
		if s.item != nil {
			text += fmt.Sprintf(" of version %s", s.item.version)
			if !s.item.live(now) {
				text += " (over)"
			}
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, ", or ")
}

func simViewed(v item.View) *simItem {
	m := &simItem{content: string(v.Content()), state: v.State(), version: v.Version(), expires: v.ExpiresAt()}
	for t := range v.Tags {
		m.tags = append(m.tags, t)
	}
	return m
}
