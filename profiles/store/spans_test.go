package store

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/profiles"
)

// withSpan gives sample i of p span labels beside those that it has.
func withSpan(p *profiles.Profile, spans map[int]spanSet) *profiles.Profile {
	var ls []profiles.SampleLabel
	for i := range p.Samples {
		s := &p.Samples[i]
		own := p.Labels[s.Labels.Lo:s.Labels.Hi]
		lo := uint32(len(ls))
		if set, ok := spans[i]; ok && set.span != "" {
			ls = append(ls, profiles.SampleLabel{Key: spanLabel, Str: set.span})
		}
		ls = append(ls, own...)
		if set, ok := spans[i]; ok && set.trace != "" {
			ls = append(ls, profiles.SampleLabel{Key: traceLabel, Str: set.trace})
		}
		s.Labels = profiles.Span{Lo: lo, Hi: uint32(len(ls))}
	}
	p.Labels = ls
	return p
}

// storedSpans returns all span rows, as texts.
func (e *env) storedSpans() (out []string) {
	for _, b := range e.blobs() {
		f, err := openFile(e.t.Context(), e.cfg.Blobs, b.Blob, nil)
		must(e.t, err)
		defer f.close()
		for _, info := range b.Datasets {
			ds, err := f.dataset(info.Service)
			must(e.t, err)
			syms, err := f.loadSymbols(ds)
			must(e.t, err)
			sets, err := f.readSpanSets(ds)
			must(e.t, err)
			for i := range ds.series {
				si := &ds.series[i]
				heads, err := f.readHeads(e.t.Context(), []selected{{info: si}}, false)
				must(e.t, err)
				first := 0
				for j := range si.chunks {
					c := &si.chunks[j]
					r, err := f.readSpans(c, len(si.Columns), len(syms.Stacks), len(sets))
					must(e.t, err)
					if r == nil {
						first += c.profiles
						continue
					}
					for k := range r.profile {
						set, values := sets[r.set[k]], []int64{}
						for _, v := range r.values {
							values = append(values, v[k])
						}
						out = append(out, fmt.Sprint(heads[0].start[first+int(r.profile[k])]-epoch, " ", stackText(syms, r.stack[k]), " ", set.span, " ", set.trace, " ", values))
					}
					first += c.profiles
				}
			}
		}
	}
	slices.Sort(out)
	return out
}

// TestSpans pushes samples with span labels: they are one stack whatever their spans, and what each span took is there before and after compaction.
func TestSpans(t *testing.T) {
	e := newEnv(t, nil)
	ls := labels.FromStrings(serviceLabel, "cart", "service_instance_id", "a")
	var want []string
	for i := range 40 {
		start := epoch + int64(i)*1_000
		samples := []sample{
			{stack: []string{"a", "main"}, values: []int64{1, 10}}, {stack: []string{"a", "main"}, values: []int64{2, 20}}, {stack: []string{"a", "main"}, values: []int64{4, 40}},
			{stack: []string{"b", "main"}, label: "job1", values: []int64{8, 80}}, {stack: []string{"b", "main"}, values: []int64{16, 160}}, {stack: []string{"c"}, values: []int64{0, 0}},
		}
		span, trace := fmt.Sprintf("%016x", i), fmt.Sprintf("%032x", i/2+1)
		spans := map[int]spanSet{0: {span, trace}, 1: {span, trace}, 2: {"Not hex", trace}, 3: {"", trace}, 5: {span, trace}}
		data := withSpan(profileOf(cpuTypes, 10, samples), spans)
		before := slices.Clone(data.Labels)
		must(t, e.store.Append(t.Context(), Push{Profiles: []Profile{{Labels: ls, Type: "cpu", Start: start, End: start + 1_000, Data: data}}}))
		if !slices.Equal(before, data.Labels) {
			t.Fatal("the profile that was pushed was changed")
		}
		at := start - epoch
		want = append(want, fmt.Sprint(at, " a;main| ", span, " ", trace, " [3 30]"), fmt.Sprint(at, " a;main| Not hex ", trace, " [4 40]"), fmt.Sprint(at, " b;main|job1  ", trace, " [8 80]"))
		if i == 20 {
			must(t, e.store.Compact(t.Context(), true))
		}
	}
	slices.Sort(want)
	for _, when := range []string{"before", "after"} {
		if got := e.storedSpans(); !slices.Equal(got, want) {
			t.Errorf("%s compaction the spans are\n%s\nwant\n%s", when, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		cpu := profiles.Type{Profile: "cpu", Sample: "cpu"}
		r, err := e.store.Merge(t.Context(), Query{Type: cpu, From: epoch, To: epoch + 3_600_000})
		must(t, err)
		if got := byStack(t, r); len(got) != 3 || got["a;main|"] != 40*70 || got["b;main|job1"] != 40*80 || got["b;main|"] != 40*160 {
			t.Errorf("%s compaction the merge is %v", when, got)
		}
		e.check()
		must(t, e.store.Compact(t.Context(), true))
	}
}

// TestSpanSets reads back ids of all forms.
func TestSpanSets(t *testing.T) {
	var table spanTable
	table.reset()
	for _, set := range []spanSet{{"0123456789abcdef", ""}, {"0123456789abcdef", "00112233445566778899aabbccddeeff"}, {"0123456789ABCDEF", "00112233445566778899aabbccddeeff"},
		{"", "x"}, {"0123", "y"}, {"", "0123456789abcdef"}, {"00112233445566778899aabbccddeeff", ""}} {
		table.id(set)
	}
	got, err := decodeSpanSets(table.bytes())
	must(t, err)
	if !slices.Equal(got, table.sets) {
		t.Errorf("got %q, want %q", got, table.sets)
	}
}
