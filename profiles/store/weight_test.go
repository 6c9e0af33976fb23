package store

import (
	"math/rand/v2"
	"testing"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/profiles"
)

// TestWeights merges a profile that stands for four with one that stands for itself, from segments, blocks and rollups: the time covered is that of five processes.
func TestWeights(t *testing.T) {
	e := newEnv(t, nil)
	rng := rand.New(rand.NewPCG(1, 1))
	want := int64(0)
	for i, weight := range []int64{4, 1} {
		name := []string{"a", "b"}[i]
		for w := range 12 {
			start := epoch + int64(w)*15_000
			push, _ := randomPush(rng, "cart", name, uint64(w+1), start, start+15_000)
			for j := range push.Profiles {
				must(t, push.Profiles[j].Data.Scale(weight))
				push.Profiles[j].Labels = Weighted(push.Profiles[j].Labels, weight)
				if push.Profiles[j].Type == "cpu" {
					want += weight * 15_000
				}
			}
			must(t, e.store.Append(t.Context(), push))
		}
	}
	covered := func(what string) {
		t.Helper()
		q := Query{Type: profiles.Type{Profile: "cpu", Sample: "cpu", Unit: "nanoseconds"}, From: epoch, To: epoch + 180_000}
		s, err := e.store.Merge(t.Context(), q)
		must(t, err)
		if s.Stats.CoveredMs != want {
			t.Errorf("%s: %d ms covered, want %d", what, s.Stats.CoveredMs, want)
		}
	}
	covered("segments")
	settle(t, e, epoch+180_000)
	covered("blocks")
}

func TestWeightLabel(t *testing.T) {
	ls := labels.FromStrings("service_name", "cart")
	for _, tt := range []struct {
		ls   labels.Labels
		want int64
	}{
		{ls, 1}, {Weighted(ls, 0), 1}, {Weighted(ls, 1), 1}, {Weighted(ls, 58), 58}, {labels.FromStrings(WeightLabel, "many"), 1}, {labels.FromStrings(WeightLabel, "-3"), 1},
		{labels.FromStrings(WeightLabel, "99999999999"), 1},
	} {
		if got := standsFor(tt.ls); got != tt.want {
			t.Errorf("weight of %s = %d, want %d", tt.ls, got, tt.want)
		}
	}
}
