package scrape

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sonde-io/sonde/collector/discover/discovertest"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/symbols/build"
)

func TestDiscoveredProcessIsScraped(t *testing.T) {
	file := discovertest.Build(t)
	proc := discovertest.Start(t, file, discovertest.Options{Env: []string{"OTEL_SERVICE_NAME=cart"}}, "-pprof=127.0.0.1:0", "-work")
	sink := newMemory()
	cfg := quick(sink)
	cfg.Scanner = scanner(t, proc, nil)
	m, stop := run(t, cfg)
	types := []string{"cpu", "heap", "goroutine", "mutex", "block"}
	until(t, "two profiles of each type", func() bool {
		return !slices.ContainsFunc(types, func(ty string) bool { return len(sink.of(ty)) < 2 })
	})
	st := statusOf(m, proc.PID)
	if st.State != "profiling" || st.Gatherer != "scrape" || st.Service != "cart" || st.LastError != "" || st.LastScrape.IsZero() || st.Profiles < 10 {
		t.Errorf("status %+v", st)
	}
	if line := m.Summary(); !strings.Contains(line, "profiling ") {
		t.Errorf("summary %q", line)
	}
	stop()
	info, err := build.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var keys []catalog.Key
	for _, ty := range types {
		var end int64
		for i, s := range sink.of(ty) {
			keys = append(keys, s.key)
			if s.labels["service_name"] != "cart" || s.labels["service_instance_id"] != st.Instance || s.labels["process_pid"] != strconv.Itoa(proc.PID) {
				t.Errorf("labels %v", s.labels)
			}
			if s.process.BuildID != info.Key() || s.process.Gatherer != "scrape" || s.process.PID != proc.PID || s.process.StartTicks == 0 {
				t.Errorf("process %+v", s.process)
			}
			// Intervals of a type follow each other without a gap or an overlap; CPU profiles have pauses between them.
			if s.end <= s.start || i > 0 && (s.start < end || ty != "cpu" && s.start != end) {
				t.Errorf("%s %d is [%d, %d) after one that ends at %d", ty, i, s.start, s.end, end)
			}
			end = s.end
		}
	}
	for _, k := range keys {
		if !strings.HasPrefix(k.Instance, "scrape/") || !strings.HasSuffix(k.Instance, "/"+st.Instance) || k.Instance != keys[0].Instance || k.Window == 0 {
			t.Errorf("key %+v", k)
		}
	}
	if cpu := sink.of("cpu")[0]; !slices.Contains(cpu.funcs, "main.burn") || cpu.sums["cpu"] <= 0 {
		t.Errorf("CPU profile of %v without the function that burns: %v", cpu.sums, cpu.funcs)
	}
}

// TestCumulativeColumnsAreSubtracted compares what a manager stored of allocations with what the process itself counts.
func TestCumulativeColumnsAreSubtracted(t *testing.T) {
	proc := discovertest.Start(t, discovertest.Build(t), discovertest.Options{}, "-pprof=127.0.0.1:0", "-work")
	base := "http://" + proc.Addrs["pprof"] + "/debug/pprof"
	time.Sleep(300 * time.Millisecond) // let it count something that is not ours
	before := blockDelay(t, base)
	sink := newMemory()
	cfg := quick(sink)
	cfg.CPUDuration = -1
	_, stop := run(t, cfg, Target{Service: "cart", URL: base, Types: []string{"mutex", "block"}})
	until(t, "three intervals", func() bool { return len(sink.of("block")) >= 3 })
	stop()
	after := blockDelay(t, base)
	var sum int64
	for _, s := range sink.of("block") {
		sum += s.sums["delay"]
	}
	if sum <= 0 || sum > after-before {
		t.Errorf("intervals add up to %d ns, the process counted %d ns to %d ns in a longer time", sum, before, after)
	}
	if len(sink.of("heap"))+len(sink.of("goroutine"))+len(sink.of("cpu")) > 0 {
		t.Error("types were scraped that the target's list does not name")
	}
}

// blockDelay returns the total of a process's block profile.
func blockDelay(t *testing.T, base string) int64 {
	t.Helper()
	f := newFetcher(Config{Timeout: 10 * time.Second, MaxBody: 1 << 20})
	defer f.close()
	body, err := f.get(context.Background(), &Target{URL: base}, "block", 0)
	if err != nil {
		t.Fatal(err)
	}
	return total(t, body, "delay")
}

