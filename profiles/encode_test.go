package profiles

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/pprof/profile"
)

func TestWriteProfileRoundTripsTheCorpus(t *testing.T) {
	files, data := readCorpus(t, 5)
	for i, b := range data {
		p, err := Parse(b, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		ref, err := profile.ParseUncompressed(AppendProfile(nil, p))
		if err == nil {
			err = ref.CheckValid()
		}
		if err != nil {
			t.Fatalf("%s: google/pprof refuses it: %v", files[i].Path, err)
		}
		if diff := diffGoogle(p, ref); diff != "" {
			t.Errorf("%s: %s", files[i].Path, diff)
		}
	}
}

// googleStack writes a sample as text, with all that pprof keeps of it.
func googleStack(s *profile.Sample) string {
	var b strings.Builder
	for _, l := range s.Location {
		fmt.Fprintf(&b, "%#x", l.Address)
		if m := l.Mapping; m != nil {
			fmt.Fprintf(&b, " [%s %s %x %x %x]", m.File, m.BuildID, m.Start, m.Limit, m.Offset)
		}
		for _, ln := range l.Line {
			fmt.Fprintf(&b, " %s %s %d:%d", ln.Function.Name, ln.Function.Filename, ln.Function.StartLine, ln.Line)
		}
		b.WriteByte('\n')
	}
	for _, k := range slices.Sorted(maps.Keys(s.Label)) {
		fmt.Fprintf(&b, "%s=%s\n", k, slices.Sorted(slices.Values(s.Label[k])))
	}
	for _, k := range slices.Sorted(maps.Keys(s.NumLabel)) {
		fmt.Fprintf(&b, "%s=%d%s\n", k, s.NumLabel[k], s.NumUnit[k])
	}
	return b.String()
}

// TestMergeAndWritePprofAgreeWithGooglePprof merges every file of one service and type, writes the result, and compares the sum of every stack with what
// google/pprof adds up of the same files.
func TestMergeAndWritePprofAgreeWithGooglePprof(t *testing.T) {
	files, data := readCorpus(t, 3)
	groups := map[string][][]byte{}
	for i, f := range files {
		if !strings.HasSuffix(f.Type, "goroutine") { // its gauge is tested with time
			groups[f.Service+"/"+f.Type] = append(groups[f.Service+"/"+f.Type], data[i])
		}
	}
	for name, inputs := range groups {
		_, profileType, _ := strings.Cut(name, "/")
		var parsed []*Profile
		want := []map[string]int64{{}, {}, {}, {}} // by column
		for _, in := range inputs {
			p, err := Parse(in, Limits{})
			if err != nil {
				t.Fatal(err)
			}
			parsed = append(parsed, p)
			ref, err := profile.ParseData(in)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range ref.Sample {
				stack := googleStack(s)
				for column, v := range s.Value {
					want[column][stack] += v
				}
			}
		}
		for column, vt := range parsed[0].SampleTypes {
			b := NewBuilder(Type{Profile: profileType, Sample: vt.Type}, 1000, 2000)
			for _, p := range parsed {
				if err := b.Add(p, column, 1000); err != nil { // with the whole range as weight a gauge's mean is the sum of its captures
					t.Fatal(err)
				}
			}
			want := want[column]
			maps.DeleteFunc(want, func(_ string, v int64) bool { return v == 0 })
			got := map[string]int64{}
			ref, err := profile.ParseData(pprofBytes(t, b.Stacks()))
			if err != nil {
				t.Fatalf("%s %s: google/pprof refuses it: %v", name, vt.Type, err)
			}
			for _, s := range ref.Sample {
				got[googleStack(s)] += s.Value[0]
			}
			if !maps.Equal(got, want) {
				t.Errorf("%s %s: %d stacks differ from the %d of google/pprof", name, vt.Type, len(got), len(want))
			}
		}
	}
}

func pprofBytes(t *testing.T, s *Stacks) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := WritePprof(&b, s); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestWritePprofKeepsTheHead(t *testing.T) {
	s := testStacks("cpu", map[string]int64{"main.main;main.work": 30})
	s.Stats.Period = 10_000_000
	ref, err := profile.ParseData(pprofBytes(t, s))
	if err != nil {
		t.Fatal(err)
	}
	if ref.TimeNanos != 1_700_000_000_000_000_000 || ref.DurationNanos != 10_000_000_000 || ref.Period != 10_000_000 || *ref.PeriodType != (profile.ValueType{Type: "cpu", Unit: "nanoseconds"}) ||
		ref.DefaultSampleType != "cpu" || len(ref.Mapping) != 1 || ref.Mapping[0].BuildID != "b1" || !ref.Mapping[0].HasFunctions {
		t.Errorf("%+v", ref)
	}
	if empty, err := profile.ParseData(pprofBytes(t, &Stacks{Type: s.Type})); err != nil || len(empty.Sample) != 0 {
		t.Errorf("nothing at all: %v, %v", empty, err)
	}
}

func TestGoToolPprofReadsIt(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the go command")
	}
	file := filepath.Join(t.TempDir(), "cpu.pb.gz")
	s := testStacks("cpu", map[string]int64{"main.main;main.work+main.inlined": 2e9, "main.main;0x1": 1e9})
	if err := os.WriteFile(file, pprofBytes(t, s), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("go", "tool", "pprof", "-top", file).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"Type: cpu", "Duration: 10s, Total samples = 3s", "2s 66.67% 66.67%         2s 66.67%  main.inlined", "Build ID: b1"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("go tool pprof does not say %q:\n%s", want, out)
		}
	}
}

