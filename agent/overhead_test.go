//go:build unix

package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"
)

// overheadPhase is what internal/overhead prints of each phase.
type overheadPhase struct {
	On         bool    `json:"on"`
	Requests   float64 `json:"requests"`
	CPUNanos   float64 `json:"cpu_ns"`
	UserNanos  float64 `json:"user_ns"`
	GCCycles   float64 `json:"gc_cycles"`
	Faults     float64 `json:"faults"`
	AllocBytes float64 `json:"alloc_bytes"`
	HeapLive   float64 `json:"heap_live"`
	MaxRSS     float64 `json:"max_rss"` // kB
}

// overheadCase is one kind of program.
type overheadCase struct {
	name  string
	pairs int
	url   string
	env   []string
	args  []string
}

// BenchmarkOverhead measures what the agent does to a whole program in its steady state: phases of 15 s without and with it take turns in
// one process, and each phase with it has exactly one capture and one push, as in production. Its start, its first window and its Close are
// left out. Each phase with the agent is held against the mean of the two around it, per request; what is reported is the median of these
// ratios, and the lowest and the highest for the CPU. self-ratio is the same comparison between phases that all have no agent: what differs
// from 1 there is the machine's noise, and nothing closer to 1 than that can be told from none.
//
//	go test -run xxx -bench Overhead -benchtime 1x -timeout 1h .
//
// takes some 16 minutes. SONDE_OVERHEAD_PAIRS multiplies the pairs. SONDE_OVERHEAD_MODE=pprof measures the runtime's CPU profile alone
// instead, and ballast a buffer of the size that this profile has in the heap: in a program with a small heap it is most of what can be seen.
func BenchmarkOverhead(b *testing.B) {
	bin := filepath.Join(b.TempDir(), "overhead")
	if out, err := exec.Command("go", "build", "-o", bin, "./internal/overhead").CombinedOutput(); err != nil {
		b.Fatalf("build program: %v\n%s", err, out)
	}
	plain := httptest.NewServer(sinkHandler(0))
	defer plain.Close()
	slow := httptest.NewServer(sinkHandler(2 * time.Second))
	defer slow.Close()
	secure := httptest.NewTLSServer(sinkHandler(0))
	defer secure.Close()
	ca := filepath.Join(b.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}), 0o600); err != nil {
		b.Fatal(err)
	}
	watching := httptest.NewServer(watchingHandler())
	defer watching.Close()
	none := []string(nil)
	for _, tc := range []overheadCase{
		{"heap=1MB", 4, plain.URL, none, []string{"-heap=1"}},
		{"heap=1MB/gogc=off/limit=256MiB", 2, plain.URL, []string{"GOGC=off", "GOMEMLIMIT=256MiB"}, []string{"-heap=1"}},
		{"heap=8MB", 2, plain.URL, none, []string{"-heap=8"}},
		{"heap=64MB", 2, plain.URL, none, []string{"-heap=64"}},
		{"heap=512MB", 2, plain.URL, none, []string{"-heap=512"}},
		{"heap=8MB/tls", 1, secure.URL, []string{"SONDE_CA_FILE=" + ca}, []string{"-heap=8"}},
		{"heap=8MB/slow-collector", 1, slow.URL, none, []string{"-heap=8"}},
		{"heap=8MB/goroutines=10000", 1, plain.URL, none, []string{"-heap=8", "-goroutines=10000"}},
		{"heap=8MB/wall/goroutines=100", 2, plain.URL, []string{everyType}, []string{"-heap=8", "-goroutines=100"}},
		{"heap=8MB/wall/goroutines=10000", 1, plain.URL, []string{everyType}, []string{"-heap=8", "-goroutines=10000"}},
		{"heap=8MB/poll/triggers", 2, watching.URL, none, []string{"-heap=8"}},
	} {
		b.Run(tc.name, func(b *testing.B) {
			for range b.N {
				overheadOf(b, bin, tc)
			}
		})
	}
}

// overheadPeriod makes windows of 12.2 to 15 s. After a first one of at most 5.5 s, which ends within the program's lead, exactly one more ends in each phase.
const overheadPeriod = "13600ms"

// sinkHandler answers pushes after delay.
func sinkHandler(delay time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // a sender that breaks off shows in its own Close
		time.Sleep(delay)
		_, _ = io.WriteString(w, `{"status":"ok","settings":null}`)
	})
}

