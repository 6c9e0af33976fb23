package store

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/internal/catalog"
)

// aged makes a block of a service for the tests of retention: at level 1, of the two hours (day, ten days) that started hoursAgo before the test's midnight.
func aged(id, service string, step, hoursAgo int, size int64) catalog.Block {
	start := midnight - int64(hoursAgo)*3_600_000
	length := min(steps[step].window, day).Milliseconds()
	return catalog.Block{ID: id, Level: 1, Size: size, Resolution: steps[step].resolution, Created: start,
		Datasets: []catalog.Dataset{{Service: service, MinStart: start, MaxStart: start + length - 15_000, MaxEnd: start + length, Types: []string{"cpu"}}}}
}

// midnight is the full day before epoch.
var midnight = windowStart(epoch, day.Milliseconds())

func equal(name, value string) []*labels.Matcher {
	return []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, name, value)}
}

func describe(a action, ok bool) string {
	if !ok {
		return ""
	}
	ids := make([]string, len(a.In))
	for i, b := range a.In {
		ids[i] = b.ID
	}
	what := fmt.Sprintf("to %d", a.Step)
	if a.Drop {
		what = "drop"
	} else if a.Split {
		what = "split"
	}
	return fmt.Sprintf("%s %s (%s)", what, strings.Join(ids, " "), a.Reason)
}

