package store

import (
	"math"
	"testing"

	"github.com/google/pprof/profile"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/profiles"
)

// functionTotals are values by function: where it is the leaf, and where it is anywhere on the stack.
type functionTotals struct{ self, total map[string]float64 }

func newTotals() *functionTotals {
	return &functionTotals{map[string]float64{}, map[string]float64{}}
}

// add takes a stack's functions, innermost first.
func (f *functionTotals) add(names []string, v float64) {
	seen := map[string]bool{}
	for i, name := range names {
		if i == 0 {
			f.self[name] += v
		}
		if !seen[name] {
			seen[name] = true
			f.total[name] += v
		}
	}
}

// parseReference returns one corpus file as google/pprof reads it: for each column the totals by function.
func parseReference(t *testing.T, data []byte) map[string]*functionTotals {
	p, err := profile.ParseData(data)
	must(t, err)
	out := map[string]*functionTotals{}
	for c, st := range p.SampleType {
		f := newTotals()
		for _, s := range p.Sample {
			var names []string
			for _, l := range s.Location {
				for _, line := range l.Line {
					names = append(names, line.Function.Name)
				}
			}
			f.add(names, float64(s.Value[c]))
		}
		out[st.Type] = f
	}
	return out
}

// TestCorpusFleet sends the corpus as a fleet of 42 instances over 20 minutes, each file taken as one interval of a minute, and compares each function's
// totals with those that google/pprof gives: intervals to the unit, gauges within half a unit for each stack of the answer, because each stack's mean is rounded.
func TestCorpusFleet(t *testing.T) {
	c := loadCorpus(t)
	f := &fleet{c, 42, 20, 60_000, 0}
	if testing.Short() {
		f.instances, f.windows = 14, 10
	}
	e := newEnv(t, nil)
	f.send(t, e.store, func(w int) {
		_, end := f.times(0, w)
		e.clock.set(end)
		if w%5 == 4 {
			must(t, e.store.Compact(t.Context(), false))
		}
	})
	from, to := epoch, epoch+int64(f.windows+1)*f.period
	f.compare(t, e.store, from, to) // segments and blocks mixed
	_, end := f.times(f.instances-1, f.windows)
	settle(t, e, end)
	f.compare(t, e.store, from, to)
	e.check()
}

func (f *fleet) compare(t *testing.T, s *Store, from, to int64) {
	t.Helper()
	for _, service := range f.services {
		for _, typ := range f.types[service] {
			var files []map[string]*functionTotals
			for _, data := range f.data[service][typ] {
				files = append(files, parseReference(t, data))
			}
			sent := make([]int, len(files))
			for i := range f.instances {
				if f.service(i) == service {
					for w := range f.windows {
						sent[f.file(i, w, typ)]++
					}
				}
			}
			for column := range files[0] {
				want := newTotals()
				weight := 1.0
				ty := profiles.Type{Profile: typ, Sample: column}
				if ty.Kind() == profiles.Gauge {
					weight = float64(f.period) / float64(to-from)
				}
				for i, file := range files {
					for name, v := range file[column].self {
						want.self[name] += v * float64(sent[i]) * weight
					}
					for name, v := range file[column].total {
						want.total[name] += v * float64(sent[i]) * weight
					}
				}
				compareTotals(t, s, service, ty, from, to, want)
			}
		}
	}
}

func compareTotals(t *testing.T, s *Store, service string, typ profiles.Type, from, to int64, want *functionTotals) {
	t.Helper()
	r, err := s.Merge(t.Context(), Query{Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "service_name", service)}, Type: typ, From: from, To: to})
	must(t, err)
	got := newTotals()
	y := r.Symbols
	for i, id := range r.IDs {
		var names []string
		for n := y.Stacks[id].Node; n != 0; n = y.Nodes[n].Parent {
			l := y.Locations[y.Nodes[n].Location]
			for _, line := range y.Lines[l.Lines.Lo:l.Lines.Hi] {
				names = append(names, y.Strings[y.Functions[line.Function].Name])
			}
		}
		got.add(names, float64(r.Values[i]))
	}
	slack := 0.0
	if typ.Kind() == profiles.Gauge {
		slack = 0.5 * float64(len(y.Stacks))
	}
	for _, side := range []struct {
		name      string
		got, want map[string]float64
	}{{"self", got.self, want.self}, {"total", got.total, want.total}} {
		for name := range side.got {
			if side.want[name] == 0 {
				t.Errorf("%s %s: %s of %s is %f, want 0", service, typ, side.name, name, side.got[name])
			}
		}
		for name, w := range side.want {
			if d := math.Abs(side.got[name] - w); d > slack+w*1e-12 {
				t.Errorf("%s %s: %s of %s is %f, want %f within %f", service, typ, side.name, name, side.got[name], w, slack)
			}
		}
	}
}
