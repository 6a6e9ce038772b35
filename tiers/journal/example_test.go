package journal_test

import (
	"fmt"
	"os"

	"github.com/edgenode/edgenode/tiers/journal"
)

// A record is durable when Sync returns, and is given again after a restart
// until it is released.
func Example() {
	dir, err := os.MkdirTemp("", "journal")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)

	j, err := journal.Open(journal.Options{Dir: dir})
	if err != nil {
		fmt.Println(err)
		return
	}
	flushed, _ := j.Append([]byte("put "), []byte("a"))
	pending, _ := j.Append([]byte("put "), []byte("b"))
	fmt.Println("on disk:", j.Sync(pending) == nil)
	j.Release(flushed) // a backend has it
	fmt.Println("closed:", j.Close() == nil)

	j, err = journal.Open(journal.Options{Dir: dir})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer j.Close()
	_ = j.Replay(func(pos journal.Pos, payload []byte) error {
		fmt.Printf("pending: %s, same place: %v\n", payload, pos == pending)
		return nil
	})
	// Output:
	// on disk: true
	// closed: true
	// pending: put b, same place: true
}
