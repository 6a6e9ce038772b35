package l1_test

import (
	"sync"
	"testing"

	"github.com/edgenode/edgenode/tiers/l1"
)

// Emptying a chunk by eviction keeps its hands off what others change.
func TestClearChunkAmongWriters(t *testing.T) {
	c := newCache(t, l1.Options{MaxBytes: 2 << 20})
	stop := make(chan struct{})
	var clearing, writing sync.WaitGroup
	clearing.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				c.ClearChunk(3000)
			}
		}
	})
	for g := range 3 {
		writing.Go(func() {
			for n := range 4000 / slow {
				put(c, g*1000+n%900, uint64(n+1), n*37%1500, l1.PutOptions{})
			}
		})
	}
	writing.Wait()
	close(stop)
	clearing.Wait()
}