// everyType has the wall profile taken too.
const everyType = "SONDE_TYPES=cpu,heap,goroutine,mutex,block,wall"

// watchingHandler keeps a poll open and has the program watched by one trigger of each metric, none of which ever fires.
func watchingHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // a sender that breaks off shows in its own Close
		if r.URL.Path == "/api/v1/captures/next" {
			<-r.Context().Done()
			return
		}
		_, _ = io.WriteString(w, `{"status":"ok","settings":{"captures":{"poll":true},"triggers":[{"name":"a","metric":"cpu","above":1000},{"name":"b","metric":"heap","jump":1e6},
			{"name":"c","metric":"goroutines","above":1e9},{"name":"d","metric":"gc","above":2},{"name":"e","metric":"memory","above":100},{"name":"f","metric":"pressure","above":1000}]}}`)
	})
}

func overheadOf(b *testing.B, bin string, tc overheadCase) {
	mode := "agent"
	if m := os.Getenv("SONDE_OVERHEAD_MODE"); m != "" {
		mode = m
	}
	pairs := tc.pairs * envInt(b, "SONDE_OVERHEAD_PAIRS", 1)
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(pairs+1)*2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, append(tc.args, "-mode="+mode, "-pairs="+strconv.Itoa(pairs))...)
	cmd.Env, cmd.Stderr = append(append(os.Environ(), "SONDE_URL="+tc.url, "SONDE_PERIOD="+overheadPeriod), tc.env...), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		b.Fatalf("run %v: %v", tc.args, err)
	}
	var phases []overheadPhase
	for dec := json.NewDecoder(bytes.NewReader(out)); dec.More(); {
		var p overheadPhase
		if err := dec.Decode(&p); err != nil {
			b.Fatalf("read %s: %v", out, err)
		}
		phases = append(phases, p)
	}
	if len(phases) != 2*pairs+1 {
		b.Fatalf("%d phases, want %d", len(phases), 2*pairs+1)
	}
	reportOverhead(b, phases)
}

// reportOverhead compares each phase with the agent with its neighbours.
func reportOverhead(b *testing.B, phases []overheadPhase) {
	metrics := []struct {
		name string
		of   func(overheadPhase) float64
	}{
		{"cpu", func(p overheadPhase) float64 { return p.CPUNanos }},
		{"user", func(p overheadPhase) float64 { return p.UserNanos }},
		{"gc", func(p overheadPhase) float64 { return p.GCCycles + 1 }}, // a big heap may have none
		{"faults", func(p overheadPhase) float64 { return p.Faults + 1 }},
	}
	for _, m := range metrics {
		per := func(p overheadPhase) float64 { return m.of(p) / p.Requests }
		var ratios, self []float64
		for i := 1; i < len(phases); i += 2 {
			before, after := per(phases[i-1]), per(phases[i+1])
			ratios = append(ratios, per(phases[i])/((before+after)/2))
			self = append(self, max(after/before, before/after))
		}
		b.ReportMetric(median(ratios), m.name+"-ratio")
		if m.name == "cpu" {
			b.ReportMetric(slices.Min(ratios), "cpu-ratio-min")
			b.ReportMetric(slices.Max(ratios), "cpu-ratio-max")
			b.ReportMetric(median(self), "self-ratio")
		}
	}
	var live, perRequest []float64
	for i, p := range phases {
		b.Logf("on=%-5v %6.2f µs cpu/request, %5.0f gc cycles, %6.0f faults, live heap %6.2f MB, rss at most %6.1f MB", p.On,
			p.CPUNanos/p.Requests/1e3, p.GCCycles, p.Faults, p.HeapLive/1e6, p.MaxRSS/1e3)
		if i%2 == 1 {
			live = append(live, (p.HeapLive-(phases[i-1].HeapLive+phases[i+1].HeapLive)/2)/1e6)
		} else {
			perRequest = append(perRequest, p.CPUNanos/p.Requests/1e3)
		}
	}
	b.ReportMetric(0, "ns/op") // wall time of a child process: it says nothing
	b.ReportMetric(median(live), "live-heap-more-MB")
	b.ReportMetric(median(perRequest), "µs-cpu/request")
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

func envInt(b *testing.B, name string, def int) int {
	s := os.Getenv(name)
	if s == "" {
		return def
	}
	v, err := strconv.Atoi(s)
	if err != nil || v < 1 {
		b.Fatal(fmt.Errorf("%s=%q: want a number above 0", name, s))
	}
	return v
}
