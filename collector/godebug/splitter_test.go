package godebug

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// split runs text through a Splitter in the pieces that next cuts, and returns the program's own and the lines.
func split(t *testing.T, traces Traces, text string, next func(left int) int) (own string, lines []string) {
	t.Helper()
	var out bytes.Buffer
	s := NewSplitter(traces, func(b []byte) error { out.Write(b); return nil }, func(text []byte, _ *Line) { lines = append(lines, string(text)) })
	for b := []byte(text); len(b) > 0; {
		n := min(len(b), max(1, next(len(b))))
		if err := s.Write(bytes.Clone(b[:n])); err != nil {
			t.Fatal(err)
		}
		b = b[n:]
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String(), lines
}

func whole(left int) int { return left }
func bytewise(int) int   { return 1 }

const (
	gc1      = "gc 1 @0.017s 1%: 0.009+6.5+0.19 ms clock, 0.019+0.43/0.059/6.2+0.39 ms cpu, 3->4->3 MB, 4 MB goal, 0 MB stacks, 0 MB globals, 2 P\n"
	gc2      = "gc 2 @0.030s 5%: 1.5+6.2+0.19 ms clock, 3.0+0/3.4/1.5+0.38 ms cpu, 5->6->4 MB, 6 MB goal, 0 MB stacks, 0 MB globals, 2 P (forced)\n"
	sched    = "SCHED 1003ms: gomaxprocs=2 idleprocs=1 threads=5 spinningthreads=0 needspinning=0 idlethreads=2 runqueue=8 [ 7 1 ] schedticks=[ 28 37 ]\n"
	schedAll = "SCHED 5ms: gomaxprocs=2 idleprocs=0 threads=4 spinningthreads=1 needspinning=0 idlethreads=0 runqueue=0 gcwaiting=false nmidlelocked=1 stopwait=0 sysmonwait=false\n"
)

func TestSplitter(t *testing.T) {
	for _, tc := range []struct {
		name, in, own string
		lines         []string
	}{
		{"nothing", "hello\nworld", "hello\nworld", nil},
		{"between lines", "a\n" + gc1 + "b\n" + gc2, "a\nb\n", []string{gc1, gc2}},
		{"behind a prompt", "loading" + gc1 + "...\n", "loading...\n", []string{gc1}},
		{"of another process, behind a prefix", "[child] gc 7" + gc1[4:], "[child] gc 7" + gc1[4:], nil},
		{"like a trace", "gc is fun\ngc 12\ngc 1 @home\nSCHED\nSCHED 1ms: never\n", "gc is fun\ngc 12\ngc 1 @home\nSCHED\nSCHED 1ms: never\n", nil},
		{"the program stands in it", gc1[:30] + "hello\n" + gc1[30:] + "end\n", "hello\nend\n", []string{gc1}},
		{"the program stands in its number", gc1[:20] + "hello\nworld\n" + gc1[20:] + "end\n", "hello\nworld\nend\n", []string{gc1}},
		{"the program stands before its last value", schedAll[:len(schedAll)-6] + "begin\n" + schedAll[len(schedAll)-6:] + "end\n", "begin\nend\n", []string{schedAll}},
		{"another trace stands in it", sched[:100] + gc1 + sched[100:], "", []string{sched, gc1}},
		{"it never goes on", gc1[:30] + "hello\nworld\n" + gc2 + "end", gc1[:30] + "hello\nworld\nend", []string{gc2}},
		{"its end is missing", "a\n" + gc1[:70], "a\n" + gc1[:70], nil},
		{"a number too long", "gc 99999999999999999999999 @1s 1%: x\n", "gc 99999999999999999999999 @1s 1%: x\n", nil},
		{"carriage returns", "a\r\n" + gc1 + "b\r\n", "a\r\nb\r\n", []string{gc1}},
	} {
		for mode, next := range map[string]func(int) int{"whole": whole, "bytes": bytewise} {
			own, lines := split(t, AllTraces, tc.in, next)
			if own != tc.own || !slices.Equal(lines, tc.lines) {
				t.Errorf("%s (%s):\n got %q %q\nwant %q %q", tc.name, mode, own, lines, tc.own, tc.lines)
			}
		}
	}
}

// TestSplitterPieces cuts real output anywhere: what comes out is the same.
func TestSplitterPieces(t *testing.T) {
	text := readCorpus(t, "caddy-go126")
	text = text[:min(len(text), 40_000)]
	wantOwn, wantLines := split(t, AllTraces, text, whole)
	for seed := range uint64(5) {
		r := rand.New(rand.NewPCG(seed, 1))
		own, lines := split(t, AllTraces, text, func(int) int { return 1 + r.IntN(200) })
		if own != wantOwn || !slices.Equal(lines, wantLines) {
			t.Fatalf("seed %d: %d bytes and %d lines, want %d and %d", seed, len(own), len(lines), len(wantOwn), len(wantLines))
		}
	}
}

func readCorpus(t testing.TB, program string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "..", "shared", "corpus", program, "other", "godebug-stderr.txt"))
	if err != nil {
		t.Skipf("SKIPPED: the corpus is not beside the project, so its standard errors are NOT read: %v", err)
	}
	return string(b)
}

