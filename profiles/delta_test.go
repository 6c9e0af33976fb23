package profiles

import (
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/google/pprof/profile"
)

var heapTypes = []ValueType{{"alloc_objects", "count"}, {"alloc_space", "bytes"}, {"inuse_objects", "count"}, {"inuse_space", "bytes"}}

// rows returns the values of p's samples by leaf function.
func rows(p *Profile) map[string][4]int64 {
	out := map[string][4]int64{}
	for i, s := range p.Samples {
		l := p.Locations[p.LocationIDs[s.Locations.Lo]]
		out[p.Functions[p.Lines[l.Lines.Lo].Function].Name] = [4]int64(p.Row(i))
	}
	return out
}

func TestDeltaSubtractsCumulativeColumnsAndKeepsGauges(t *testing.T) {
	d := NewDelta("heap")
	capture := func(seconds int64, stacks map[string][]int64) (*Profile, error) {
		p := testProfile(heapTypes, stacks)
		p.TimeNanos = seconds * 1e9
		return d.Next(p)
	}
	if p, err := capture(100, map[string][]int64{"main.a": {1, 10, 1, 10}, "main.b": {2, 20, 0, 0}, "main.c": {5, 50, 5, 50}}); p != nil || err != nil {
		t.Fatalf("the baseline gave %v, %v", p, err)
	}
	p, err := capture(115, map[string][]int64{"main.a": {4, 40, 2, 20}, "main.b": {2, 20, 0, 0}, "main.c": {5, 50, 5, 50}, "main.d": {7, 70, 0, 0}})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][4]int64{"main.a": {3, 30, 2, 20}, "main.c": {0, 0, 5, 50}, "main.d": {7, 70, 0, 0}} // main.b: nothing new, nothing alive
	if got := rows(p); !maps.Equal(got, want) {
		t.Errorf("the interval is %v, want %v", got, want)
	}
	if p.DurationNanos != 15e9 || p.TimeNanos != 115e9 {
		t.Errorf("time %d, duration %d", p.TimeNanos, p.DurationNanos)
	}
	p, err = capture(130, map[string][]int64{"main.a": {4, 40, 0, 0}, "main.b": {3, 30, 1, 10}, "main.c": {5, 50, 0, 0}, "main.d": {7, 70, 0, 0}})
	if got := rows(p); err != nil || !maps.Equal(got, map[string][4]int64{"main.b": {1, 10, 1, 10}}) {
		t.Errorf("the second interval is %v, %v", got, err)
	}
}

func TestDeltaResets(t *testing.T) {
	base := func() *Profile {
		p := testProfile(heapTypes, map[string][]int64{"main.a": {4, 40, 1, 10}, "main.b": {2, 20, 0, 0}, "main.z": {0, 0, 0, 0}})
		p.Period = 512 << 10
		return p
	}
	for name, change := range map[string]func(p *Profile) *Profile{
		"a value went from 4 to 3": func(p *Profile) *Profile { p.Values[0] = 3; return p },
		"1 of 3 stacks are gone":   func(p *Profile) *Profile { p.Samples, p.Values = p.Samples[1:], p.Values[4:]; return p },
		"stacks are gone":          func(p *Profile) *Profile { p.Mappings[0].BuildID = "b2"; return p },
		"the sampling period":      func(p *Profile) *Profile { p.Period = 1; return p },
		"the sample types":         func(p *Profile) *Profile { p.SampleTypes[1].Unit = "objects"; return p },
	} {
		d := NewDelta("heap")
		if _, err := d.Next(base()); err != nil {
			t.Fatal(err)
		}
		out, err := d.Next(change(base()))
		if out != nil || !errors.Is(err, ErrReset) || !strings.Contains(err.Error(), strings.TrimPrefix(name, "a value ")) {
			t.Errorf("%s: %v, %v", name, out, err)
		}
		// The capture that did not continue is the next one's baseline.
		next := change(base())
		next.Values[1] += 5
		if out, err := d.Next(next); err != nil || len(out.Samples) == 0 || out.Values[1] != 5 {
			t.Errorf("%s: after it: %+v, %v", name, out, err)
		}
	}
	// A stack that never counted anything may vanish.
	d := NewDelta("heap")
	d.Next(base())
	p := base()
	p.Samples, p.Values = p.Samples[:2], p.Values[:8]
	if _, err := d.Next(p); err != nil {
		t.Errorf("an empty stack vanished: %v", err)
	}
}

