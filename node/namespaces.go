package node

import (
	"bytes"

	"github.com/edgenode/edgenode/node/config"
	"github.com/edgenode/edgenode/node/proxy"
	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

// namespaces returns the sites and prefixes of ids that have a weight or a budget
// in memory, and what says which of them a record belongs to.
func namespaces(cfg *config.Config) (list []tiers.Namespace, of func(item.View) int) {
	d := division{sites: map[string]int{}, marks: map[uint32]int{}, prefixes: map[string]int{}}
	for i := range cfg.Sites {
		s := &cfg.Sites[i]
		if s.Weight == 1 && s.L1MaxBytes == 0 {
			continue
		}
		d.sites[s.Name], d.marks[proxy.SiteMark(s.Name)] = len(list), len(list)
		list = append(list, tiers.Namespace{Name: "site:" + s.Name, Weight: s.Weight, MaxBytes: int64(s.L1MaxBytes)})
	}
	for _, p := range cfg.Namespaces {
		d.prefixes[p.Prefix] = len(list)
		list = append(list, tiers.Namespace{Name: "items:" + p.Prefix, Weight: p.Weight, MaxBytes: int64(p.L1MaxBytes)})
	}
	if len(list) == 0 {
		return nil, nil
	}
	return list, d.of
}

// A division says which namespace a record belongs to, by its position.
type division struct {
	sites    map[string]int // by name
	marks    map[uint32]int // by proxy.SiteMark of it
	prefixes map[string]int // of ids; each ends in a separator
}

const none = -1

// of returns the position of the namespace of v, or none. It costs one look-up,
// and for items one per separator in the id. It does not allocate.
func (d division) of(v item.View) int {
	key := v.Key()
	switch key.Namespace() {
	case item.NamespaceSite:
		if name, _, ok := bytes.Cut(key.Own(), []byte{0}); ok {
			if i, ok := d.sites[string(name)]; ok {
				return i
			}
		}
	case item.NamespaceChunk:
		if mark := proxy.SegmentMark(v); mark != 0 {
			if i, ok := d.marks[mark]; ok {
				return i
			}
		}
	case item.NamespaceItem:
		return d.longest(key.Own())
	}
	return none
}

// longest returns the position of the longest prefix of id.
func (d division) longest(id []byte) int {
	for len(d.prefixes) > 0 {
		at := bytes.LastIndexAny(id, config.Separators)
		if at < 0 {
			break
		}
		if i, ok := d.prefixes[string(id[:at+1])]; ok {
			return i
		}
		id = id[:at]
	}
	return none
}
