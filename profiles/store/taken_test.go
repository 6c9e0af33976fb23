package store

import (
	"math/rand/v2"
	"testing"

	"github.com/sonde-io/sonde/profiles"
)

// TestTaken uses profiles' memory again as soon as the store says that it may, while their pushes still wait for a segment.
func TestTaken(t *testing.T) {
	e := newEnv(t, nil)
	r, rng := &reference{}, rand.New(rand.NewPCG(7, 7))
	for w := range uint64(20) {
		start := epoch + int64(w)*10_000
		p, samples := randomPush(rng, "cart", "a", w+1, start, start+10_000)
		r.add(p, samples, 300_000)
		taken := 0
		p.Taken = func() {
			taken++
			for i := range p.Profiles {
				d := p.Profiles[i].Data
				clear(d.Values)
				clear(d.LocationIDs)
				clear(d.Functions)
				clear(d.Lines)
				*d = profiles.Profile{}
			}
		}
		must(t, e.store.Append(t.Context(), p))
		if taken != 1 {
			t.Fatalf("Taken was called %d times", taken)
		}
	}
	e.verify(r, rng, epoch, epoch+200_000, 20)
}
