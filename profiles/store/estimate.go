package store

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles"
)

const (
	// turnLength is how long a replica is profiled at a time where replicas take turns, unless the rule says otherwise (collector/rotate).
	turnLength = 5 * 60_000
	// profileEvery is how often a process is profiled at least, and told of, by whoever looks at it from outside.
	profileEvery = 60_000
	// wholeShare is the part of a range that is as good as all of it: of processes profiled that long nothing is looked up.
	wholeShare = 0.95
	// maxEstimated bounds the processes of a service that are looked up; of others their profiles alone tell how long they were there.
	maxEstimated = 150_000
	// maxEven bounds what one process is scaled up by beside another: what was looked at for less says next to nothing.
	maxEven = 64
	// evenSteps is how many classes there are to an octave of factors.
	evenSteps = 16
)

// Estimate says by what the totals of processes are to be multiplied to be what they would be had all been profiled all the time that they were there: value ÷ time covered × time there. A
// scraped process has a CPU profile of some seconds of each minute, one with an agent of all of it. The time covered is that of MergeStats.CoveredMs.
type Estimate struct {
	factors map[process]float64 // empty: of a gauge, which counts time itself
	least   float64
}

type process struct{ service, instance string }

func processOf(ls labels.Labels) process {
	return process{ls.Get(serviceLabel), ls.Get(instanceLabel)}
}

// Factor returns that of the process with labels ls, of which service_name and service_instance_id count. Profiles of which nobody said whose they are count as they come.
func (e *Estimate) Factor(ls labels.Labels) float64 {
	if f := e.factors[processOf(ls)]; f > 0 {
		return f
	}
	return 1
}

// Even returns Factor relative to that of the process that was covered best, at most maxEven: 1 for all where all were covered alike.
func (e *Estimate) Even(ls labels.Labels) float64 { return e.even(e.Factor(ls)) }

// even relates a factor to the least; one below 1, of a profile that reaches beyond the range, is no measure for the others.
func (e *Estimate) even(f float64) float64 { return min(f/max(e.least, 1), maxEven) }

// common returns the factor of all processes, where they have the same within a hundredth.
func (e *Estimate) common() (f float64, ok bool) {
	if len(e.factors) == 0 {
		return 1, true
	}
	most := 0.0
	for _, f := range e.factors {
		most = max(most, f)
	}
	return (e.least + most) / 2, most <= 1.01*e.least
}

// Estimate finds out for how much of the time the processes that q selects were profiled. Filters of stacks do not count.
func (s *Store) Estimate(ctx context.Context, q Query) (*Estimate, error) {
	e := &Estimate{factors: map[process]float64{}}
	if q.Type.Kind() != profiles.Interval {
		return e, nil
	}
	if q.To <= q.From {
		return nil, fmt.Errorf("estimate totals: range [%d, %d) is empty", q.From, q.To)
	}
	q.Samples, q.Focus, q.Ignore = nil, nil, nil
	b := s.newBudget()
	defer b.done()
	var a *coverAdder
	_, err := s.visit(ctx, q, func() {
		a = &coverAdder{scan: newScan(s, &q, b), covers: map[process]*cover{}}
		a.scan.sink, a.scan.by = a, []string{serviceLabel, instanceLabel}
	}, func(f *file, ds *dataset) error { return a.scan.dataset(ctx, f, ds) })
	if err != nil {
		return nil, fmt.Errorf("estimate totals: %w", err)
	}
	known, err := s.lookUp(ctx, a.covers, &q)
	if err != nil {
		return nil, fmt.Errorf("estimate totals: %w", err)
	}
	e.least = math.Inf(1)
	for p, c := range a.covers {
		f := 1.0
		if p.instance != "" {
			f = float64(c.elapsed(known[p], q.From, q.To)) / float64(c.covered)
		}
		e.factors[p], e.least = f, min(e.least, f)
	}
	if len(e.factors) == 0 {
		e.least = 0
	}
	return e, nil
}

