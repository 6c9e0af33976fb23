package profiles

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/pprof/profile"
)

// mergedCorpus merges the real profiles of each service and type into the type's last column, behind a table of symbols that holds those of all.
func mergedCorpus(t *testing.T, n int) map[string]*Stacks {
	t.Helper()
	files, data := readCorpus(t, n)
	symbols := NewSymbols()
	type merge struct {
		typ   Type
		acc   Accumulator
		stats MergeStats
	}
	merges := map[string]*merge{}
	for i, in := range data {
		p, err := Parse(in, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		column := p.Columns() - 1
		name := files[i].Service + "/" + files[i].Type
		m := merges[name]
		if m == nil {
			m = &merge{typ: Type{files[i].Type, p.SampleTypes[column].Type, p.SampleTypes[column].Unit}}
			merges[name] = m
		}
		for k, id := range symbols.AddProfile(p, nil) {
			if v := p.Values[k*p.Columns()+column]; m.typ.Kind() == Gauge {
				m.acc.AddWeighted(id, v, 10_000)
			} else {
				m.acc.Add(id, v)
			}
		}
		m.stats.Profiles++
		m.stats.CoveredMs += 10_000
		m.stats.Period = p.Period
	}
	out := map[string]*Stacks{}
	for name, m := range merges {
		s := m.acc.Stacks(m.typ, symbols, 1_700_000_000_000, 1_700_000_010_000)
		s.Stats = m.stats
		out[name] = s
	}
	return out
}

// TestGoToolPprofReadsRealMergesWithoutComplaint runs the reports of go tool pprof on real merged profiles, one of each type. They may say nothing on standard error but what is done, and
// print the total that was merged.
func TestGoToolPprofReadsRealMergesWithoutComplaint(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the go command")
	}
	dir := t.TempDir()
	merges := mergedCorpus(t, 7)
	tried := map[string]bool{}
	for name, s := range merges {
		b := pprofBytes(t, s)
		ref, err := profile.ParseData(b)
		if err == nil {
			err = ref.CheckValid()
		}
		if err != nil {
			t.Errorf("%s: google/pprof refuses it: %v", name, err)
			continue
		}
		if tried[s.Type.Profile] || len(s.IDs) == 0 {
			continue
		}
		tried[s.Type.Profile] = true
		t.Run(s.Type.Profile, func(t *testing.T) { readWithPprof(t, dir, s, b) })
	}
	for _, want := range []string{"cpu", "heap", "goroutine", "mutex", "block"} {
		if !tried[want] {
			t.Errorf("no profile of type %s was tried", want)
		}
	}
}

func readWithPprof(t *testing.T, dir string, s *Stacks, b []byte) {
	file := filepath.Join(dir, s.Type.Profile+".pb.gz")
	if err := os.WriteFile(file, b, 0o644); err != nil {
		t.Fatal(err)
	}
	report := func(args ...string) string {
		var stdout, stderr bytes.Buffer
		cmd := exec.Command("go", slices.Concat([]string{"tool", "pprof"}, args, []string{file})...)
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		cmd.Env = append(os.Environ(), "PPROF_TMPDIR="+dir, "PPROF_BINARY_PATH="+dir)
		if err := cmd.Run(); err != nil || stderr.Len() > 0 {
			t.Errorf("go tool pprof %v: %v: it says %q", args, err, stderr.String())
		}
		return stdout.String()
	}
	lines := report("-top", "-lines", "-unit=minimum", "-nodecount=1000000", "-nodefraction=0")
	for _, want := range []string{"Type: " + s.Type.Sample, "Time: 2023-11-14", "Build ID: "} {
		if !strings.Contains(lines, want) {
			t.Errorf("-top -lines does not say %q:\n%.600s", want, lines)
		}
	}
	if !strings.Contains(lines, ".go:") {
		t.Errorf("-top -lines names no line:\n%.600s", lines)
	}
	tags := report("-tags")
	if labelled := slices.ContainsFunc(s.IDs, func(id uint32) bool { return s.Symbols.Stacks[id].LabelSet != 0 }); labelled != (strings.TrimSpace(tags) != "") {
		t.Errorf("-tags, of stacks with labels (%t), says %q", labelled, tags)
	}
	if comments := report("-comments"); !strings.Contains(comments, "sonde: "+s.Type.String()) {
		t.Errorf("-comments says %q", comments)
	}
	out := filepath.Join(dir, s.Type.Profile+".again.pb.gz")
	var stderr bytes.Buffer
	cmd := exec.Command("go", "tool", "pprof", "-proto", "-output="+out, file)
	cmd.Env, cmd.Stderr = append(os.Environ(), "PPROF_TMPDIR="+dir), &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("-proto: %v: %s", err, stderr.String())
	}
	again, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := profile.ParseData(again)
	if err != nil {
		t.Fatal(err)
	}
	sum := int64(0)
	for _, smp := range ref.Sample {
		sum += smp.Value[0]
	}
	if sum != s.Total() {
		t.Errorf("-proto holds a total of %d, merged were %d", sum, s.Total())
	}
}

