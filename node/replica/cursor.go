package replica

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/edgenode/edgenode/tiers"
)

// cursorFile is the file of the cursor in the data directory.
const cursorFile = "replica.json"

const cursorFormat = 1

// A cursor says how much of a hub is here. It is written after what it speaks of
// was stored: after a crash some is stored again.
type cursor struct {
	Format   int      `json:"format"`
	From     string   `json:"from"`
	Store    string   `json:"store"` // identity of the hub's database
	Prefixes []string `json:"prefixes"`
	Seq      uint64   `json:"seq,string"` // the last change that is here
	Fresh    int64    `json:"fresh_ms"`   // Unix ms: all that the hub had then is here
	// Compare says why the feed is not enough: the trees are to be compared first.
	Compare string `json:"compare,omitempty"`

	path string
}

// Why trees are compared.
const (
	whyFirst  = "first"  // nothing is here, or nobody knows what
	whyGone   = "gone"   // changes that were not read are not kept any more
	whyStore  = "store"  // the hub has another database
	whyConfig = "config" // other prefixes
	whyCheck  = "check"  // every now and then
)

func loadCursor(path string) (cursor, error) {
	c := cursor{Format: cursorFormat, Compare: whyFirst, path: path}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err == nil {
		c.Compare = ""
		err = json.Unmarshal(b, &c)
	}
	switch {
	case err != nil:
		return c, fmt.Errorf("replica: cursor %s: %w; remove it to compare everything with the hub", path, err)
	case c.Format > cursorFormat:
		return c, fmt.Errorf("replica: cursor %s has format %d, this version reads %d: use a newer version, or remove it", path, c.Format, cursorFormat)
	case c.Store == "":
		c.Compare = whyFirst
	}
	return c, nil
}

// adopt notes what is configured now, and reports whether what is here is of that.
// The hub may have moved to another address: its database tells.
func (c *cursor) adopt(from string, prefixes []string) bool {
	sorted := slices.Sorted(slices.Values(prefixes))
	same := slices.Equal(sorted, c.Prefixes)
	if !same && c.Compare == "" {
		c.Compare = whyConfig
	}
	c.From, c.Prefixes = from, sorted
	return same && c.Compare == ""
}

// save replaces the file, and is on disk when it returns.
func (c *cursor) save() error {
	b, err := json.Marshal(c)
	if err == nil {
		err = tiers.ReplaceFile(c.path, append(b, '\n'))
	}
	if err != nil {
		return fmt.Errorf("replica: cursor: %w", err)
	}
	return nil
}
