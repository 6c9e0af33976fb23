package store

import (
	"cmp"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/internal/catalog"
)

// Retention says for how long the profiles of a service are kept in which form. Every time counts from the profile, not from the step before.
type Retention struct {
	Raw     time.Duration // as they came
	Minutes time.Duration // added up by minute; no longer than Raw: there is no such step
	Hours   time.Duration // added up by hour; no longer than the steps before: there is no such step
	Bytes   int64         // of all that is kept of one service; 0: no limit of its own
}

// RetentionRule is the Retention of the services that Services matches. Its matchers are on service_name; none match every service.
type RetentionRule struct {
	Services []*labels.Matcher
	Retention
}

// step is a form in which profiles are kept: raw, or added up in windows of resolution ms, in blocks that span one window of time.
type step struct {
	resolution int64
	window     time.Duration
}

var steps = [...]step{{0, blockWindow}, {60_000, 24 * time.Hour}, {3_600_000, 240 * time.Hour}}

const (
	// A whole day goes to the next step at once: two hours at a time would make twelve blocks of sums of which each holds most of the stacks of the others. So a
	// step lasts up to a day longer than it is set to.
	day = 24 * time.Hour
	// untouched is how old profiles must be to be added up only because of the size: what happened a moment ago is what raw profiles are for.
	untouched = day
)

// stepOf returns the index of the step with that resolution.
func stepOf(resolution int64) int {
	return max(0, slices.IndexFunc(steps[:], func(s step) bool { return s.resolution == resolution }))
}

func (r *Retention) until(step int) time.Duration {
	return [len(steps)]time.Duration{r.Raw, r.Minutes, r.Hours}[step]
}

// next returns the step that follows step for this service, -1 for none.
func (r *Retention) next(from int) int {
	longest := time.Duration(0)
	for i := range steps {
		if i > from && r.until(i) > longest {
			return i
		}
		longest = max(longest, r.until(i))
	}
	return -1
}

// at returns the step, from on, in which profiles of that age are kept; -1: they are not.
func (r *Retention) at(from int, age time.Duration) int {
	for from >= 0 && age >= r.until(from) {
		from = r.next(from)
	}
	return from
}

// retention is what decides: the rules in order, the default, and the limit of all together.
type retention struct {
	rules    []RetentionRule
	def      Retention
	maxBytes int64
}

// of returns the retention of a service: that of the first rule that matches.
func (r *retention) of(service string) *Retention {
	for i := range r.rules {
		if matchService(r.rules[i].Services, service) {
			return &r.rules[i].Retention
		}
	}
	return &r.def
}

// action is one thing that retention does: drop In, take apart what of In is pinned, or add In up (merge it, where it is) to Resolution.
type action struct {
	In     []catalog.Block
	Drop   bool
	Split  bool
	Step   int    // of the result, where it is neither
	Reason string // age, size, merge
}

// planRetention decides what retention does next; nothing where all is as it should be. What is too old comes first, then what is too large, then the merging of sums. It is
// a pure function of the live blocks, the time, the rules and the pins.
func planRetention(blocks []catalog.Block, now time.Time, r *retention, pins *pins) (action, bool) {
	p := &retentionPlan{now: now, r: r, pins: pins}
	for _, b := range blocks {
		if len(b.Datasets) > 0 {
			p.blocks = append(p.blocks, planned{Block: b, step: stepOf(b.Resolution), hold: pins.hold(&b)})
		}
	}
	slices.SortFunc(p.blocks, func(a, b planned) int { return cmp.Or(cmp.Compare(a.end(), b.end()), cmp.Compare(a.ID, b.ID)) })
	for _, plan := range []func() (action, bool){p.age, p.size, p.merge} {
		if a, ok := plan(); ok {
			return a, true
		}
	}
	return action{}, false
}

type retentionPlan struct {
	blocks []planned // the one that ended first in front
	now    time.Time
	r      *retention
	pins   *pins
}

// planned is a block with what the decisions need of it.
type planned struct {
	catalog.Block
	step int
	hold hold
}

func (b *planned) end() int64 {
	e := b.Datasets[0].MaxEnd
	for _, ds := range b.Datasets[1:] {
		e = max(e, ds.MaxEnd)
	}
	return e
}

// one reports whether the block is of one service, as all but segments are.
func (b *planned) one() bool { return b.Level > 0 && len(b.Datasets) == 1 }

// since returns how long before now the time ms was.
func (p *retentionPlan) since(ms int64) time.Duration { return p.now.Sub(time.UnixMilli(ms)) }

// over reports whether all services of the block are beyond their last step.
func (p *retentionPlan) over(b *planned) bool {
	for _, ds := range b.Datasets {
		if p.r.of(ds.Service).at(b.step, p.since(ds.MaxEnd)) >= 0 {
			return false
		}
	}
	return true
}

// age drops blocks beyond the last step, all at once, and moves days on to the step of their age, the oldest first.
func (p *retentionPlan) age() (action, bool) {
	drop := action{Drop: true, Reason: "age"}
	for i := range p.blocks {
		b := &p.blocks[i]
		if !p.over(b) || b.hold == held {
			continue
		}
		if b.hold == partly {
			return action{In: []catalog.Block{b.Block}, Split: true, Reason: "age"}, true
		}
		drop.In = append(drop.In, b.Block)
	}
	if len(drop.In) > 0 {
		return drop, true
	}
	for i := range p.blocks {
		b := &p.blocks[i]
		if !b.one() || b.hold == held || p.over(b) {
			continue
		}
		from, service := windowStart(b.Datasets[0].MinStart, day.Milliseconds()), b.Datasets[0].Service
		to := p.r.of(service).at(b.step, p.since(from+day.Milliseconds()))
		if to < 0 { // its day is over, the block itself not yet
			to = p.r.of(service).at(b.step, p.since(b.end()))
		}
		if to > b.step {
			return p.move(b, to, 0, "age"), true
		}
	}
	return action{}, false
}