const pgoProgram = `package main

import "os"

//go:noinline
func hot(n int) int {
	s := 0
	for i := range n {
		s += step(i) + step(s)
	}
	return s
}

func step(i int) int {
	x := i
	for range 3 {
		switch x % 7 {
		case 0:
			x = x*3 + 1
		case 1:
			x = x ^ 0x55
		case 2:
			x = x<<1 | 1
		default:
			x = x>>1 + 7
		}
		if x > 1<<20 {
			x = x % 1000003
		}
		if x < 0 {
			x = -x
		}
		x += len(os.Args)
	}
	for _, a := range os.Args {
		switch len(a) % 5 {
		case 0:
			x += int(a[0]) * len(a)
		case 1:
			x -= int(a[len(a)-1]) + x%11
		case 2:
			x ^= len(a)<<3 | len(os.Args)
		default:
			x = x*5 + 3
		}
	}
	return x
}

func main() { println(hot(1000)) }
`

// TestTheCompilerUsesThePGOProfile builds a program with the written profile and looks whether the hot call was inlined, which it is not without.
func TestTheCompilerUsesThePGOProfile(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the go command")
	}
	dir := t.TempDir()
	for name, text := range map[string]string{"main.go": pgoProgram, "go.mod": "module pgo.test\n\ngo 1.24\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p := testProfile([]ValueType{{"cpu", "nanoseconds"}}, map[string][]int64{"main.main;main.hot;main.step": {9e9}, "main.main;main.hot": {1e9}, "0x1;main.step": {1e6}})
	starts, lines := map[string]int64{"main.main": 50, "main.hot": 6, "main.step": 14}, map[string]int64{"main.main": 50, "main.hot": 9, "main.step": 17}
	for i := range p.Functions {
		p.Functions[i].StartLine = starts[p.Functions[i].Name]
	}
	for i := range p.Lines {
		p.Lines[i].Line = lines[p.Functions[p.Lines[i].Function].Name]
	}
	b := NewBuilder(Type{Profile: "cpu", Sample: "cpu"}, 0, 10_000)
	if err := b.Add(p, 0, 10_000); err != nil {
		t.Fatal(err)
	}
	var pgo bytes.Buffer
	if err := WritePGO(&pgo, b.Stacks()); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "cpu.pgo")
	if err := os.WriteFile(file, pgo.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	ref, err := profile.ParseData(pgo.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if len(ref.Mapping) != 0 || ref.Location[0].Address != 0 || ref.Function[0].Filename != "" {
		t.Errorf("the profile holds what the compiler does not use: %v", ref)
	}
	build := func(pgo string) string {
		cmd := exec.Command("go", "build", "-pgo="+pgo, "-gcflags=-m", "-o", filepath.Join(dir, "out"), ".")
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("go build -pgo=%s: %v\n%s", pgo, err, out)
		}
		return string(out)
	}
	const inlined = "inlining call to step"
	if out := build("off"); strings.Contains(out, inlined) {
		t.Fatalf("step is inlined without a profile: the test proves nothing\n%s", out)
	}
	if out := build(file); !strings.Contains(out, inlined) {
		t.Errorf("step is not inlined with the profile\n%s", out)
	}
}

func TestWritePGORefusesOtherProfiles(t *testing.T) {
	for _, s := range []*Stacks{testStacks("heap", map[string]int64{"main.main": 1}), {Type: Type{Profile: "cpu", Sample: "cpu"}}} {
		if err := WritePGO(&bytes.Buffer{}, s); err == nil || !strings.HasPrefix(err.Error(), "write PGO profile: ") {
			t.Errorf("%v: %v", s.Type, err)
		}
	}
}
