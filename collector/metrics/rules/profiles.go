package rules

import (
	"cmp"
	"context"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/series"
	"github.com/sonde-io/sonde/profiles"
	"github.com/sonde-io/sonde/profiles/store"
)

// Profiles is the store of profiles, as far as series are made of it; *store.Store is one.
type Profiles interface {
	Series(ctx context.Context, q store.SeriesQuery) ([]store.Series, error)
	Merge(ctx context.Context, q store.Query) (*profiles.Stacks, error)
	Types(ctx context.Context, q store.Query) ([]store.TypeInfo, error)
	Services(ctx context.Context, from, to int64) ([]store.ServiceInfo, error)
}

const (
	samplePrefix = "sample." // of labels of samples in By
	serviceLabel = "service_name"
	restLabel    = "__rest__"         // of the series that adds up what is beyond the top
	lookback     = 7 * 24 * time.Hour // how long a service that ended is said to be silent: the catalogue's list of blocks of a week is read for it, and no block
)

// result is what a rule gives for a window: one sample per label set.
type result struct {
	samples []series.Sample
	left    int // series beyond the top, at least
}

// eval computes c for the window that ends at end.
func (c *compiled) eval(ctx context.Context, p Profiles, end time.Time) (result, error) {
	w := window{c: c, p: p, q: store.Query{Matchers: c.matchers, Type: c.typ, From: end.Add(-c.every).UnixMilli(), To: end.UnixMilli()}}
	var err error
	switch {
	case c.stat == statSilent:
		err = w.silent(ctx)
	case c.stat == statShare:
		err = w.share(ctx)
	case c.stat == statGoroutines && c.focus == nil:
		err = w.goroutines(ctx)
	default:
		err = w.total(ctx)
	}
	return w.out, err
}

// window is the evaluation of one window.
type window struct {
	c   *compiled
	p   Profiles
	q   store.Query
	out result
}

// add adds a sample.
func (w *window) add(own labels.Labels, v float64) {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return
	}
	b := labels.NewBuilder(w.c.labels)
	own.Range(func(l labels.Label) {
		if w.c.labels.Get(l.Name) == "" { // what the rule says wins
			b.Set(labelName(l.Name), l.Value)
		}
	})
	w.out.samples = append(w.out.samples, series.Sample{Labels: b.Labels(), T: w.q.To, V: v})
}

// labelName makes a label's name one that PromQL needs no quotes for.
func labelName(s string) string {
	if model.LegacyValidation.IsValidLabelName(s) {
		return s
	}
	b := []byte(s)
	for i, c := range b {
		if c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (i == 0 || c < '0' || c > '9') {
			b[i] = '_'
		}
	}
	return string(b)
}

// totals returns the groups' totals of q over the window, the largest first. An interval's are estimates: what was profiled for a part of the window counts for all that it was there.
func (w *window) totals(ctx context.Context, q store.Query, top int) ([]store.Series, error) {
	return w.p.Series(ctx, store.SeriesQuery{Query: q, Step: q.To - q.From, By: w.c.by, Top: top, Estimate: true})
}

// sums returns totals, at most top of them.
func (w *window) sums(ctx context.Context, q store.Query) ([]store.Series, error) {
	all, err := w.totals(ctx, q, w.c.top)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(s store.Series) bool {
		rest := s.Labels.Get(restLabel) != ""
		if rest {
			w.out.left++
		}
		return rest
	}), nil
}

// total records what the selection adds up to, in base units.
func (w *window) total(ctx context.Context) error {
	q := w.q
	q.Focus = w.c.focus
	all, err := w.sums(ctx, q)
	if err != nil || len(all) == 0 {
		return err
	}
	scale, err := w.scale(ctx)
	if err != nil {
		return err
	}
	for _, s := range all {
		w.add(s.Labels, s.Total*scale)
	}
	return nil
}

// scale returns by what a total is multiplied to be in base units, and per second where it is an interval's.
func (w *window) scale(ctx context.Context) (float64, error) {
	scale := 1.0
	if w.q.Type.Kind() == profiles.Interval {
		scale = 1 / w.c.every.Seconds()
	}
	infos, err := w.p.Types(ctx, w.q)
	if err != nil {
		return 0, err
	}
	for _, t := range infos {
		if t.Profile == w.q.Type.Profile && t.Sample == w.q.Type.Sample {
			switch t.Unit {
			case "nanoseconds":
				return scale * 1e-9, nil
			case "microseconds":
				return scale * 1e-6, nil
			case "milliseconds":
				return scale * 1e-3, nil
			}
		}
	}
	return scale, nil
}

