package hooks

import (
	"context"
	"crypto/sha256"
	"fmt"

	"github.com/edgenode/edgenode/hooks/meter"
)

// Info is what can be said of a module without running it.
type Info struct {
	SHA256       string   `json:"sha256"`
	Bytes        int      `json:"bytes"`
	MeteredBytes int      `json:"metered_bytes"`
	Functions    int      `json:"functions"`
	FuelEntries  int      `json:"fuel_entries"` // function entries that pay
	FuelLoops    int      `json:"fuel_loops"`   // loop heads that pay
	FuelSized    int      `json:"fuel_sized"`   // bulk operations that pay by size
	MemoryBytes  uint64   `json:"memory_bytes"` // at start
	Start        bool     `json:"start"`        // it has a start function
	Imports      []string `json:"imports"`
	Exports      []string `json:"exports"`
	Manifest     Manifest `json:"manifest"`
	Problems     []string `json:"problems"` // why it would not load with nothing granted
}

// Inspect reads a module and says what it is and what metering adds. The error
// names why it cannot be a hook at all; what a grant would cure is in
// Info.Problems.
func Inspect(code []byte) (Info, error) {
	info := Info{Bytes: len(code), SHA256: fmt.Sprintf("%x", sha256.Sum256(code)), Problems: []string{}}
	m, err := check(context.Background(), code)
	if err != nil {
		return info, fmt.Errorf("hooks: inspect: %w", err)
	}
	if info.Manifest, err = parseManifest(m); err != nil {
		return info, fmt.Errorf("hooks: inspect: %w", err)
	}
	_, rep, err := m.Rewrite(meter.Options{MemoryPages: MaxMemoryBytes / pageBytes})
	if err != nil {
		return info, fmt.Errorf("hooks: inspect: %w", err)
	}
	info.MeteredBytes = rep.BytesAfter
	info.FuelEntries, info.FuelLoops, info.FuelSized = rep.Entries, rep.Loops, rep.Sized
	info.Functions, info.Start = m.Funcs, m.HasStart
	if m.Memory != nil {
		info.MemoryBytes = uint64(m.Memory.Min) * pageBytes
	}
	for _, im := range m.Imports {
		info.Imports = append(info.Imports, im.Module+"."+im.Name)
		if err := info.Manifest.importOne(im, nil); err != nil {
			info.Problems = append(info.Problems, err.Error())
		}
	}
	for _, e := range m.Exports {
		info.Exports = append(info.Exports, e.Name+" "+e.Kind.String())
	}
	return info, nil
}
