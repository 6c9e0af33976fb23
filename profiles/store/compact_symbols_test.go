package store

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/sonde-io/sonde/internal/catalog"
)

// TestCompactionByPlaces merges symbols in both ways: by their places in the dictionary, where this process wrote all inputs, and by content, where
// it did not. Answers are the same, and what was merged by places can be merged so again.
func TestCompactionByPlaces(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprintf("after a restart %v", restart), func(t *testing.T) {
			e := newEnv(t, nil)
			rng := rand.New(rand.NewPCG(6, 6))
			r := &reference{}
			for i := range 12 {
				start := epoch + int64(i)*2_400_000 // over several blocks' windows
				p, s := randomPush(rng, "cart", "a", uint64(i+1), start, start+15_000)
				must(t, e.store.Append(t.Context(), p))
				r.add(p, s, 300_000)
				if i == 5 {
					if restart {
						e.reopen()
					}
					must(t, e.store.Compact(t.Context(), true))
				}
			}
			must(t, e.store.Compact(t.Context(), true))
			blocks, err := e.cat.Blocks(t.Context(), catalog.BlockFilter{})
			must(t, err)
			if len(blocks) < 3 {
				t.Errorf("there are %d blocks, want several", len(blocks))
			}
			placed := 0
			for _, b := range blocks {
				if o := e.store.cache.get(b.Blob); o != nil && o.datasets["cart"].origin != nil {
					placed++
				}
			}
			if !restart && placed != len(blocks) || restart && placed == len(blocks) {
				t.Errorf("%d of %d blocks have their places in the dictionary", placed, len(blocks))
			}
			e.verify(r, rng, epoch-60_000, epoch+12*2_400_000, 30)
			e.check()
		})
	}
}
