package godebug

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/series"
	"github.com/sonde-io/sonde/collector/wire"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/internal/testgo"
)

var (
	update = flag.Bool("update", false, "write the golden files")
	record = flag.Bool("record", false, "write what programs of each Go version print into testdata")
)

// allTraces is GODEBUG for everything that is known.
const allTraces = "gctrace=2,schedtrace=5,scheddetail=1,scavtrace=1,gcpacertrace=1,inittrace=1"

const tracedProgram = `package main

import ("runtime"; "runtime/debug"; "time")

var sink []byte

func main() {
	for i := 0; i < 40; i++ { sink = make([]byte, 1<<20); time.Sleep(500*time.Microsecond) }
	sink = nil
	runtime.GC()
	debug.FreeOSMemory()
	time.Sleep(20*time.Millisecond) // the cycles have told of themselves
}
`

// TestToolchains runs a program of each Go version with all traces: nothing of them stays in its standard error, and each kind is read.
func TestToolchains(t *testing.T) {
	for _, version := range testgo.Toolchains() {
		t.Run(version, func(t *testing.T) {
			program := testgo.BuildSource(t, version, nil, tracedProgram)
			if *record {
				text := bytes.SplitAfter(traced(t, program, allTraces), []byte("\n"))
				if err := os.WriteFile(filepath.Join("testdata", version+".txt"), bytes.Join(text[:min(len(text), 160)], nil), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			// One at a time: nothing is printed into the middle of a line, neither by another trace nor by the program, so each byte is of a line that has to be read.
			for traces, want := range map[string][]Kind{"gctrace=2": {KindGC}, "scavtrace=1": {KindScav}, "gcpacertrace=1": {KindPacer}, "inittrace=1": {KindInit}, "schedtrace=5,scheddetail=1": {KindSched, KindP, KindM, KindG}} {
				if traces == "scavtrace=1" && version == "go1.18.10" {
					want = nil // its scavenger has nothing to say within such a short time
				}
				got := map[Kind]int{}
				missing := func(k Kind) bool { return got[k] == 0 }
				for range 20 { // on a busy machine the thread that prints may not get to it within the program's life
					own, taken := split(t, TracesOf(traces), string(traced(t, program, traces)), whole)
					if strings.Contains(own, "\n") { // as the program ends, a thread of the runtime may be in the middle of a line
						t.Errorf("%s: left in standard error: %.500q", traces, own)
					}
					for _, line := range taken {
						l, _ := Parse([]byte(line))
						got[l.Kind]++
					}
					if !slices.ContainsFunc(want, missing) {
						break
					}
				}
				if slices.ContainsFunc(want, missing) {
					t.Errorf("%s: got %v, want %v", traces, got, want)
				}
			}
		})
	}
}

// traced runs a program with traces and returns what it prints to standard error.
func traced(t *testing.T, program, traces string) []byte {
	t.Helper()
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), "GODEBUG="+traces, "GOMAXPROCS=2")
	var out bytes.Buffer
	cmd.Stderr = &out
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestGolden reads what real programs printed: testdata/*.txt, by go test -run TestToolchains -record; -update writes what is expected of them.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) < 4 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		r := Recorder{Sampler: Sampler{Started: 1795262400000}}
		at := r.Sampler.Started
		s := NewSplitter(AllTraces, func(b []byte) error { fmt.Fprintf(&got, "own %q\n", b); return nil }, func(text []byte, l *Line) {
			at += 10
			fmt.Fprintf(&got, "%v", l.Kind)
			switch l.Kind {
			case KindGC:
				fmt.Fprintf(&got, " %+v", l.GC)
			case KindSched:
				fmt.Fprintf(&got, " %+v", l.Sched)
			case KindScav:
				fmt.Fprintf(&got, " %+v", l.Scav)
			case KindPacer:
				fmt.Fprintf(&got, " %+v", l.Pacer)
			case KindInit:
				fmt.Fprintf(&got, " %+v", l.Init)
			case KindP:
				fmt.Fprintf(&got, " %d", l.RunQueue)
			case KindG:
				fmt.Fprintf(&got, " %s", l.State)
			}
			got.WriteString("\n")
			r.Add(text, l, at)
		})
		if err := s.Write(text); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		samples := r.Take(true).Samples
		slices.SortStableFunc(samples, func(a, b series.Sample) int { return labels.Compare(a.Labels, b.Labels) })
		for _, v := range samples {
			fmt.Fprintf(&got, "%v %d %v\n", v.Labels, v.T-1795262400000, v.V)
		}
		golden := strings.TrimSuffix(file, ".txt") + ".golden"
		if *update {
			if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Bytes(), want) {
			t.Errorf("%s: not as in %s", file, golden)
		}
	}
}

func TestSampler(t *testing.T) {
	const start = 1795262400000
	parse := func(text string) *Line {
		l, ok := Parse([]byte(text))
		if !ok {
			t.Fatalf("not read: %q", text)
		}
		return &l
	}
	s := Sampler{Started: start}
	values := func() map[string]string {
		out := map[string]string{}
		for _, v := range s.Take() {
			out[v.Labels.String()] = fmt.Sprintf("%d %v", v.T-start, v.V)
		}
		return out
	}
	at, own := s.Add(parse(gc2), start+100)
	got := values()
	for name, want := range map[string]string{
		`{__name__="gctrace_cycle"}`:                                    "30 2",
		`{__name__="gctrace_pause_seconds", phase="sweep_termination"}`: "30 0.0015",
		`{__name__="gctrace_pause_seconds", phase="mark_termination"}`:  "30 0.00019",
		`{__name__="gctrace_concurrent_seconds"}`:                       "30 0.0062",
		`{__name__="gctrace_cpu_seconds", phase="background"}`:          "30 0.0034",
		`{__name__="gctrace_cpu_ratio"}`:                                "30 0.05",
		`{__name__="gctrace_heap_bytes", at="live"}`:                    "30 4.194304e+06",
		`{__name__="gctrace_goal_bytes"}`:                               "30 6.291456e+06",
		`{__name__="gctrace_forced"}`:                                   "30 1",
		`{__name__="gctrace_procs"}`:                                    "30 2",
	} {
		if got[name] != want {
			t.Errorf("%s is %s, want %s", name, got[name], want)
		}
	}
	if at != start+30 || !own || len(got) != 18 {
		t.Errorf("at %d, own %v, %d series", at-start, own, len(got))
	}
	if _, own := s.Add(parse(gc1), start+100); own || len(s.Take()) != 0 {
		t.Error("a cycle that was before is the program's own")
	}
	s.Add(parse(strings.Replace(gc2, "gc 2", "gc 3", 1)), start+101)
	if got := values(); got[`{__name__="gctrace_cycle"}`] != "31 3" {
		t.Errorf("two cycles in one ms: %v", got)
	}
	s.Add(parse(sched), start+2000) // 1003 ms after schedtrace began
	if got := values(); got[`{__name__="schedtrace_local_runqueue"}`] != "2000 8" || got[`{__name__="schedtrace_local_runqueue_max"}`] != "2000 7" || got[`{__name__="schedtrace_runqueue"}`] != "2000 8" {
		t.Errorf("schedtrace: %v", got)
	}
	// A file's next process counts from 1 again.
	f := Sampler{Files: true}
	f.Add(parse(gc2), start+1000)
	f.Add(parse(gc1), start+60_000)
	var cycles []string
	for _, v := range f.Take() {
		if v.Labels.Get("__name__") == "gctrace_cycle" {
			cycles = append(cycles, fmt.Sprint(v.V, " ", v.T-start))
		}
	}
	if want := []string{"2 992", "1 59993"}; !slices.Equal(cycles, want) {
		t.Errorf("%q, want %q", cycles, want)
	}
}

// store is a LineStore that keeps rows.
type store struct {
	catalog.LineStore
	rows []catalog.LineChunk
}

func (s *store) PutLines(_ context.Context, cs []catalog.LineChunk) error {
	s.rows = append(s.rows, cs...)
	return nil
}

func TestKeeperCuts(t *testing.T) {
	s := &store{}
	k := NewKeeper(s, Settings{}, nil, nil)
	var text bytes.Buffer
	for i := range 3000 { // that gzip cannot make much smaller
		fmt.Fprintf(&text, "%x\n", [32]byte{byte(i), byte(i >> 3), byte(i * 7), byte(i * i), byte(i * 31), byte(i * i * i)})
		fmt.Fprintf(&text, "%x\n", labels.StableHash(labels.FromStrings("a", fmt.Sprint(i))))
	}
	count := bytes.Count(text.Bytes(), []byte("\n"))
	big := wire.LinesChunk{Process: labels.FromStrings("service_name", "cart", "service_instance_id", "i"), Source: "stderr", From: 1, To: 2, Count: count, Gzip: zip(text.Bytes()), TextBytes: text.Len()}
	if err := k.AppendLines(t.Context(), big); err != nil {
		t.Fatal(err)
	}
	if len(s.rows) != 1 && len(big.Gzip) <= catalog.MaxLineChunk {
		t.Fatalf("%d rows of a chunk of %d bytes", len(s.rows), len(big.Gzip))
	}
	rows, err := cut(catalog.LineChunk{Key: "k", Data: big.Gzip})
	if err != nil {
		t.Fatal(err)
	}
	var whole []byte
	lines := 0
	for _, row := range rows {
		if len(row.Data) > catalog.MaxLineChunk {
			t.Errorf("a piece of %d bytes", len(row.Data))
		}
		piece, err := gunzip(row.Data, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		whole, lines = append(whole, piece...), lines+row.Count
	}
	if len(rows) < 2 || !bytes.Equal(whole, text.Bytes()) || lines != count {
		t.Errorf("%d pieces, %d bytes and %d lines; want %d and %d", len(rows), len(whole), lines, text.Len(), count)
	}
	if _, err := cut(catalog.LineChunk{Data: zip(make([]byte, wire.MaxLinesBytes+1))}); err == nil {
		t.Error("more text than a chunk may have was unpacked")
	}
}

func FuzzParse(f *testing.F) {
	for _, line := range []string{gc1, gc2, sched, "  P0: status=1 schedtick=1 syscalltick=0 m=nil runqsize=0 gfreecnt=0 timerslen=0\n", "  G1: status=4(chan receive) m=nil lockedm=nil\n",
		"scav 12 KiB work (bg), 0 KiB work (eager), 3 KiB now, 4% util (forced)\n", "init a/b @1.2 ms, 0.1 ms clock, 10 bytes, 2 allocs\n",
		"pacer: 25% CPU (25 exp.) for 1+2+3 B work (4 B exp.) in 5 B -> 6 B (∆goal -7, cons/mark +1.5e+000)\n", "scan: class 16B 1+2+3=6 objs, 1+2=3 spans\n"} {
		if _, ok := Parse([]byte(line)); !ok {
			f.Errorf("not read: %q", line)
		}
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		l, ok := Parse(text)
		if !ok {
			return
		}
		var s Sampler
		s.Add(&l, 1795262400000)
		s.Flush()
		for _, v := range s.Take() {
			if v.Labels.Get("__name__") == "" {
				t.Fatal("a sample without a name")
			}
		}
	})
}
