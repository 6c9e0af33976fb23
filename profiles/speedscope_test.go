package profiles

import (
	"bytes"
	"encoding/json"
	"maps"
	"strings"
	"testing"
)

func TestSpeedscope(t *testing.T) {
	var b bytes.Buffer
	if err := WriteSpeedscope(&b, testStacks("cpu", before)); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := json.Indent(&out, b.Bytes(), "", " "); err != nil {
		t.Fatal(err)
	}
	golden(t, "speedscope.json", out.Bytes())
}

// TestSpeedscopeHoldsWhatFoldedDoes reads both exports of real profiles back and compares stacks and values; on the way it checks what the schema asks for.
func TestSpeedscopeHoldsWhatFoldedDoes(t *testing.T) {
	files, data := readCorpus(t, 20)
	for i, in := range data {
		p, err := Parse(in, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		column := p.Columns() - 1
		b := NewBuilder(Type{Profile: files[i].Type, Sample: p.SampleTypes[column].Type}, 0, 1000)
		if err := b.Add(p, column, 1000); err != nil {
			t.Fatal(err)
		}
		s := b.Stacks()
		var folded, scope bytes.Buffer
		if err := WriteFolded(&folded, s); err != nil {
			t.Fatal(err)
		}
		if err := WriteSpeedscope(&scope, s); err != nil {
			t.Fatal(err)
		}
		want := map[string]int64{}
		for line := range strings.Lines(folded.String()) {
			at := strings.LastIndexByte(line, ' ')
			var v int64
			if err := json.Unmarshal([]byte(line[at+1:]), &v); err != nil {
				t.Fatal(err)
			}
			want[line[:at]] += v
		}
		var f speedscopeFile
		dec := json.NewDecoder(&scope)
		dec.DisallowUnknownFields()
		if err := dec.Decode(&f); err != nil {
			t.Fatal(err)
		}
		got, sum := map[string]int64{}, int64(0)
		one := f.Profiles[0]
		if len(f.Profiles) != 1 || one.Type != "sampled" || len(one.Samples) != len(one.Weights) || one.StartValue != 0 {
			t.Fatalf("%s: %d profiles, %s of %d samples and %d weights", files[i].Path, len(f.Profiles), one.Type, len(one.Samples), len(one.Weights))
		}
		for j, sample := range one.Samples {
			var frames []string
			for _, k := range sample {
				frames = append(frames, foldedName.Replace(f.Shared.Frames[k].Name))
			}
			got[strings.Join(frames, ";")] += one.Weights[j]
			sum += one.Weights[j]
		}
		if !maps.Equal(got, want) || sum != one.EndValue || sum != s.Total() {
			t.Errorf("%s: %d stacks of %d in all differ from the %d of folded", files[i].Path, len(got), sum, len(want))
		}
	}
}

func TestSpeedscopeOfNothing(t *testing.T) {
	var b bytes.Buffer
	if err := WriteSpeedscope(&b, &Stacks{Type: Type{Profile: "goroutine", Sample: "goroutine", Unit: "count"}}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"frames":[]`, `"samples":[]`, `"weights":[]`, `"unit":"none"`} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %s in %s", want, b.String())
		}
	}
}