// move adds up what there is of b's service, day and step that is at least so old.
func (p *retentionPlan) move(b *planned, to int, old time.Duration, reason string) action {
	service, from := b.Datasets[0].Service, windowStart(b.Datasets[0].MinStart, day.Milliseconds())
	a := action{Step: to, Reason: reason}
	for i := range p.blocks {
		o := &p.blocks[i]
		if !o.one() || o.step != b.step || o.hold == held || o.Datasets[0].Service != service || windowStart(o.Datasets[0].MinStart, day.Milliseconds()) != from || p.since(o.end()) < old {
			continue
		}
		if o.hold == partly {
			return action{In: []catalog.Block{o.Block}, Split: true, Reason: reason}
		}
		a.In = append(a.In, o.Block)
	}
	a.In = a.In[:fitting(a.In)]
	return a
}

// size brings all services together below the limit, and each below its own. First raw profiles that are older than a day go to the next step, the oldest day first: most of
// what they say stays, in a fraction of the bytes. Then the oldest sums go. Only when there are none left, profiles of the last day go, the oldest first: a limit is a limit.
func (p *retentionPlan) size() (action, bool) {
	total, byService := int64(0), map[string]int64{}
	for i := range p.blocks {
		b := &p.blocks[i]
		total += b.Size
		if b.one() {
			byService[b.Datasets[0].Service] += b.Size
		}
	}
	if total > p.r.maxBytes {
		if a, ok := p.shrink(total-p.r.maxBytes, func(*planned) bool { return true }); ok {
			return a, true
		}
	}
	for i := range p.blocks {
		service := p.blocks[i].Datasets[0].Service
		limit := p.r.of(service).Bytes
		if limit == 0 || byService[service] <= limit {
			continue
		}
		if a, ok := p.shrink(byService[service]-limit, func(b *planned) bool { return b.one() && b.Datasets[0].Service == service }); ok {
			return a, true
		}
		byService[service] = 0
	}
	return action{}, false
}

// shrink does the next thing to save bytes among the blocks that which selects; nothing where all of them are pinned.
func (p *retentionPlan) shrink(bytes int64, which func(*planned) bool) (action, bool) {
	sums := func(b *planned) bool { return b.step > 0 }
	raw := func(b *planned) bool { return b.step == 0 }
	for i := range p.blocks {
		b := &p.blocks[i]
		if !which(b) || b.step > 0 || !b.one() || b.hold == held || p.since(b.end()) < untouched {
			continue
		}
		if to := p.r.of(b.Datasets[0].Service).next(0); to > 0 {
			return p.move(b, to, untouched, "size"), true
		}
		break // there is no next step for the oldest: it goes as sums would
	}
	old := func(b *planned) bool { return b.step > 0 || p.since(b.end()) >= untouched }
	for _, kind := range []func(*planned) bool{old, sums, raw} {
		drop := action{Drop: true, Reason: "size"}
		for i := range p.blocks {
			b := &p.blocks[i]
			if bytes <= 0 || !which(b) || !kind(b) || b.hold == held {
				continue
			}
			if len(drop.In) > 0 && b.step == 0 && b.one() && p.since(b.end()) >= untouched && p.r.of(b.Datasets[0].Service).next(0) > 0 {
				break // its turn is to be added up
			}
			if b.hold == partly {
				if len(drop.In) > 0 {
					break
				}
				return action{In: []catalog.Block{b.Block}, Split: true, Reason: "size"}, true
			}
			drop.In = append(drop.In, b.Block)
			bytes -= b.Size
		}
		if len(drop.In) > 0 {
			return drop, true
		}
	}
	return action{}, false
}

// merge makes one block of the sums of a service and window once no more are to come into it, or sixteen have gathered.
func (p *retentionPlan) merge() (action, bool) {
	type group struct {
		service string
		step    int
		window  int64
	}
	groups, order := map[group][]catalog.Block{}, []group(nil)
	for i := range p.blocks {
		b := &p.blocks[i]
		if !b.one() || b.step == 0 || b.hold != loose {
			continue
		}
		g := group{b.Datasets[0].Service, b.step, windowStart(b.Datasets[0].MinStart, steps[b.step].window.Milliseconds())}
		if groups[g] == nil {
			order = append(order, g)
		}
		groups[g] = append(groups[g], b.Block)
	}
	for _, g := range order {
		in, before := groups[g], time.Duration(0)
		for i := range g.step {
			before = max(before, p.r.of(g.service).until(i))
		}
		end := g.window + steps[g.step].window.Milliseconds()
		settled := !slices.ContainsFunc(in, func(b catalog.Block) bool { return p.since(b.Created) < settleAge })
		complete := settled && p.since(end) >= before+day
		if len(in) < 2 || !complete && len(in) < fanIn {
			continue
		}
		slices.SortFunc(in, func(a, b catalog.Block) int { return cmp.Or(cmp.Compare(a.Size, b.Size), cmp.Compare(a.ID, b.ID)) })
		if n := fitting(in); n > 1 {
			return action{In: in[:n], Step: g.step, Reason: "merge"}, true
		}
	}
	return action{}, false
}