// lookUp returns what the catalogue knows of the processes that were not profiled all the time.
func (s *Store) lookUp(ctx context.Context, covers map[process]*cover, q *Query) (map[process]*catalog.Process, error) {
	services := map[string]bool{}
	for p, c := range covers {
		if p.instance != "" && !c.whole(q.To-q.From) {
			services[p.service] = true
		}
	}
	known := map[process]*catalog.Process{}
	for service := range services {
		ps, err := s.cfg.Catalog.Processes(ctx, catalog.ProcessFilter{Service: service, Since: q.From - profileEvery, Limit: maxEstimated})
		if err != nil {
			return nil, err
		}
		for i := range ps {
			known[process{service, ps[i].Instance}] = &ps[i]
		}
	}
	return known, nil
}

// cover is what is known of when one process was profiled.
type cover struct {
	profiles    int64
	covered     int64 // ms, Σ of the profiles
	weighted    int64 // the same times what they stand for
	first, last int64 // Unix ms: start of the first and end of the last
}

// whole reports whether the profiles cover as good as all of a range of ms, and stand for nobody else.
func (c *cover) whole(ms int64) bool {
	return c.weighted == c.covered && float64(c.covered) >= wholeShare*float64(ms)
}

// elapsed returns for how much of the range the process was there, ms; where replicas take turns, how much of it was its turn. p may be nil.
func (c *cover) elapsed(p *catalog.Process, from, to int64) int64 {
	span := c.last - c.first
	if c.whole(to - from) {
		return to - from
	}
	outside := p == nil || p.Gatherer != "agent"
	idle := int64(0) // between one profile and the next
	switch {
	case c.profiles > 1:
		idle = max(0, (span-c.covered)/(c.profiles-1))
	case outside:
		idle = max(0, profileEvery-c.covered)
	}
	there := min(to-from, span+idle)
	if p != nil {
		began, ended := min(c.first, cmp.Or(p.Started, p.FirstSeen)), max(c.last, p.LastSeen)
		if outside && p.State == "running" {
			ended += profileEvery // when it will have been told of again
		}
		there = min(ended, to) - max(began, from)
	}
	if c.weighted == c.covered {
		return there
	}
	turns := int64(float64(there) * float64(c.covered) / float64(c.weighted))
	return min(there, max(turns, turnLength), span+idle)
}

// coverAdder gathers when processes were profiled. Not safe for concurrent use.
type coverAdder struct {
	scan   *scan
	covers map[process]*cover
}

func (a *coverAdder) wantsHeads() bool { return false } // that is: totals

func (a *coverAdder) head(ls labels.Labels, _ uint32, t tally) error {
	p := processOf(ls)
	c := a.covers[p]
	if c == nil {
		if err := a.scan.budget.take(256); err != nil {
			return err
		}
		c = &cover{first: t.first, last: t.last}
		a.covers[p] = c
	}
	c.profiles += t.profiles
	c.covered += t.length / standsFor(ls)
	c.weighted += t.length
	c.first, c.last = min(c.first, t.first), max(c.last, t.last)
	return nil
}

func (a *coverAdder) rows(context.Context, *file, *dataset, []task) error { return nil }

// estimatedSeries is Series where totals are estimated.
func (s *Store) estimatedSeries(ctx context.Context, q SeriesQuery) ([]Series, error) {
	q.Estimate = false
	e, err := s.Estimate(ctx, q.Query)
	if err != nil {
		return nil, err
	}
	if f, ok := e.common(); ok {
		out, err := s.Series(ctx, q)
		for i := range out {
			out[i].add(&out[i], f-1)
		}
		return out, err
	}
	part := q
	part.By, part.Top = slices.Clone(q.By), 0
	for _, name := range []string{serviceLabel, instanceLabel} {
		if !slices.Contains(part.By, name) {
			part.By = append(part.By, name)
		}
	}
	all, err := s.Series(ctx, part)
	if err != nil {
		return nil, err
	}
	return regroup(all, q, e), nil
}