func TestRestartOfTheScraperHasNoBaseline(t *testing.T) {
	proc := discovertest.Start(t, discovertest.Build(t), discovertest.Options{}, "-pprof=127.0.0.1:0", "-work")
	target := Target{Service: "cart", URL: "http://" + proc.Addrs["pprof"] + "/debug/pprof", Types: []string{"heap"}}
	sink := newMemory()
	cfg := quick(sink)
	cfg.CPUDuration = -1
	m, stop := run(t, cfg, target)
	until(t, "an interval", func() bool { return len(sink.of("heap")) > 0 })
	if st := only(m); st.Gaps != 1 || !st.Static {
		t.Errorf("status %+v, want the baseline as the one gap", st)
	}
	stop()
	last := sink.of("heap")
	again := time.Now().UnixMilli()
	_, stop = run(t, cfg, target)
	until(t, "an interval after the restart", func() bool { return len(sink.of("heap")) > len(last) })
	stop()
	next := sink.of("heap")[len(last)]
	if next.start < again {
		t.Errorf("the first interval begins at %d, before the restart at %d", next.start, again)
	}
	if next.key.Instance == last[0].key.Instance || next.key.Window != 1 || next.labels["service_instance_id"] != last[0].labels["service_instance_id"] {
		t.Errorf("keys %+v and %+v, want another epoch of the same instance", last[0].key, next.key)
	}
}

func TestReplacedProcessIsAGap(t *testing.T) {
	file := discovertest.Build(t)
	first := discovertest.Start(t, file, discovertest.Options{}, "-pprof=127.0.0.1:0", "-work")
	addr := first.Addrs["pprof"]
	sink := newMemory()
	cfg := quick(sink)
	cfg.CPUDuration = -1
	m, stop := run(t, cfg, Target{Service: "cart", URL: "http://" + addr + "/debug/pprof", Types: []string{"block"}})
	until(t, "intervals that count something", func() bool { return len(sink.of("block")) >= 3 })
	first.Stop()
	until(t, "a failed scrape", func() bool { return only(m).State == "failing" })
	if st := only(m); !strings.Contains(st.Reason, "connection refused") {
		t.Errorf("reason %q", st.Reason)
	}
	gaps := only(m).Gaps
	discovertest.Start(t, file, discovertest.Options{}, "-pprof="+addr, "-work")
	until(t, "a reset and an interval after it", func() bool { st := only(m); return st.Gaps > gaps && st.State == "profiling" })
	stop()
	for _, s := range sink.of("block") {
		if s.sums["delay"] < 0 {
			t.Errorf("negative interval %v", s.sums)
		}
	}
}

func TestRivalIsYieldedTo(t *testing.T) {
	proc := discovertest.Start(t, discovertest.Build(t), discovertest.Options{}, "-pprof=127.0.0.1:0", "-work")
	base := "http://" + proc.Addrs["pprof"] + "/debug/pprof"
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan struct{})
	go func() { // a person's own profile, asked for until nobody else's is in the way
		defer close(ended)
		for ctx.Err() == nil {
			req, _ := http.NewRequestWithContext(ctx, http.MethodGet, base+"/profile?seconds=600", nil)
			if resp, err := http.DefaultClient.Do(req); err == nil {
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		}
	}()
	f := newFetcher(Config{Timeout: 5 * time.Second, MaxBody: 1 << 20})
	defer f.close()
	until(t, "the rival to begin", func() bool {
		_, err := f.get(context.Background(), &Target{URL: base}, "cpu", time.Second)
		return errors.Is(err, errRival)
	})
	sink := newMemory()
	m, stop := run(t, quick(sink), Target{Service: "cart", URL: base, Types: []string{"cpu"}})
	until(t, "two turns that were yielded", func() bool { return only(m).Rivals >= 2 })
	if st := only(m); st.State != "profiling" || st.LastError != "" || st.Profiles != 0 {
		t.Errorf("status %+v: a rival is no error", st)
	}
	cancel() // the rival's profile ends
	<-ended
	until(t, "a CPU profile after the rival's", func() bool { return len(sink.of("cpu")) > 0 })
	stop()
}

// TestWriteTimeoutShortensTheProfile is about programs built with older releases of Go, whose net/http/pprof refuses what the server's WriteTimeout would cut off.
func TestWriteTimeoutShortensTheProfile(t *testing.T) {
	var mu sync.Mutex
	var lengths []string
	base, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		lengths = append(lengths, r.FormValue("seconds"))
		mu.Unlock()
		if len(r.FormValue("seconds")) > 0 && r.FormValue("seconds") > "2" {
			http.Error(w, "profile duration exceeds server's WriteTimeout", http.StatusBadRequest)
			return
		}
		time.Sleep(time.Second) // it would take 2 s; the profile says how long it did
		w.Write(profileOf(t, "cpu", time.Second))
	})
	sink := newMemory()
	cfg := quick(sink)
	cfg.CPUDuration, cfg.CPUPeriod = 8*time.Second, 8*time.Second
	_, stop := run(t, cfg, Target{Service: "cart", URL: base, Types: []string{"cpu"}})
	until(t, "a CPU profile", func() bool { return len(sink.of("cpu")) > 0 })
	stop()
	mu.Lock()
	defer mu.Unlock()
	if want := []string{"5", "2"}; !slices.Equal(lengths[:2], want) {
		t.Errorf("asked for profiles of %v s, want %v", lengths, want)
	}
	if s := sink.of("cpu")[0]; s.end-s.start != 1000 {
		t.Errorf("interval of %d ms, want the profile's own duration", s.end-s.start)
	}
}