func TestDeltaTellsStacksApartByLabels(t *testing.T) {
	size := func(values map[int64]int64) *Profile {
		p := testProfile(heapTypes, nil)
		p.Locations = []Location{{Address: 7}}
		for bytes, v := range values {
			p.Samples = append(p.Samples, Sample{Locations: Span{0, 1}, Labels: Span{uint32(len(p.Labels)), uint32(len(p.Labels) + 1)}})
			p.Labels = append(p.Labels, SampleLabel{Key: "bytes", Num: bytes, Unit: "bytes", Numeric: true})
			p.Values = append(p.Values, v, 0, 0, 0)
		}
		p.LocationIDs = []uint32{0}
		return p
	}
	d := NewDelta("heap")
	d.Next(size(map[int64]int64{16: 5, 32: 9}))
	p, err := d.Next(size(map[int64]int64{32: 10, 16: 7}))
	if err != nil {
		t.Fatal(err)
	}
	got := map[int64]int64{}
	for i, s := range p.Samples {
		got[p.Labels[s.Labels.Lo].Num] = p.Row(i)[0]
	}
	if !maps.Equal(got, map[int64]int64{16: 2, 32: 1}) {
		t.Errorf("%v", got)
	}
}

func TestDeltaPassesGaugesThrough(t *testing.T) {
	p := testProfile([]ValueType{{"goroutine", "count"}}, map[string][]int64{"main.a": {3}})
	if out, err := NewDelta("goroutine").Next(p); out != p || err != nil {
		t.Errorf("%v, %v", out, err)
	}
}

// TestDeltasOfTheCorpusAddUp: over all captures of a process, the sum of the intervals is the last capture minus the first.
func TestDeltasOfTheCorpusAddUp(t *testing.T) {
	files, data := readCorpus(t, 1)
	series := map[string][]int{}
	for i, f := range files {
		if KindOf(f.Type, "alloc_space") == Interval && f.Type != "cpu" && f.Type != "goroutine" {
			series[f.Service+"/"+f.Type] = append(series[f.Service+"/"+f.Type], i)
		}
	}
	for name, captures := range series {
		_, typ, _ := strings.Cut(name, "/")
		d := NewDelta(typ)
		var dec Decoder
		var got [4]int64
		for k, i := range captures {
			p, err := dec.Decode(data[i], Limits{})
			if err != nil {
				t.Fatal(err)
			}
			out, err := d.Next(p)
			if err != nil {
				t.Errorf("%s: capture %d: %v", name, k, err)
			}
			if out == nil {
				continue
			}
			for s := range out.Samples {
				for c, v := range out.Row(s) {
					if v < 0 {
						t.Fatalf("%s: capture %d: a value of %d", name, k, v)
					}
					if KindOf(typ, out.SampleTypes[c].Type) == Interval {
						got[c] += v
					}
				}
			}
		}
		first, last := googleTotals(t, data[captures[0]]), googleTotals(t, data[captures[len(captures)-1]])
		for c := range got {
			if want := last[c] - first[c]; typ != "heap" && typ != "allocs" || c < 2 {
				if got[c] != want {
					t.Errorf("%s: column %d adds up to %d, want %d", name, c, got[c], want)
				}
			}
		}
	}
}

func googleTotals(t *testing.T, data []byte) (sum [4]int64) {
	t.Helper()
	p, err := profile.ParseData(data)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range p.Sample {
		for c, v := range s.Value {
			sum[c] += v
		}
	}
	return sum
}
