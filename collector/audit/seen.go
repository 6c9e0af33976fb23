package audit

import (
	"context"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/profiles"
	"github.com/sonde-io/sonde/profiles/store"
	"github.com/sonde-io/sonde/symbols/vulns"
)

// seenKey is a vulnerable function in a service.
type seenKey struct{ symbol, service string }

// look asks the profiles of every service which vulnerable functions of its builds ran.
func (a *Auditor) look(ctx context.Context, f *fleet, r *Report) error {
	for service := range f.services {
		var builds []*ran
		var functions vulns.Functions
		for _, b := range f.builds {
			if len(b.findings) > 0 && slices.Contains(b.services, service) {
				builds = append(builds, b)
				for i := range b.findings {
					functions.Add(&b.findings[i])
				}
			}
		}
		if functions.Len() == 0 {
			continue
		}
		if err := a.lookIn(ctx, f, r, service, builds, &functions); err != nil {
			return err
		}
	}
	slices.Sort(r.Types)
	return nil
}

// lookIn asks the profiles of one service.
func (a *Auditor) lookIn(ctx context.Context, f *fleet, r *Report, service string, builds []*ran, functions *vulns.Functions) error {
	m, err := labels.NewMatcher(labels.MatchEqual, "service_name", service)
	if err != nil {
		return err
	}
	q := store.Query{Matchers: []*labels.Matcher{m}, From: r.From, To: r.To}
	types, err := a.cfg.Profiles.Types(ctx, q)
	if err != nil {
		return err
	}
	var mains []string
	for _, b := range builds {
		if !slices.Contains(mains, b.content.Main) {
			mains = append(mains, b.content.Main)
		}
	}
	names := map[int]string{} // as profiles have them; of those that the compiler made of one function its own is the shortest
	match := func(name string) (ids []int) {
		for _, main := range mains {
			ids = functions.Match(ids, name, main)
		}
		for _, id := range ids {
			if have, ok := names[id]; !ok || len(name) < len(have) {
				names[id] = name
			}
		}
		return ids
	}
	for _, t := range columns(types) {
		q.Type = t
		seen, err := a.cfg.Profiles.SeenFunctions(ctx, store.FunctionsQuery{Query: q, Match: match, By: "service_instance_id"})
		if err != nil {
			return err
		}
		if !slices.Contains(r.Types, t.Profile) {
			r.Types = append(r.Types, t.Profile)
		}
		counted := map[*Seen]int{}
		for _, s := range seen {
			b := f.buildOf[s.By]
			if b == nil && s.By == "" && len(builds) == 1 {
				b = builds[0] // a sender that names no instances
			}
			if b == nil {
				continue
			}
			counted[b.saw(seenKey{functions.Name(s.Function), service}, names[s.Function], t.Profile, s)]++
		}
		for s, n := range counted {
			s.Instances = max(s.Instances, n) // the same ones, more or less, show in several types
		}
	}
	return nil
}

// saw notes that processes of b ran a function.
func (b *ran) saw(key seenKey, function, typ string, s store.SeenFunction) *Seen {
	known := b.seen[key]
	if known == nil {
		known = &Seen{Function: function, Symbol: key.symbol, Service: key.service, First: s.First, Last: s.Last}
		b.seen[key] = known
	}
	known.First, known.Last = min(known.First, s.First), max(known.Last, s.Last)
	if !slices.Contains(known.Types, typ) {
		known.Types = append(known.Types, typ)
		slices.Sort(known.Types)
	}
	return known
}

// columns picks of each type of profile the column that shows most functions: of heap what was allocated, of others the main one.
func columns(types []store.TypeInfo) []profiles.Type {
	best := map[string]profiles.Type{}
	for _, t := range types {
		have, ok := best[t.Profile]
		if !ok || t.IsDefault() && have.Sample != "alloc_space" || t.Sample == "alloc_space" {
			best[t.Profile] = t.Type
		}
	}
	var out []profiles.Type
	for _, t := range best {
		out = append(out, t)
	}
	slices.SortFunc(out, func(x, y profiles.Type) int { return strings.Compare(x.Profile, y.Profile) })
	return out
}