// TestWritePprofTouchesOnlyWhatIsUsed exports a few stacks of a table that holds many: nothing else of it may be in the file.
func TestWritePprofTouchesOnlyWhatIsUsed(t *testing.T) {
	columns := map[string][]int64{}
	for i := range 500 {
		columns[fmt.Sprintf("main.main;example.com/p.F%d;example.com/q.G%d", i, i)] = []int64{1}
	}
	p := testProfile([]ValueType{{"cpu", "nanoseconds"}}, columns)
	p.Mappings = append(p.Mappings, Mapping{File: "/bin/other", BuildID: "b2"})
	sym := NewSymbols()
	ids := sym.AddProfile(p, nil)
	s := &Stacks{Type: Type{"cpu", "cpu", "nanoseconds"}, Symbols: sym, IDs: ids[3:4], Values: []int64{7}}
	slices.Sort(s.IDs)
	ref, err := profile.ParseData(pprofBytes(t, s))
	if err != nil {
		t.Fatal(err)
	}
	if len(ref.Sample) != 1 || len(ref.Location) != 3 || len(ref.Function) != 3 || len(ref.Mapping) != 1 || ref.Sample[0].Value[0] != 7 {
		t.Errorf("%d samples, %d locations, %d functions, %d mappings", len(ref.Sample), len(ref.Location), len(ref.Function), len(ref.Mapping))
	}
}

// TestGoBuildAcceptsPGOOfRealMerges does with the real CPU profiles of each service what go build -pgo does: it prepares the profile and compiles with it. (go build itself would
// compile the standard library anew for every profile.)
func TestGoBuildAcceptsPGOOfRealMerges(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the go command")
	}
	dir := t.TempDir()
	for name, text := range map[string]string{"main.go": pgoProgram, "go.mod": "module pgo.test\n\ngo 1.24\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) error {
		cmd := exec.Command("go", args...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOWORK=off", "GOFLAGS=")
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			return fmt.Errorf("go %v: %w\n%s", args, err, out)
		}
		return nil
	}
	old, built := 0, 0
	for name, s := range mergedCorpus(t, 3) {
		if s.Type.Profile != "cpu" {
			continue
		}
		var b bytes.Buffer
		err := WritePGO(&b, s)
		if errors.Is(err, ErrNoPGO) && strings.Contains(err.Error(), "Go 1.20") {
			old++ // go build refuses it too
			continue
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "cpu.pgo"), b.Bytes(), 0o644)
		}
		prepared := filepath.Join(dir, "prepared")
		if err == nil {
			err = run("tool", "preprofile", "-i", "cpu.pgo", "-o", prepared)
		}
		if err == nil {
			err = sameToTheCompiler(s, dir, prepared, b.Len(), run)
		}
		if err == nil {
			err = run("build", "-pgo=off", "-gcflags=-pgoprofile="+prepared, "-o", os.DevNull, ".")
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		built++
	}
	if old == 0 || built == 0 {
		t.Errorf("%d services of old Go refused, %d used: want some of each", old, built)
	}
}

// sameToTheCompiler compares what the compiler makes of the profile with what it makes of all that was merged, and their sizes.
func sameToTheCompiler(s *Stacks, dir, prepared string, size int, run func(...string) error) error {
	var whole bytes.Buffer
	if err := WritePprof(&whole, s); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "whole.pb.gz"), whole.Bytes(), 0o644); err != nil {
		return err
	}
	want := filepath.Join(dir, "whole.prepared")
	if err := run("tool", "preprofile", "-i", "whole.pb.gz", "-o", want); err != nil {
		return err
	}
	a, err := os.ReadFile(prepared)
	if err != nil {
		return err
	}
	b, err := os.ReadFile(want)
	if err != nil {
		return err
	}
	if !bytes.Equal(a, b) {
		return fmt.Errorf("the compiler reads %d calls in it, and other ones, %d, in the whole profile", bytes.Count(a, []byte{'\n'})/3, bytes.Count(b, []byte{'\n'})/3)
	}
	if size*2 > whole.Len() {
		return fmt.Errorf("%d bytes of %d: hardly anything is left out", size, whole.Len())
	}
	return nil
}
