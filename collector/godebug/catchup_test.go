package godebug

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sonde-io/sonde/collector/series"
)

// waiting is how many cycles a log holds that was not read for a while.
const waiting = 10_000

// whole fails the test where one of the cycles from 1 to n, or its line, did not arrive once.
func (s *sinks) whole(t *testing.T, n int) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	cycles, lines := map[string]int{}, map[string]int{}
	for _, c := range s.cycles {
		cycles[strings.Fields(c)[1]]++
	}
	for _, line := range s.text {
		lines[line]++
	}
	missing := 0
	for i := 1; i <= n; i++ {
		if cycles[fmt.Sprint(i)] != 1 || lines[cycle(i)] != 1 {
			missing++
		}
	}
	if missing > 0 || len(s.cycles) != n || len(s.text) != n {
		t.Fatalf("%d cycles and %d lines arrived, %d are not there once; want %d of each", len(s.cycles), len(s.text), missing, n)
	}
}

// total is how many cycles and lines there are so far.
func (s *sinks) total() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.cycles) + len(s.text)
}

// cyclesText is the lines of the cycles from the first to the last.
func cyclesText(first, last int) string {
	var b strings.Builder
	for i := first; i <= last; i++ {
		b.WriteString(cycle(i))
	}
	return b.String()
}

// TestFollowCatchUp: of what waits in a file after a pause nothing is left out, however much it is.
func TestFollowCatchUp(t *testing.T) {
	path, s := filepath.Join(t.TempDir(), "cart.log"), &sinks{}
	f := followers(t, t.TempDir(), s, File{Path: path, Service: "cart"})
	f.Round(t.Context(), time.Unix(1795262400, 0))
	appendTo(t, path, cycle(1))
	f.Round(t.Context(), time.Unix(1795262401, 0))
	appendTo(t, path, cyclesText(2, waiting))
	f.Round(t.Context(), time.Unix(1795272400, 0))
	s.whole(t, waiting)
	if got := testutil.ToFloat64(f.lines); got != waiting {
		t.Errorf("%v lines counted", got)
	}
}

// TestFollowLongDetail: a scheddetail that is longer than what is handed over at once is one.
func TestFollowLongDetail(t *testing.T) {
	path, s := filepath.Join(t.TempDir(), "cart.log"), &detailed{}
	f := followers(t, t.TempDir(), &s.sinks, File{Path: path, Service: "cart"})
	f.cfg.Series = s
	f.Round(t.Context(), time.Unix(1795262400, 0))
	var text strings.Builder
	text.WriteString("SCHED 0ms: gomaxprocs=1 idleprocs=0 threads=3 spinningthreads=0 needspinning=0 idlethreads=1 runqueue=0 gcwaiting=false nmidlelocked=0 stopwait=0 sysmonwait=false\n")
	for i := range 20_000 {
		fmt.Fprintf(&text, "  G%d: status=4(chan receive) m=nil lockedm=nil\n", i+1)
	}
	appendTo(t, path, text.String())
	f.Round(t.Context(), time.Unix(1795262401, 0))
	if s.waiting != 20_000 || len(s.text) != 20_001 {
		t.Errorf("%v goroutines that wait and %d lines, want 20000 and 20001", s.waiting, len(s.text))
	}
}

// detailed keeps how many goroutines wait, by scheddetail.
type detailed struct {
	sinks
	waiting float64
}

func (s *detailed) AppendSeries(_ context.Context, batches ...series.Batch) error {
	for _, b := range batches {
		for _, v := range b.Samples {
			if v.Labels.Get("__name__") == "schedtrace_goroutines" {
				s.waiting += v.V
			}
		}
	}
	return nil
}

