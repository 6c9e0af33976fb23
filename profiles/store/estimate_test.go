package store

import (
	"math"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles"
)

var cpuType = profiles.Type{Profile: "cpu", Sample: "cpu"}

// unevenFleet pushes ten minutes of a service: whole and scraped use half a core each and are profiled all the time and for ten seconds of each minute; half lives for the first five minutes and is
// scraped; nobody says whose the profiles of the last are.
func unevenFleet(t *testing.T, e *env) {
	t.Helper()
	push := func(instance, gatherer, state string, begin, from, to, every, length int64) {
		for at := from; at < to; at += every {
			start := epoch + at
			ls := labels.FromStrings(serviceLabel, "cart", "service_version", "v1")
			var p *catalog.Process
			if instance != "" {
				ls = labels.FromStrings(serviceLabel, "cart", instanceLabel, instance, "service_version", "v1")
				p = &catalog.Process{Instance: instance, Service: "cart", Labels: ls, Gatherer: gatherer, State: "running", FirstSeen: epoch + begin, LastSeen: start + length}
				if at+every >= to {
					p.State, p.LastSeen = state, epoch+to
				}
			}
			of := "cart." + instance
			must(t, e.store.Append(t.Context(), Push{Process: p, Profiles: []Profile{{Labels: ls, Type: "cpu", Start: start, End: start + length,
				Data: profileOf(cpuTypes, 10_000_000, []sample{{stack: []string{of, "cart.main"}, values: []int64{length / 20, length / 2 * 1e6}}})}}}))
		}
	}
	push("whole", "agent", "running", -3_600_000, 0, 600_000, 15_000, 15_000)
	push("scraped", "scrape", "running", -3_600_000, 20_000, 600_000, 60_000, 10_000)
	push("half", "scrape", "exited", -3_600_000, 20_000, 300_000, 60_000, 10_000)
	push("", "", "", 0, 0, 30_000, 15_000, 15_000)
}

// TestEstimate: what was profiled for a part of the time that it was there counts for all of it, in series and in what compilers get, from segments, blocks and sums alike.
func TestEstimate(t *testing.T) {
	e := newEnv(t, nil)
	unevenFleet(t, e)
	check := func(what string) {
		t.Helper()
		q := Query{Type: cpuType, From: epoch, To: epoch + 600_000}
		est, err := e.store.Estimate(t.Context(), q)
		must(t, err)
		for instance, want := range map[string]float64{"whole": 1, "scraped": 6, "half": 6, "": 1, "of another": 1} {
			ls := labels.FromStrings(serviceLabel, "cart", instanceLabel, instance)
			if got := est.Factor(ls); math.Abs(got/want-1) > 1e-9 || est.Even(ls) != got {
				t.Errorf("%s: %q counts %v times, and beside the others %v times, want %v", what, instance, got, est.Even(ls), want)
			}
		}
		for _, by := range [][]string{{serviceLabel}, {}, {"service_version", serviceLabel}} {
			all, err := e.store.Series(t.Context(), SeriesQuery{Query: q, Step: 300_000, By: by, Estimate: true})
			must(t, err)
			if want := (300 + 300 + 150 + 15) * 1e9; len(all) != 1 || math.Abs(all[0].Total/want-1) > 1e-9 || all[0].Labels.Len() != len(by) {
				t.Errorf("%s by %v: series are %v, want one of %v", what, by, all, want)
			} else if second := (150 + 150) * 1e9; math.Abs(all[0].Values[1]/second-1) > 1e-9 {
				t.Errorf("%s by %v: the second half is %v, want %v", what, by, all[0].Values[1], second)
			}
		}
		top, err := e.store.Series(t.Context(), SeriesQuery{Query: q, Step: 600_000, By: []string{instanceLabel}, Top: 2, Estimate: true})
		must(t, err)
		if len(top) != 3 || top[2].Labels.Get(restLabel) == "" || math.Abs(top[2].Total/165e9-1) > 1e-9 {
			t.Errorf("%s: the largest two are %v", what, top)
		}
		s, err := e.store.MergeEven(t.Context(), q, est)
		must(t, err)
		slices.Sort(s.Values)
		if want := []int64{15e9, 150e9, 300e9, 300e9}; !slices.Equal(s.Values, want) || s.Stats.Profiles != 40+10+5+2 {
			t.Errorf("%s: %v of %d profiles, want %v", what, s.Values, s.Stats.Profiles, want)
		}
	}
	check("segments")
	settle(t, e, epoch+600_000)
	check("blocks")
}