func TestPlanRetention(t *testing.T) {
	const h = time.Hour
	def := Retention{Raw: 7 * day, Minutes: 30 * day, Hours: 400 * day}
	cart := func(r Retention) []RetentionRule { return []RetentionRule{{equal("service_name", "cart"), r}} }
	segment := catalog.Block{ID: "s", Size: 10, Datasets: []catalog.Dataset{{Service: "cart", MaxEnd: midnight - 9*24*3_600_000}, {Service: "pay", MaxEnd: midnight - 400*24*3_600_000}}}
	pinned := &pins{state: 3, all: []pin{{Pin: catalog.Pin{ID: 1, Start: midnight - 200*3_600_000, End: midnight - 190*3_600_000}, matchers: equal("service_name", "cart")}}}
	for _, test := range []struct {
		name   string
		blocks []catalog.Block
		rules  []RetentionRule
		max    int64
		pins   *pins
		now    time.Duration // after midnight
		want   string
	}{
		{name: "nothing"},
		{name: "young", blocks: []catalog.Block{aged("a", "cart", 0, 48, 10)}},
		{name: "a day goes as a whole", blocks: []catalog.Block{aged("a", "cart", 0, 8*24, 10), aged("b", "cart", 0, 8*24-2, 10), aged("c", "pay", 0, 8*24, 10), aged("d", "cart", 0, 7*24, 10)}, want: "to 1 a b (age)"},
		{name: "and not before all of it is old", blocks: []catalog.Block{aged("a", "cart", 0, 8*24, 10)}, now: -time.Minute},
		{name: "in bounded amounts", blocks: []catalog.Block{aged("a", "cart", 0, 8*24, 40<<20), aged("b", "cart", 0, 8*24-2, 40<<20)}, want: "to 1 a (age)"},
		{name: "minutes go to hours", blocks: []catalog.Block{aged("m", "cart", 1, 31*24, 10), aged("n", "cart", 1, 30*24, 10)}, want: "to 2 m (age)"},
		{name: "raw profiles that old too", blocks: []catalog.Block{aged("a", "cart", 0, 50*24, 10)}, want: "to 2 a (age)"},
		{name: "hours end", blocks: []catalog.Block{aged("x", "cart", 2, 401*24, 10), aged("y", "cart", 2, 402*24, 10), aged("z", "cart", 2, 400*24, 10)}, want: "drop y x (age)"},
		{name: "segments of which all is over", blocks: []catalog.Block{segment}},
		{name: "no sums", blocks: []catalog.Block{aged("a", "cart", 0, 7*24+2, 10), aged("b", "cart", 0, 7*24+1, 10)}, rules: cart(Retention{Raw: 7 * day}), now: -time.Minute, want: ""},
		{name: "no sums, over", blocks: []catalog.Block{aged("a", "cart", 0, 7*24+2, 10), aged("b", "cart", 0, 7*24+1, 10)}, rules: cart(Retention{Raw: 7 * day}), now: time.Minute, want: "drop a (age)"},
		{name: "no minutes", blocks: []catalog.Block{aged("a", "cart", 0, 8*24, 10)}, rules: cart(Retention{Raw: 7 * day, Hours: 9 * day}), want: "to 2 a (age)"},
		{name: "a step that ends before the one before it is none", blocks: []catalog.Block{aged("a", "cart", 0, 40*24, 10)}, rules: cart(Retention{Raw: 60 * day, Minutes: 30 * day, Hours: 400 * day})},
		{name: "the rule is its service's alone", blocks: []catalog.Block{aged("a", "pay", 0, 6*24, 10)}, rules: cart(Retention{Raw: day})},
		{name: "kept for ever", blocks: []catalog.Block{aged("a", "cart", 0, 4000*24, 10)}, rules: cart(Retention{Raw: math.MaxInt64})},

		{name: "over the size the oldest days are added up", max: 99, blocks: []catalog.Block{aged("a", "cart", 0, 72, 50), aged("b", "cart", 0, 70, 20), aged("c", "pay", 0, 96, 30)}, want: "to 1 c (size)"},
		{name: "but for the last day; then sums go, the oldest first", max: 90, blocks: []catalog.Block{aged("a", "cart", 0, 20, 80), aged("m", "cart", 1, 200, 15), aged("n", "pay", 1, 300, 5)}, want: "drop n m (size)"},
		{name: "no more than needed", max: 90, blocks: []catalog.Block{aged("a", "cart", 0, 20, 80), aged("m", "cart", 1, 200, 8), aged("n", "pay", 1, 300, 5)}, want: "drop n (size)"},
		{name: "then profiles of the last day", max: 90, blocks: []catalog.Block{aged("a", "cart", 0, 20, 80), aged("b", "cart", 0, 18, 80)}, want: "drop a (size)"},
		{name: "segments too", max: 5, blocks: []catalog.Block{segment}, want: "drop s (size)"},
		{name: "old profiles without a next step go as sums do", max: 10, blocks: []catalog.Block{aged("a", "cart", 0, 72, 10), aged("b", "cart", 0, 20, 10)}, rules: cart(Retention{Raw: 7 * day}), want: "drop a (size)"},
		{name: "a limit that is reached is not passed", max: 100, blocks: []catalog.Block{aged("a", "cart", 0, 72, 100)}},
		{name: "a service over its own", blocks: []catalog.Block{aged("a", "cart", 0, 20, 80), aged("b", "cart", 0, 18, 80), aged("c", "pay", 0, 30, 1000)},
			rules: cart(Retention{Raw: 7 * day, Bytes: 100}), want: "drop a (size)"},

		{name: "sums of a window are merged once it is complete", blocks: []catalog.Block{aged("m", "cart", 1, 10*24, 10), aged("n", "cart", 1, 10*24, 10)}, want: "to 1 m n (merge)"},
		{name: "not before", blocks: []catalog.Block{aged("m", "cart", 1, 8*24, 10), aged("n", "cart", 1, 8*24, 10)}},

		{name: "what is pinned is taken out first", pins: pinned, blocks: []catalog.Block{aged("a", "cart", 0, 8*24, 10), aged("b", "cart", 0, 8*24-2, 10)}, now: h, want: "split a (age)"},
		{name: "and then stays", pins: pinned, blocks: append(marked(3, []catalog.Block{aged("a", "cart", 0, 8*24, 10)}), aged("b", "cart", 0, 8*24-2, 10)), now: h, want: "to 1 b (age)"},
		{name: "unless the pins have changed", pins: pinned, blocks: marked(2, []catalog.Block{aged("a", "cart", 0, 8*24, 10)}), want: "split a (age)"},
		{name: "nothing of it is pinned", pins: pinned, blocks: marked(-3, []catalog.Block{aged("a", "cart", 0, 8*24, 10)}), want: "to 1 a (age)"},
		{name: "or the pin is gone", blocks: marked(2, []catalog.Block{aged("a", "cart", 0, 8*24, 10)}), want: "to 1 a (age)"},
		{name: "pinned sums stay as they are", pins: pinned, blocks: []catalog.Block{aged("m", "cart", 1, 9*24, 10)}, now: 40 * day},
		{name: "whatever the size", pins: pinned, max: 1, blocks: append(marked(3, []catalog.Block{aged("a", "cart", 0, 8*24, 10)}), aged("m", "cart", 1, 9*24, 10))},
		{name: "other services are not pinned", pins: pinned, blocks: []catalog.Block{aged("c", "pay", 0, 8*24, 10)}, want: "to 1 c (age)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := &retention{rules: test.rules, def: def, maxBytes: test.max}
			if test.max == 0 {
				r.maxBytes = math.MaxInt64
			}
			if test.pins == nil {
				test.pins = &pins{state: 3}
			}
			if got := describe(planRetention(test.blocks, time.UnixMilli(midnight).Add(test.now), r, test.pins)); got != test.want {
				t.Errorf("plan is %q, want %q", got, test.want)
			}
		})
	}
}