// regroup adds up the estimates of processes by what q asks for.
func regroup(all []Series, q SeriesQuery, e *Estimate) []Series {
	groups := map[string]*Series{}
	for i := range all {
		ls := all[i].Labels.MatchLabels(true, q.By...)
		g := groups[ls.String()]
		if g == nil {
			g = &Series{Labels: ls, Values: make([]float64, len(all[i].Values))}
			groups[ls.String()] = g
		}
		g.add(&all[i], e.Factor(all[i].Labels))
	}
	out := make([]Series, 0, len(groups))
	for _, g := range groups {
		out = append(out, *g)
	}
	slices.SortFunc(out, func(a, b Series) int {
		return cmp.Or(cmp.Compare(b.Total, a.Total), labels.Compare(a.Labels, b.Labels))
	})
	if q.Top > 0 && len(out) > q.Top {
		rest := &out[q.Top]
		rest.Labels = labels.FromStrings(restLabel, "true")
		for i := q.Top + 1; i < len(out); i++ {
			rest.add(&out[i], 1)
		}
		out = out[:q.Top+1]
	}
	return out
}

// add adds o times f.
func (s *Series) add(o *Series, f float64) {
	s.Total += o.Total * f
	for i, v := range o.Values {
		s.Values[i] += v * f
	}
}

// MergeEven adds up all profiles that q selects as Merge does, the values of each process multiplied with what e, which is of q, says its Even factor is (within 1/32): a process that was profiled
// for ten seconds of each minute weighs like one that was profiled for all of it. Only intervals can be merged so.
func (s *Store) MergeEven(ctx context.Context, q Query, e *Estimate) (*profiles.Stacks, error) {
	if _, ok := e.common(); ok {
		return s.Merge(ctx, q)
	}
	c := e.classes()
	b := s.newBudget()
	defer b.done()
	var m *evenMerger
	leftOut, err := s.visit(ctx, q, func() {
		m = &evenMerger{merger: newMerger(s, &q, b), classes: c}
		m.scan.sink, m.scan.by = m, []string{serviceLabel, instanceLabel}
	}, func(f *file, ds *dataset) error { return m.scan.dataset(ctx, f, ds) })
	var out *profiles.Stacks
	if err == nil {
		m.flatten()
		out, err = m.result(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("merge profiles: %w", err)
	}
	out.Stats.Unreadable = leftOut
	return out, nil
}

// classes are processes put together by what they are multiplied with.
type classes struct {
	of      map[process]uint32
	factors []float64 // by class: the mean of its processes'
}

func (e *Estimate) classes() *classes {
	c := &classes{of: make(map[process]uint32, len(e.factors))}
	places, members := map[int]uint32{}, []float64(nil)
	byName := func(a, b process) int {
		return cmp.Or(cmp.Compare(a.service, b.service), cmp.Compare(a.instance, b.instance))
	}
	for _, p := range slices.SortedFunc(maps.Keys(e.factors), byName) { // so that the same profiles give the same bytes
		f := e.even(e.factors[p])
		step := int(math.Round(math.Log2(f) * evenSteps))
		at, ok := places[step]
		if !ok {
			at = uint32(len(c.factors))
			places[step] = at
			c.factors, members = append(c.factors, 0), append(members, 0)
		}
		c.of[p], c.factors[at], members[at] = at, c.factors[at]+f, members[at]+1
	}
	for i := range c.factors {
		c.factors[i] /= members[i]
	}
	return c
}

// evenMerger is a merger whose stacks have a cell for each class.
type evenMerger struct {
	*merger
	classes *classes
}

func (m *evenMerger) rows(ctx context.Context, f *file, ds *dataset, tasks []task) error {
	for i := range tasks {
		at, ok := m.classes.of[processOf(tasks[i].labels)]
		if !ok { // it came after the estimate was made, and in the least factor's place says what it says
			at = m.classes.plain()
		}
		tasks[i].sel.at = at
	}
	return m.add(ctx, f, ds, tasks, len(m.classes.factors))
}

// plain returns the class with the least factor.
func (c *classes) plain() uint32 {
	return uint32(slices.Index(c.factors, slices.Min(c.factors)))
}

// flatten adds up the classes of each stack.
func (m *evenMerger) flatten() {
	n := len(m.classes.factors)
	for _, p := range m.parts {
		for id := range len(p.cells) / n {
			sum := int128{}
			for i, v := range p.cells[id*n : (id+1)*n] {
				if f := m.classes.factors[i]; f != 1 && !v.IsZero() {
					v = profiles.Int128From(int64(math.Round(min(v.Float()*f, 1<<62))))
				}
				sum = sum.Add(v)
			}
			p.cells[id] = sum // what is behind was read, what is before was written
		}
		p.cells = p.cells[:len(p.cells)/n]
	}
}
