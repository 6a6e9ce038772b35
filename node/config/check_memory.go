package config

import (
	"fmt"
	"strings"

	"github.com/edgenode/edgenode/tiers/item"
)

// Separators are the bytes of which one ends a namespace of ids.
const Separators = "./:"

// Limits of the parts of memory.
const (
	maxMemoryParts = 255 // as package l1 has it
	minMemoryPart  = MiB
)

// namespaces checks the prefixes of ids, and how many parts memory has.
func (k *checker) namespaces() {
	prefixes := map[string]int{}
	for i := range k.c.Namespaces {
		n, path := &k.c.Namespaces[i], elemKey("namespace", i)
		switch err := item.CheckID(n.Prefix); {
		case n.Prefix == "":
			k.add(path+".prefix", "missing", "write the beginning of ids, as in \"uk/\"")
		case err != nil:
			k.add(path+".prefix", "not the beginning of an id", "write up to 1024 bytes of text, as in \"uk/\"")
		case !strings.ContainsRune(Separators, rune(n.Prefix[len(n.Prefix)-1])):
			k.add(path+".prefix", "does not end in a separator: \"uk\" would also be \"ukraine\"", "end it in /, . or :")
		}
		if j, ok := prefixes[n.Prefix]; ok {
			k.add(path+".prefix", fmt.Sprintf("the prefix of %s too (line %d)", elemKey("namespace", j), k.lineOf(elemKey("namespace", j)+".prefix")), "remove one of the two")
		}
		prefixes[n.Prefix] = i
		k.memoryPart(path, n.L1MaxBytes)
	}
	parts := len(k.c.Namespaces)
	for i := range k.c.Sites {
		if s := &k.c.Sites[i]; s.Weight != 1 || s.L1MaxBytes != 0 {
			parts++
		}
	}
	if parts > maxMemoryParts {
		k.add("namespace", fmt.Sprintf("%d sites and prefixes with a weight or l1_max_bytes of their own", parts), fmt.Sprintf("at most %d may have one", maxMemoryParts))
	}
}

// memoryPart checks a budget within l1_max_bytes.
func (k *checker) memoryPart(path string, budget Size) {
	switch {
	case budget == 0:
	case budget < minMemoryPart:
		k.add(path+".l1_max_bytes", fmt.Sprintf("less than %v, of which a quarter is the most for one item", Size(minMemoryPart)), "raise it, or write \"0B\" for no bound")
	case budget > k.c.L1MaxBytes:
		k.add(path+".l1_max_bytes", fmt.Sprintf("more than l1_max_bytes of the node (%v)", k.c.L1MaxBytes), "lower it, or write \"0B\" for no bound")
	}
}

// siteMemory checks the budget of a site against what it stores: nothing above a
// quarter of it comes into memory, and a segment takes up to twice its size there.
func (k *checker) siteMemory(path string, s *Site) {
	k.memoryPart(path, s.L1MaxBytes)
	if s.L1MaxBytes < minMemoryPart {
		return
	}
	bound := func(key string, value *Size, part Size, words string) {
		most := s.L1MaxBytes / part
		if !k.isSet(path + "." + key) {
			*value = min(*value, most)
		}
		if *value > most {
			k.add(path+"."+key, fmt.Sprintf("more than %s of the site's l1_max_bytes (%v)", words, s.L1MaxBytes), "raise l1_max_bytes or lower "+key)
		}
	}
	bound("max_object_bytes", &s.MaxObjectBytes, 4, "a quarter")
	bound("chunk_bytes", &s.ChunkBytes, 8, "an eighth")
}