// TestFollowJournalCatchUp: nor is anything left out of what waits in the journal, also of processes that make room for others.
func TestFollowJournalCatchUp(t *testing.T) {
	dir, s := t.TempDir(), &sinks{}
	var text strings.Builder
	for i := 1; i <= waiting; i++ {
		pid := 4711
		if i > waiting-maxJournal-10 { // each of the last is another process's
			pid += i
		}
		text.WriteString(exported(fmt.Sprint("c", i), 1795262400000000+int64(i)*1000, pid, strings.TrimSuffix(cycle(i), "\n"), false))
	}
	command := filepath.Join(dir, "journalctl")
	for name, content := range map[string]string{"entries": text.String(), "journalctl": fmt.Sprintf("#!/bin/sh\ncat %s/entries\nexec sleep 1000\n", dir)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	f, err := NewFollowers(FollowersConfig{Settings: Settings{Files: []File{{Format: FormatJournald}}}, Dir: dir, Series: s, Lines: s, Journalctl: command, Every: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- f.Run(ctx) }()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if p, _ := f.position("journald:"); p.Cursor == fmt.Sprint("c", waiting) {
			break
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	s.whole(t, waiting)
}

// TestJournalFull: while what a journal said cannot be handed over no more of it is taken.
func TestJournalFull(t *testing.T) {
	s := &sinks{failing: true}
	f, err := NewFollowers(FollowersConfig{Settings: Settings{Files: []File{{Format: FormatJournald}}}, Dir: t.TempDir(), Series: s, Lines: s, Every: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	j := &journal{f: f, set: &f.cfg.Settings.Files[0], streams: map[int]*stream{}}
	entries := make(chan journalEntry)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); j.gather(ctx, entries) }()
	taken := 0
	for wait := time.After(10 * time.Second); ; {
		e := journalEntry{cursor: fmt.Sprint("c", taken+1), at: 1795262400000 + int64(taken), pid: 1, message: []byte(strings.TrimSuffix(cycle(taken+1), "\n"))}
		select {
		case entries <- e:
			if taken++; taken <= 2000 {
				continue
			}
		case <-time.After(300 * time.Millisecond): // it takes no more
		case <-wait:
		}
		break
	}
	cancel()
	<-done
	if p, known := f.position(j.key()); taken > 2000 || known {
		t.Errorf("%d entries were taken, the position is %+v", taken, p)
	}
}

// TestFollowRefused: while the store takes nothing, what waits in memory stays as much as it is, the position stays before it, and then everything arrives once.
func TestFollowRefused(t *testing.T) {
	path, data, s := filepath.Join(t.TempDir(), "cart.log"), t.TempDir(), &sinks{}
	f := followers(t, data, s, File{Path: path, Service: "cart"})
	clock := time.Unix(1795262400, 0)
	round := func() {
		clock = clock.Add(time.Second)
		f.Round(t.Context(), clock)
	}
	appendTo(t, path, "x\n")
	round()
	before, _ := f.position(path)
	s.failing = true
	const rounds, each = 50, 1000
	most := 0
	for i := range rounds {
		appendTo(t, path, cyclesText(i*each+1, (i+1)*each))
		round()
		samples := 0
		for _, h := range f.files[path].s.pending {
			samples += len(h.batch.Samples)
		}
		if most = max(most, samples); most > 2*maxGathered {
			t.Fatalf("after %d rounds %d samples are pending", i+1, most)
		}
		if p, _ := f.position(path); p.Offset != before.Offset {
			t.Fatalf("the position is %d, and what lies behind %d was not handed over", p.Offset, before.Offset)
		}
	}
	if most == 0 || s.total() != 0 {
		t.Fatalf("%d samples pending at most, %d arrived", most, s.total())
	}
	s.failing = false
	round()
	s.whole(t, rounds*each)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if p, _ := f.position(path); p.Offset != info.Size() {
		t.Errorf("the position is %d of %d", p.Offset, info.Size())
	}
}

// TestFollowPartly: where the store stops taking in the middle, the position is that of what it took, so that who starts again reads no more than the rest and a piece.
func TestFollowPartly(t *testing.T) {
	path, data, s := filepath.Join(t.TempDir(), "cart.log"), t.TempDir(), &sinks{}
	f := followers(t, data, s, File{Path: path, Service: "cart"})
	f.Round(t.Context(), time.Unix(1795262400, 0))
	appendTo(t, path, cycle(1))
	f.Round(t.Context(), time.Unix(1795262401, 0))
	appendTo(t, path, cyclesText(2, waiting))
	f.cfg.Series = &stopping{sinks: s, left: 3}
	f.Round(t.Context(), time.Unix(1795272400, 0))
	n := s.total()
	for _, l := range f.files {
		l.close()
	}
	if n == 0 || n == 2*waiting {
		t.Fatalf("%d arrived: the store did not stop in the middle", n)
	}
	f = followers(t, data, s, File{Path: path, Service: "cart"})
	f.Round(t.Context(), time.Unix(1795272401, 0))
	if again := s.total() - 2*waiting; again > 2*maxGathered/10 {
		t.Errorf("%d cycles and lines came again", again)
	}
	slices.Sort(s.cycles) // what came again has the same times, so that the store knows it
	slices.Sort(s.text)
	s.cycles, s.text = slices.Compact(s.cycles), slices.Compact(s.text)
	s.whole(t, waiting)
}

// stopping takes so many batches.
type stopping struct {
	*sinks
	left int
}

func (s *stopping) AppendSeries(ctx context.Context, batches ...series.Batch) error {
	if s.left--; s.left < 0 {
		return errors.New("full")
	}
	return s.sinks.AppendSeries(ctx, batches...)
}

// TestLinesThatDoNotFit: what a recorder leaves out all the same is counted.
func TestLinesThatDoNotFit(t *testing.T) {
	reg := prometheus.NewRegistry()
	f, err := NewFollowers(FollowersConfig{Settings: Settings{Files: []File{{Path: "x"}}}, Dir: t.TempDir(), Registerer: reg})
	if err != nil {
		t.Fatal(err)
	}
	s := newStream(&File{}, "x", origin{name: "x"}, nil)
	s.rec.Dropped = 3
	for range 2 {
		f.deliver(t.Context(), s, true)
	}
	if got := testutil.ToFloat64(f.left.WithLabelValues("lines")); got != 3 {
		t.Errorf("%v lines left out, want 3", got)
	}
}

// TestRestartedProgram: the times of a program that took the place of another in a log are its own, and a line that comes late is no other program.
func TestRestartedProgram(t *testing.T) {
	const base = int64(1795262400000)
	gc := func(n int, own float64) string {
		return fmt.Sprintf("gc %d @%.3fs 1%%: 0.1+0.8+0.1 ms clock, 0.1+0.1/0.1/0.1+0.1 ms cpu, 3->4->3 MB, 4 MB goal, 0 MB stacks, 0 MB globals, 2 P\n", n, own)
	}
	sched := func(ms int) string {
		return fmt.Sprintf("SCHED %dms: gomaxprocs=8 idleprocs=5 threads=5 spinningthreads=1 needspinning=0 idlethreads=0 runqueue=0 [0 0 0 0 0 0 0 0]\n", ms)
	}
	begin := func(ms float64) string {
		return fmt.Sprintf("init internal/x @%.3f ms, 0.1 ms clock, 10 bytes, 2 allocs\n", ms)
	}
	type line struct {
		at   int64 // ms since base, when it came
		text string
		want int64 // its time
	}
	for _, tc := range []struct {
		name    string
		plain   bool // the log has no times: at is when it was read
		started int64
		lines   []line
	}{
		{"gctrace goes on", false, 0, []line{{1001, gc(1, 1), 1000}, {2005, gc(2, 2), 2000}, {90_001, gc(3, 90), 90_000}}},
		{"gctrace anew after 30 s", false, 0, []line{{1001, gc(1, 1), 1000}, {20_001, gc(9, 20), 20_000}, {30_501, gc(1, 0.5), 30_500}, {31_001, gc(2, 1), 31_000}}},
		{"gctrace anew, its first cycles are not there", false, 0, []line{{20_001, gc(9, 20), 20_000}, {50_001, gc(12, 10), 50_000}}},
		{"gctrace anew, and later on at once", false, 0, []line{{20_001, gc(9, 20), 20_000}, {1_000_001, gc(10, 25), 1_000_000}}},
		{"gctrace ahead of the log", false, 0, []line{{20_001, gc(9, 20), 20_000}, {30_001, gc(10, 100), 30_000}}},
		{"gctrace of a file ahead of it", true, 0, []line{{20_001, gc(9, 20), 20_000}, {30_001, gc(10, 100), 30_000}}},
		{"gctrace of a file anew", true, 0, []line{{20_001, gc(9, 20), 20_000}, {50_301, gc(1, 0.3), 50_300}, {51_001, gc(2, 1), 51_000}}},
		{"gctrace late by 3 ms", false, 0, []line{{1001, gc(1, 1), 1000}, {1021, gc(3, 1.02), 1020}, {1021, gc(2, 1.017), 1021}, {1041, gc(4, 1.04), 1040}}},
		{"gctrace late by a round in a file", true, 0, []line{{1001, gc(1, 1), 1000}, {1021, gc(3, 1.02), 1020}, {2021, gc(2, 1.017), 1021}, {2041, gc(4, 2.04), 2040}}},
		{"gctrace of a file read long after, one late", true, 0, []line{{601, gc(1, 0.6), 600}, {500_000, gc(3, 1.02), 1020}, {500_000, gc(2, 1.017), 1021}, {500_000, gc(4, 2.04), 2040}}},
		{"gctrace of a known process", false, base, []line{{5, gc(1, 0.003), 3}, {1007, gc(2, 1), 1000}}},
		{"schedtrace goes on", false, 0, []line{{0, sched(0), 0}, {1004, sched(1003), 1003}, {100_020, sched(100_001), 100_001}}},
		{"schedtrace anew after 30 s", false, 0, []line{{0, sched(0), 0}, {10_000, sched(10_000), 10_000}, {30_000, sched(0), 30_000}, {31_001, sched(1001), 31_001}}},
		{"schedtrace anew before it told more than its begin", false, 0, []line{{0, sched(0), 0}, {10_000, sched(0), 10_000}}},
		{"schedtrace anew after minutes, its begin is not there", false, 0, []line{{10_000, sched(10_000), 10_000}, {600_000, sched(15_000), 600_000}}},
		{"schedtrace of a file anew", true, 0, []line{{0, sched(0), 0}, {10_000, sched(10_000), 10_000}, {30_000, sched(0), 30_000}, {31_001, sched(1001), 31_001}}},
		{"schedtrace late by 5 ms", false, 0, []line{{0, sched(0), 0}, {1010, sched(1010), 1010}, {1010, sched(1005), 1011}, {1020, sched(1020), 1020}}},
		{"inittrace anew", false, 0, []line{{1, begin(1), 1}, {3, begin(3), 3}, {20_001, begin(1), 20_001}}},
		{"all anew by the first of them", false, 0, []line{{1, begin(1), 1}, {2, sched(0), 2}, {5001, gc(7, 5), 5001}, {20_001, begin(1), 20_001}, {20_002, sched(0), 20_002}, {20_101, gc(8, 0.1), 20_100}}},
		{"the clock of the log is set by minutes", false, 0, []line{{1001, gc(1, 1), 1000}, {302_001, gc(2, 2), 302_000}, {303_001, gc(3, 3), 303_000}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newStream(&File{}, "x", origin{name: "x"}, nil)
			s.rec.Sampler.Started = tc.started
			for i, l := range tc.lines {
				e := entry{at: base + l.at, text: []byte(l.text)}
				if tc.plain {
					e.at = 0
				}
				parsed, ok := Parse([]byte(l.text))
				if !ok {
					t.Fatalf("not read: %q", l.text)
				}
				s.add(e, base+l.at)
				taken := s.rec.Take(true)
				times := []int64{}
				for _, v := range taken.Samples {
					times = append(times, v.T-base)
				}
				times = slices.Compact(times)
				if len(times) != 1 || abs(times[0]-l.want) > 1 || parsed.Kind == 0 {
					t.Errorf("line %d, %.20q at %d: %v, want %d", i, l.text, l.at, times, l.want)
				}
			}
		})
	}
}

func abs(v int64) int64 { return max(v, -v) }

// TestRestartedMeanwhile: nor are the old program's the times of one that was restarted while nobody followed.
func TestRestartedMeanwhile(t *testing.T) {
	const base = int64(1795262400000)
	s := newStream(&File{}, "x", origin{name: "x"}, nil)
	s.add(entry{text: []byte(sched)}, base+1003) // 1003 ms after schedtrace began
	p := s.position()
	s = newStream(&File{}, "x", origin{name: "x"}, nil)
	s.restore(p)
	s.add(entry{text: []byte(strings.Replace(sched, "SCHED 1003ms", "SCHED 0ms", 1))}, base+500_000)
	taken := s.rec.Take(true)
	if len(taken.Samples) == 0 || taken.Samples[0].T != base+500_000 {
		t.Errorf("%+v, want the time %d", taken.Samples, base+500_000)
	}
}