// TestPlanRetentionEnds carries out plans on rows until there is nothing to do: it comes to an end, in order, and below the size.
func TestPlanRetentionEnds(t *testing.T) {
	var blocks []catalog.Block
	for i := range 500 {
		blocks = append(blocks, aged(fmt.Sprintf("r%03d", i), []string{"cart", "pay", "web"}[i%3], 0, 24+2*i, 1000))
	}
	r := &retention{def: Retention{Raw: 7 * day, Minutes: 20 * day, Hours: 35 * day}, maxBytes: 60_000}
	n := 0
	for ; ; n++ {
		a, ok := planRetention(blocks, time.UnixMilli(midnight), r, &pins{state: 1})
		if !ok {
			break
		}
		if n > 2000 {
			t.Fatalf("no end after %d actions, the next is %s", n, describe(a, true))
		}
		in := map[string]bool{}
		for _, b := range a.In {
			in[b.ID] = true
		}
		left := blocks[:0:0]
		for _, b := range blocks {
			if !in[b.ID] {
				left = append(left, b)
			}
		}
		blocks = left
		if !a.Drop {
			out := a.In[0]
			out.ID, out.Resolution, out.Size, out.Datasets = fmt.Sprintf("o%04d", n), steps[a.Step].resolution, 0, append([]catalog.Dataset(nil), out.Datasets...)
			for _, b := range a.In {
				out.Size += b.Size / 5
				out.Datasets[0].MaxEnd = max(out.Datasets[0].MaxEnd, b.Datasets[0].MaxEnd)
			}
			blocks = append(blocks, out)
		}
	}
	total := int64(0)
	for _, b := range blocks {
		total += b.Size
		if age := time.UnixMilli(midnight).Sub(time.UnixMilli(b.Datasets[0].MaxEnd)); age >= r.def.until(stepOf(b.Resolution))+day {
			t.Errorf("block %s of resolution %d ended %v ago", b.ID, b.Resolution, age)
		}
	}
	if total > r.maxBytes || total < r.maxBytes/2 {
		t.Errorf("%d bytes are left, want at most %d and not much less", total, r.maxBytes)
	}
}