// TestEstimateOfGauges: a gauge counts time itself.
func TestEstimateOfGauges(t *testing.T) {
	e := newEnv(t, nil)
	est, err := e.store.Estimate(t.Context(), Query{Type: profiles.Type{Profile: "heap", Sample: "inuse_space"}, From: epoch, To: epoch + 1})
	must(t, err)
	if f, ok := est.common(); f != 1 || !ok || est.Even(labels.EmptyLabels()) != 1 {
		t.Errorf("a gauge counts %v times", f)
	}
	if _, err := e.store.Estimate(t.Context(), Query{Type: cpuType, From: 2, To: 2}); err == nil {
		t.Error("an empty range was taken")
	}
}

func TestCoverElapsed(t *testing.T) {
	const minute, day = 60_000, 24 * 3_600_000
	agent := &catalog.Process{Gatherer: "agent", State: "running", FirstSeen: -day, LastSeen: day}
	scraped := &catalog.Process{Gatherer: "scrape", State: "running", FirstSeen: -day, LastSeen: 10_000}
	for _, tt := range []struct {
		name string
		c    cover
		p    *catalog.Process
		to   int64
		want int64
	}{
		{"all of it, a little more than fits", cover{profiles: 5, covered: 75_000, weighted: 75_000, first: 0, last: 75_000}, nil, minute, minute},
		{"a part, there all the time", cover{profiles: 1, covered: 10_000, weighted: 10_000, first: 30_000, last: 40_000}, agent, minute, minute},
		{"told of a while ago", cover{profiles: 1, covered: 10_000, weighted: 10_000, first: 0, last: 10_000}, scraped, minute, minute},
		{"gone", cover{profiles: 2, covered: 30_000, weighted: 30_000, first: 0, last: 30_000}, &catalog.Process{Gatherer: "agent", State: "running", FirstSeen: 15_000, LastSeen: 30_000}, minute, 30_000},
		{"began in it", cover{profiles: 1, covered: 10_000, weighted: 10_000, first: 50_000, last: minute}, &catalog.Process{Gatherer: "scrape", State: "running", Started: 40_000, LastSeen: minute}, minute, 20_000},
		{"unknown, a part of a minute", cover{profiles: 1, covered: 10_000, weighted: 10_000, first: 30_000, last: 40_000}, nil, minute, minute},
		{"unknown, each minute of ten", cover{profiles: 10, covered: 100_000, weighted: 100_000, first: 0, last: 550_000}, nil, day, 600_000},
		{"a turn that is longer than the window, profiled all the time", cover{profiles: 4, covered: minute, weighted: 4 * minute, first: 0, last: minute}, agent, minute, minute},
		{"the same, scraped", cover{profiles: 1, covered: 10_000, weighted: 40_000, first: 0, last: 10_000}, scraped, minute, minute},
		{"turns of a day", cover{profiles: 1440, covered: day / 4, weighted: day, first: 0, last: day}, agent, day, day / 4},
		{"turns of a day, scraped", cover{profiles: 360, covered: 3_600_000, weighted: 4 * 3_600_000, first: 0, last: day}, agent, day, day / 4},
	} {
		if got := tt.c.elapsed(tt.p, 0, tt.to); got != tt.want {
			t.Errorf("%s: %d ms, want %d", tt.name, got, tt.want)
		}
	}
}