// share records the share of the function's stacks in each group's total.
func (w *window) share(ctx context.Context) error {
	all, err := w.sums(ctx, w.q)
	if err != nil || len(all) == 0 {
		return err
	}
	q := w.q
	q.Focus = w.c.focus
	// All groups, not the top: those with the largest totals need not have the largest parts.
	parts, err := w.totals(ctx, q, 0)
	if err != nil {
		return err
	}
	part := make(map[string]float64, len(parts))
	for _, s := range parts {
		part[s.Labels.String()] = s.Total
	}
	for _, s := range all {
		if s.Total != 0 {
			w.add(s.Labels, part[s.Labels.String()]/s.Total)
		}
	}
	return nil
}

// place is where goroutines are: the function that waits and the one that they began with.
type place struct{ function, root string }

// goroutines records for each group how many goroutines are where, the most first.
func (w *window) goroutines(ctx context.Context) error {
	groups, err := w.sums(ctx, w.q)
	if err != nil {
		return err
	}
	type counted struct {
		labels labels.Labels
		n      int64
	}
	var all []counted
	for _, g := range groups {
		q := w.q
		q.Matchers = slices.Clone(q.Matchers)
		for _, name := range w.c.by {
			q.Matchers = append(q.Matchers, labels.MustNewMatcher(labels.MatchEqual, name, g.Labels.Get(name)))
		}
		stacks, err := w.p.Merge(ctx, q)
		if err != nil {
			return err
		}
		for at, n := range places(stacks) {
			ls := labels.NewBuilder(g.Labels).Set("function", at.function).Set("root", at.root).Labels()
			all = append(all, counted{ls, n})
		}
	}
	slices.SortFunc(all, func(a, b counted) int { return cmp.Or(cmp.Compare(b.n, a.n), labels.Compare(a.labels, b.labels)) })
	if n := len(all) - w.c.top; n > 0 {
		all, w.out.left = all[:w.c.top], w.out.left+n
	}
	for _, c := range all {
		w.add(c.labels, float64(c.n))
	}
	return nil
}

// places counts goroutines by where they are.
func places(s *profiles.Stacks) map[place]int64 {
	out := map[place]int64{}
	sym := s.Symbols
	for i, id := range s.IDs {
		var at place
		own := false // at.function is one that is not the runtime's
		for n := sym.Stacks[id].Node; n != 0; n = sym.Nodes[n].Parent {
			loc := &sym.Locations[sym.Nodes[n].Location]
			for _, line := range sym.Lines[loc.Lines.Lo:loc.Lines.Hi] {
				name := sym.Strings[sym.Functions[line.Function].Name]
				if name == "" || name == "runtime.goexit" || name == "runtime.main" && at.root != "" {
					continue
				}
				at.root = name
				if !own {
					at.function, own = name, !waits(name)
				}
			}
		}
		out[at] += s.Values[i]
	}
	return out
}

// waits reports whether a function is one of those in which goroutines of all kinds wait, so that the one that called it says more.
func waits(name string) bool {
	for _, prefix := range []string{"runtime.", "runtime/", "internal/", "sync.", "syscall.", "time.Sleep"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// silent records for each service for how long nothing came.
func (w *window) silent(ctx context.Context) error {
	services, err := w.p.Services(ctx, w.q.To-lookback.Milliseconds(), w.q.To+time.Hour.Milliseconds())
	if err != nil {
		return err
	}
	slices.SortStableFunc(services, func(a, b store.ServiceInfo) int { return cmp.Compare(a.MaxEnd, b.MaxEnd) })
	for _, s := range services {
		if slices.ContainsFunc(w.c.matchers, func(m *labels.Matcher) bool { return !m.Matches(s.Name) }) {
			continue
		}
		if len(w.out.samples) == w.c.top {
			w.out.left++
			continue
		}
		w.add(labels.FromStrings(serviceLabel, s.Name), max(0, float64(w.q.To-s.MaxEnd)/1000))
	}
	return nil
}