func TestBelievable(t *testing.T) {
	now := time.UnixMilli(epoch)
	ago := func(d time.Duration) int64 { return now.Add(-d).UnixMilli() }
	at := time.Now()
	for _, test := range []struct {
		name   string
		last   int64
		newest int64
		jumped time.Duration // ago; 0: not
		want   bool
	}{
		{"the first time", 0, 0, 0, true},
		{"a minute later", ago(time.Minute), ago(time.Minute), 0, true},
		{"a clock that went back", ago(-time.Hour), ago(0), 0, true},
		{"off for a night", ago(12 * time.Hour), ago(12 * time.Hour), 0, true},
		{"a jump", ago(72 * time.Hour), ago(72 * time.Hour), 0, false},
		{"profiles come, but not for long", ago(72 * time.Hour), ago(0), time.Minute, false},
		{"for an hour, but nothing comes of that time", ago(72 * time.Hour), ago(71 * time.Hour), 2 * time.Hour, false},
		{"both", ago(72 * time.Hour), ago(time.Minute), 2 * time.Hour, true},
	} {
		jumped := time.Time{}
		if test.jumped > 0 {
			jumped = at.Add(-test.jumped)
		}
		if got := believable(test.last, now, test.newest, jumped, at); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

// TestRetentionSteps lets profiles grow old, day by day: they become sums by minute and by hour and then nothing, and over whole windows every answer stays the same.
func TestRetentionSteps(t *testing.T) {
	e := newEnv(t, func(c *Config) {
		c.MaxAge, c.MinuteAge, c.HourAge, c.Grace = 7*day, 15*day, 40*day, time.Millisecond
		c.Retention = []RetentionRule{{equal("service_name", "pay"), Retention{Raw: 3 * day, Hours: 10 * day}}}
	})
	all := fleetOf(t, e)
	resolutions := func() map[string]int64 {
		out := map[string]int64{}
		blocks, err := e.cat.Blocks(t.Context(), catalog.BlockFilter{})
		must(t, err)
		for _, b := range blocks {
			for _, ds := range b.Datasets {
				out[ds.Service] = max(out[ds.Service], b.Resolution)
				if b.Resolution < out[ds.Service] && b.Level > 0 {
					t.Errorf("day %v: %s has blocks of different resolutions", e.clock.Now(), ds.Service)
				}
			}
		}
		return out
	}
	cart := all.without(func(s, _ string, _ int64) bool { return s != "cart" })
	for d := range 43 {
		must(t, e.store.Compact(t.Context(), false))
		must(t, e.store.Clean(t.Context()))
		got := resolutions()
		_, hasCart := got["cart"]
		_, hasPay := got["pay"]
		switch d {
		case 0, 3:
			if got["cart"] != 0 || got["pay"] != 0 {
				t.Errorf("day %d: %v, want raw profiles", d, got)
			}
		case 5:
			if got["cart"] != 0 || got["pay"] != 3_600_000 {
				t.Errorf("day %d: %v, want pay's hours", d, got)
			}
			e.equals(all)
			e.check()
		case 9, 14:
			if got["cart"] != 60_000 {
				t.Errorf("day %d: %v, want cart's minutes", d, got)
			}
			if d == 9 {
				e.equals(all)
			}
		case 17, 39:
			if got["cart"] != 3_600_000 || hasPay {
				t.Errorf("day %d: %v, want cart's hours alone", d, got)
			}
			e.equals(cart)
		case 42:
			if hasCart {
				t.Errorf("day %d: %v, want nothing", d, got)
			}
			e.equals(&reference{})
		}
		e.clock.set(e.clock.Now().Add(day).UnixMilli())
	}
	e.check()
}

// TestRetentionBySize: over the limit, old days are added up before anything goes.
func TestRetentionBySize(t *testing.T) {
	e := newEnv(t, func(c *Config) { c.Grace = time.Millisecond; c.MaxAge = 7 * day })
	all := &reference{}
	rng := rand.New(rand.NewPCG(7, 7))
	for w := range 200 { // ten a minute of the same stacks
		start := epoch + int64(w)*6000
		p, _ := randomPush(rand.New(rand.NewPCG(7, 7)), "cart", "a", uint64(w+1), start, start+6000)
		p.Profiles = p.Profiles[:1]
		samples := [][]sample{nil}
		for i := range 60 {
			samples[0] = append(samples[0], sample{stack: []string{fmt.Sprint("cart.f", i)}, values: []int64{rng.Int64N(1 << 20), rng.Int64N(1 << 40)}})
		}
		p.Profiles[0].Type, p.Profiles[0].Data = "cpu", profileOf(cpuTypes, 10_000_000, samples[0])
		must(t, e.store.Append(t.Context(), p))
		all.add(p, samples, 300_000)
	}
	must(t, e.store.Compact(t.Context(), true))
	before, err := e.store.Usage(t.Context())
	must(t, err)
	e.clock.set(e.clock.Now().Add(day).UnixMilli())
	must(t, e.store.Clean(t.Context()))
	e.store.retention.maxBytes = before.Bytes - 1
	for range 3 {
		e.clock.set(e.clock.Now().Add(day).UnixMilli())
		must(t, e.store.Clean(t.Context()))
	}
	after, err := e.store.Usage(t.Context())
	must(t, err)
	if after.Bytes >= before.Bytes || after.Profiles != before.Profiles {
		t.Errorf("%d bytes of %d profiles, before it %d of %d: want fewer of as many", after.Bytes, after.Profiles, before.Bytes, before.Profiles)
	}
	e.equals(all)
	e.check()
}

// TestDeleteFromSums: what was added up is taken apart too.
func TestDeleteFromSums(t *testing.T) {
	e := newEnv(t, func(c *Config) { c.MaxAge, c.MinuteAge, c.HourAge, c.Grace = day, 30*day, 400*day, time.Millisecond })
	all := fleetOf(t, e)
	must(t, e.store.Compact(t.Context(), true))
	for range 4 {
		e.clock.set(e.clock.Now().Add(day).UnixMilli())
		must(t, e.store.Clean(t.Context()))
	}
	e.equals(all)
	if blocks, err := e.cat.Blocks(t.Context(), catalog.BlockFilter{}); err != nil || len(blocks) != 2 || blocks[0].Resolution != 60_000 {
		t.Fatalf("blocks are %+v, %v, want minutes of two services", blocks, err)
	}
	got, err := e.store.Delete(t.Context(), Deletion{Instance: "b", To: epoch + 7*240_000})
	must(t, err)
	want := all.without(func(_, i string, at int64) bool { return i == "b" && at < epoch+7*240_000 })
	if n := int64(len(all.all) - len(want.all)); got.Profiles != n {
		t.Errorf("it says that %d profiles are gone, want %d", got.Profiles, n)
	}
	e.equals(want)
	e.check()
}