func TestGopsAgentIsScraped(t *testing.T) {
	proc := discovertest.Start(t, discovertest.Build(t), discovertest.Options{Env: []string{"HOME=" + t.TempDir()}}, "-gops", "-work")
	sink := newMemory()
	cfg := quick(sink)
	cfg.CPUDuration = -1
	cfg.Scanner = scanner(t, proc, nil)
	m, stop := run(t, cfg)
	until(t, "heap intervals", func() bool { return len(sink.of("heap")) >= 2 })
	if st := statusOf(m, proc.PID); st.Gatherer != "gops" || st.State != "profiling" || st.LastError != "" {
		t.Errorf("status %+v", st)
	}
	stop()
	if s := sink.of("heap")[1]; s.process.Gatherer != "gops" || s.sums["inuse_space"]+s.sums["alloc_space"] <= 0 {
		t.Errorf("process %+v, sums %v", s.process, s.sums)
	}
}

func TestAgentTakesOver(t *testing.T) {
	proc := discovertest.Start(t, discovertest.Build(t), discovertest.Options{}, "-pprof=127.0.0.1:0", "-work")
	var pushes atomic.Bool
	var said []catalog.Process
	sink := newMemory()
	cfg := quick(sink)
	cfg.CPUDuration = -1
	cfg.Scanner = scanner(t, proc, pushes.Load)
	cfg.Seen = func(_ context.Context, ps []catalog.Process) { said = append(said, ps...) }
	m, stop := run(t, cfg)
	until(t, "an interval", func() bool { return len(sink.of("heap")) > 0 })
	pushes.Store(true)
	until(t, "the agent to be noticed", func() bool { return statusOf(m, proc.PID).State == "agent" })
	m.mu.Lock()
	loops := len(m.loops)
	m.mu.Unlock()
	if loops != 0 {
		t.Errorf("%d targets are still scraped", loops)
	}
	proc.Stop()
	until(t, "its end to be noticed", func() bool { return statusOf(m, proc.PID).PID == 0 })
	stop()
	var states []string
	for _, p := range said {
		if p.PID == proc.PID {
			states = append(states, p.State+" "+p.Gatherer+" "+p.Reason)
		}
	}
	want := []string{"running scrape ", "running agent reached by its agent", "exited agent "}
	if !slices.Equal(states, want) {
		t.Errorf("told %q, want %q", states, want)
	}
}

func TestReloadKeepsWhatStays(t *testing.T) {
	proc := discovertest.Start(t, discovertest.Build(t), discovertest.Options{}, "-pprof=127.0.0.1:0", "-work")
	base := "http://" + proc.Addrs["pprof"] + "/debug/pprof"
	sink := newMemory()
	cfg := quick(sink)
	cfg.CPUDuration = -1
	stays := Target{Service: "cart", URL: base, Types: []string{"heap"}, Labels: map[string]string{"team": "a"}}
	other := discovertest.Start(t, discovertest.Build(t), discovertest.Options{}, "-pprof=127.0.0.1:0")
	m, stop := run(t, cfg, stays, Target{Service: "gone", URL: "http://" + other.Addrs["pprof"] + "/debug/pprof", Types: []string{"goroutine"}})
	until(t, "intervals of both", func() bool { return len(sink.of("heap")) > 0 && len(sink.of("goroutine")) > 0 })
	if err := m.SetTargets([]Target{stays}); err != nil {
		t.Fatal(err)
	}
	if err := m.SetTargets([]Target{stays, {Service: "wrong"}}); err == nil {
		t.Error("no error of a target without an address")
	}
	before := len(sink.of("heap"))
	until(t, "more of what stays", func() bool { return len(sink.of("heap")) > before })
	st := m.Status()
	if len(st) != 1 || st[0].Gaps != 1 || m.Summary() != "1 listed target" {
		t.Errorf("status %+v, summary %q: the target that stays keeps its baseline, the other is gone", st, m.Summary())
	}
	stop()
	if err := m.Run(context.Background()); err == nil {
		t.Error("no error of a second Run")
	}
	if got := sink.of("heap")[0].labels["team"]; got != "a" {
		t.Errorf("label team=%q", got)
	}
}
