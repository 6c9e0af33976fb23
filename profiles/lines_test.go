package profiles

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"testing"

	"github.com/google/pprof/profile"
)

// googleFrame names one frame of google/pprof's as frames says.
func googleFrame(l *profile.Location, i int, frames Frames) string {
	place := ""
	if m := l.Mapping; m != nil {
		offset := l.Address
		if offset >= m.Start && offset < m.Limit {
			offset = offset - m.Start + m.Offset
		}
		place = fmt.Sprintf("[%s@%.8s+0x%x]", path.Base(m.File), m.BuildID, offset)
		if m.BuildID == "" {
			place = fmt.Sprintf("[%s+0x%x]", path.Base(m.File), offset)
		}
		if len(l.Line) == 0 {
			return fmt.Sprintf("[%s+0x%x]", path.Base(m.File), offset)
		}
	}
	name := l.Line[i].Function.Name
	switch {
	case frames == FramesAddress && l.Address != 0:
		return name + " " + place
	case frames == FramesLine && l.Line[i].Line > 0:
		return fmt.Sprintf("%s:%d", name, l.Line[i].Line)
	}
	return name
}

// TestFramesAgreeWithGooglePprof adds up real profiles by line and by address, naively from google/pprof's reading of them, and compares self and total of every frame.
func TestFramesAgreeWithGooglePprof(t *testing.T) {
	files, data := readCorpus(t, 90)
	for i, in := range data {
		p, err := Parse(in, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		ref, err := profile.ParseData(in)
		if err != nil {
			t.Fatal(err)
		}
		column := p.Columns() - 1
		b := NewBuilder(Type{Profile: files[i].Type, Sample: p.SampleTypes[column].Type}, 0, 1000)
		if err := b.Add(p, column, 1000); err != nil {
			t.Fatal(err)
		}
		for _, frames := range []Frames{FramesFunction, FramesLine, FramesAddress} {
			self, total := map[string]int64{}, map[string]int64{}
			for _, s := range ref.Sample {
				var stack []string // leaf first
				for _, l := range s.Location {
					for k := range max(len(l.Line), 1) {
						stack = append(stack, googleFrame(l, k, frames))
					}
				}
				if len(stack) == 0 || s.Value[column] == 0 {
					continue
				}
				self[stack[0]] += s.Value[column]
				slices.Sort(stack)
				for _, f := range slices.Compact(stack) {
					total[f] += s.Value[column]
				}
			}
			gotSelf, gotTotal := map[string]int64{}, map[string]int64{}
			for _, row := range NewTop(b.Stacks(), nil, TopOptions{Limit: -1, Frames: frames}).Rows {
				gotSelf[row.Function], gotTotal[row.Function] = row.Self, row.Total
			}
			maps.DeleteFunc(gotSelf, func(_ string, v int64) bool { return v == 0 })
			maps.DeleteFunc(self, func(_ string, v int64) bool { return v == 0 })
			if !maps.Equal(self, gotSelf) || !maps.Equal(total, gotTotal) {
				t.Errorf("%s by %s: %d frames differ from the %d of google/pprof", files[i].Path, frames, len(gotTotal), len(total))
			}
			if err := checkFlame(NewFlame(b.Stacks(), nil, FlameOptions{MaxNodes: 300, Frames: frames}), 300); err != nil {
				t.Errorf("%s by %s: %v", files[i].Path, frames, err)
			}
		}
	}
}

func TestFlameByLine(t *testing.T) {
	goldenJSON(t, "flame_lines.json", NewFlame(testStacks("cpu", before), nil, FlameOptions{Frames: FramesLine, OwnModule: "shop.example/cart"}))
}

// TestDiffByAddress compares two builds: equal places of different builds are different code.
func TestDiffByAddress(t *testing.T) {
	base := testStacks("cpu", before)
	other := testStacks("cpu", before)
	other.Symbols.Strings[slices.Index(other.Symbols.Strings, "b1")] = "b2"
	for frames, want := range map[Frames]bool{FramesFunction: true, FramesLine: true, FramesAddress: false} {
		top := NewTop(other, base, TopOptions{Limit: -1, Frames: frames})
		if *top.BaseTotal != top.Total {
			t.Errorf("by %s: totals %d and %d", frames, top.Total, *top.BaseTotal)
		}
		for _, row := range top.Rows {
			if row.Function == "[app+0x10]" {
				continue // without symbols; its build is beside it
			}
			if met := *row.BaseTotal == row.Total; met != want {
				t.Errorf("by %s: %s has %d and %d", frames, row.Function, row.Total, *row.BaseTotal)
			}
		}
	}
}

func TestFunctionOf(t *testing.T) {
	for frame, want := range map[string]string{
		"main.work:12": "main.work", "main.work": "main.work", "main.work [cart@3f2a1b9c+0x10]": "main.work", "[cart+0x10]": "[cart+0x10]",
		"type:.eq.main.T": "type:.eq.main.T", "main.F[go.shape.int]:7": "main.F[go.shape.int]", "a:": "a:", ":7": ":7", "memeqbody:34": "memeqbody",
	} {
		if got := functionOf(frame); got != want {
			t.Errorf("%s: %s, want %s", frame, got, want)
		}
	}
	for _, frame := range []string{"memeqbody:34", "memeqbody [cart+0x10]", "runtime.mallocgc:100"} {
		if got := FunctionKind(frame, nil); got != KindRuntime {
			t.Errorf("%s is %s", frame, got)
		}
	}
}

func TestParseFrames(t *testing.T) {
	for _, f := range []Frames{FramesFunction, FramesLine, FramesAddress} {
		if got, err := ParseFrames(string(f)); err != nil || got != f {
			t.Errorf("%s: %s, %v", f, got, err)
		}
	}
	if _, err := ParseFrames("file"); err == nil {
		t.Error("file is none")
	}
}
