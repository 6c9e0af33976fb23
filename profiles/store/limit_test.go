package store

import (
	"errors"
	"fmt"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
)

// TestLimiterCountsWhatIsAlive has 100,000 instances of one service in an hour, 200 at a time, five series each: none is refused, and no more is remembered than the limit allows.
func TestLimiterCountsWhatIsAlive(t *testing.T) {
	const (
		instances, atOnce = 100_000, 200
		hour              = 3_600_000
		life              = hour * atOnce / instances // ms
	)
	l := &seriesLimiter{max: 20_000}
	start := int64(1_800_000_000_000)
	push := func(now int64, i int) {
		refs := make([]seriesRef, 5)
		for k := range refs {
			instance := fmt.Sprint("i", i)
			refs[k] = seriesRef{key: instance + "/" + string(rune('a'+k)), instance: instance, end: now, length: life / 2}
		}
		if err := l.allow(now, map[string][]seriesRef{"cart": refs}); err != nil {
			t.Fatalf("instance %d after %d ms: %v", i, now-start, err)
		}
	}
	most := 0
	for i := range instances {
		now := start + int64(i)*hour/instances
		push(now, i)
		if i >= atOnce/2 {
			push(now, i-atOnce/2) // half-way through its life
		}
		most = max(most, l.services["cart"].n)
	}
	s := l.services["cart"]
	counted := 0
	for _, i := range s.instances {
		counted += len(i.series)
	}
	if counted != s.n || most > l.max {
		t.Errorf("%d series are counted and %d are there; at most %d were, want at most %d", s.n, counted, most, l.max)
	}
	l.sweep(start + hour + seriesSweep.Milliseconds())
	l.sweep(start + hour + maxSilence.Milliseconds() + 2*seriesSweep.Milliseconds())
	if len(l.services) != 0 {
		t.Errorf("%d series of a service that has ended are remembered", s.n)
	}
}

// TestLimiterHoldsAgainstALabel: of an instance that lives, every series of the last two hours counts, whatever it sends now.
func TestLimiterHoldsAgainstALabel(t *testing.T) {
	l := &seriesLimiter{max: 100}
	now := int64(1_800_000_000_000)
	for i := range 101 {
		now += 30_000
		err := l.allow(now, map[string][]seriesRef{"cart": {{key: fmt.Sprint("request=", i), instance: "one", end: now, length: 10_000}}})
		var limit *LimitError
		if errors.As(err, &limit) != (i == 100) {
			t.Fatalf("series %d: %v", i, err)
		}
		if limit != nil && (limit.Max != 100 || limit.Got != 101) {
			t.Errorf("limit is %+v", limit)
		}
	}
	// What counts already goes on, at the limit too.
	must(t, l.allow(now, map[string][]seriesRef{"cart": {{key: "request=99", instance: "one", end: now}}}))
}

// TestLimiterWaitsForSlowInstances: an instance that sends every three minutes is not forgotten between two of its pushes, and one that sends every ten seconds is after a minute.
func TestLimiterWaitsForSlowInstances(t *testing.T) {
	l := &seriesLimiter{max: 1}
	now := int64(1_800_000_000_000)
	slow := map[string][]seriesRef{"cart": {{key: "slow", instance: "slow", end: now, length: 180_000}}}
	must(t, l.allow(now, slow))
	other := func(at int64) error {
		return l.allow(at, map[string][]seriesRef{"cart": {{key: "b", instance: "b", end: at, length: 10_000}}})
	}
	if other(now+8*60_000) == nil {
		t.Error("an instance that sends every three minutes did not count after eight")
	}
	must(t, other(now+9*60_000+1))
	if err := l.allow(now+9*60_000+50_000, map[string][]seriesRef{"cart": {{key: "c", instance: "c", end: now + 9*60_000 + 50_000}}}); err == nil {
		t.Error("an instance that sends every ten seconds did not count after 50 s")
	}
	must(t, l.allow(now+10*60_000+2, map[string][]seriesRef{"cart": {{key: "c", instance: "c", end: now + 10*60_000 + 2}}}))
}

// TestChurnMeetsNoLimit has more instances than series are allowed, one after the other, a restart in between, and then what a spool of yesterday holds of many at once.
func TestChurnMeetsNoLimit(t *testing.T) {
	e := newEnv(t, func(c *Config) { c.MaxSeries = 5 })
	push := func(i int, end int64) error {
		return e.store.Append(t.Context(), Push{Profiles: []Profile{{Labels: labels.FromStrings("service_name", "cart", instanceLabel, fmt.Sprint("i", i)), Type: "cpu",
			Start: end - 10_000, End: end, Data: profileOf(cpuTypes, 1, []sample{{stack: []string{"f"}, values: []int64{1, 2}}})}}})
	}
	now := int64(epoch)
	for i := range 30 {
		now += 20_000
		e.clock.set(now)
		must(t, push(i, now))
		if i == 20 {
			e.reopen()
		}
	}
	e.reopen()
	for i := range 5 { // four of those before are alive: what was stored is read again
		err := push(100+i, now)
		if limit := new(LimitError); errors.As(err, &limit) != (i >= 1) {
			t.Errorf("new instance %d at the same time: %v", i, err)
		}
	}
	for i := range 20 {
		must(t, push(200+i, now-3_600_000))
	}
}