// TestCorpus counts: every line that a regular expression finds in real servers' output is taken, those that another stands in too, and nothing else.
func TestCorpus(t *testing.T) {
	isGC := regexp.MustCompile(`(?m)gc \d+ @\d+\.\d+s \d+%: .* P( \(forced\))?$`)
	isSched := regexp.MustCompile(`SCHED \d+ms: `)
	for _, program := range []string{"alertmanager-go126", "caddy-go126", "etcd", "etcd-go126", "nats-server-go126", "prometheus", "victoria-metrics"} {
		text := readCorpus(t, program)
		if i := strings.LastIndexByte(text, '\n'); i >= 0 { // the files are cut
			text = text[:i+1]
		}
		own, lines := split(t, AllTraces, text, whole)
		got := map[Kind]int{}
		total := len(own)
		for _, line := range lines {
			l, ok := Parse([]byte(line))
			if !ok {
				t.Errorf("%s: taken, and not read: %q", program, line)
			}
			got[l.Kind]++
			total += len(line)
		}
		if want := len(isGC.FindAllString(text, -1)); got[KindGC] != want {
			t.Errorf("%s: %d cycles, want %d", program, got[KindGC], want)
		}
		if want := len(isSched.FindAllString(text, -1)); got[KindSched] != want {
			t.Errorf("%s: %d lines of schedtrace, want %d", program, got[KindSched], want)
		}
		if total != len(text) {
			t.Errorf("%s: %d bytes came out, of %d", program, total, len(text))
		}
		t.Logf("%s: %v", program, got)
	}
}

// TestSplitterHolds: what may be a trace is held back for a while and no longer.
func TestSplitterHolds(t *testing.T) {
	for _, tc := range []struct {
		in, passed string
		hold       time.Duration
	}{
		{"password: ", "password: ", 0},
		{"loading", "loadin", holdBegun},
		{"a\ngc ", "a\n", holdMaybe},
		{"a\n" + gc1[:20], "a\n", holdSure},
		{gc1[:20] + "hello", "", holdTorn},
	} {
		var out bytes.Buffer
		s := NewSplitter(Traces{GC: 1}, func(b []byte) error { out.Write(b); return nil }, func([]byte, *Line) {})
		if err := s.Write([]byte(tc.in)); err != nil {
			t.Fatal(err)
		}
		wait, held := s.Wait(time.Unix(1, 0))
		if out.String() != tc.passed || wait != tc.hold || held != (tc.hold > 0) {
			t.Errorf("%q: passed %q, held %v for %v; want %q, %v", tc.in, out.String(), held, wait, tc.passed, tc.hold)
		}
		if err := s.Expire(); err != nil {
			t.Fatal(err)
		}
		if _, held := s.Wait(time.Unix(1, 0)); out.String() != tc.in || held {
			t.Errorf("%q: after that %q, held %v", tc.in, out.String(), held)
		}
	}
}

func TestTraces(t *testing.T) {
	def := Traces{GC: 1, Sched: time.Second}
	for _, tc := range []struct{ own, want string }{
		{"", "gctrace=1,schedtrace=1000"},
		{"gctrace=0", "gctrace=0,schedtrace=1000"},
		{"madvdontneed=1,gctrace=2", "madvdontneed=1,gctrace=2,schedtrace=1000"},
	} {
		if got := def.Merge(tc.own); got != tc.want {
			t.Errorf("%q: %q, want %q", tc.own, got, tc.want)
		}
	}
	if got, want := TracesOf("x,gctrace=2,scheddetail=1,schedtrace=50,inittrace=1"), (Traces{GC: 2, Sched: 50 * time.Millisecond, Detail: true, Init: true}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func FuzzSplitter(f *testing.F) {
	f.Add([]byte("a\n"+gc1+"b"+gc2), uint64(1))
	f.Add([]byte(sched[:100]+gc1+sched[100:]), uint64(2))
	f.Add([]byte(gc1[:30]+"hello\n"+gc1[30:]), uint64(3))
	f.Fuzz(func(t *testing.T, text []byte, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 0))
		own, lines := split(t, AllTraces, string(text), func(int) int { return 1 + r.IntN(40) })
		left := len(own)
		for _, line := range lines {
			if left += len(line); !strings.HasSuffix(line, "\n") {
				t.Fatalf("taken: %q", line)
			}
			if _, ok := Parse([]byte(line)); !ok {
				t.Fatalf("taken and not read: %q", line)
			}
		}
		if left != len(text) {
			t.Fatalf("%d bytes in, %d out: %q %q", len(text), left, own, lines)
		}
	})
}

func BenchmarkSplitter(b *testing.B) {
	line := fmt.Sprintf("time=2026-11-21T06:34:51.358Z level=INFO source=main.go:191 msg=%q logging=engaged\n", "Starting the gc of orders")
	chunk := []byte(strings.Repeat(line, 64<<10/len(line)))
	s := NewSplitter(Traces{GC: 1, Sched: time.Second}, func([]byte) error { return nil }, func([]byte, *Line) {})
	b.SetBytes(int64(len(chunk)))
	for b.Loop() {
		if err := s.Write(chunk); err != nil {
			b.Fatal(err)
		}
	}
}
