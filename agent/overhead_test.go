//go:build unix

package agent

import (
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

// overheadRun is what internal/overhead prints.
type overheadRun struct {
	Requests int   `json:"requests"`
	CPUNanos int64 `json:"cpu_ns"`
	GCCycles int64 `json:"gc_cycles"`
	Faults   int64 `json:"faults"`
	HeapLive int64 `json:"heap_live"`
	MaxRSS   int64 `json:"max_rss"`
}

// BenchmarkOverhead measures what the agent does to a whole program: real processes with and without it, in pairs, one after the
// other in alternating order, the same number of requests in each. It reports medians over the pairs of with ÷ without, and the
// lowest and highest of the CPU ratios.
//
//	go test -run xxx -bench Overhead -benchtime 1x -timeout 1h .
//
// SONDE_OVERHEAD_PAIRS (default 5) and SONDE_OVERHEAD_SECONDS of serving (default 8) set how long it takes. The agent's window is 5 s
// here instead of 15 s, and its Close captures once more within the run: what a window costs shows up some four times as often as in production.
// SONDE_OVERHEAD_MODE=pprof measures the runtime's CPU profile alone.
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
	none := []string(nil)
	noGC := func(mb int) []string { return []string{"GOGC=off", "GOMEMLIMIT=" + strconv.Itoa(mb) + "MiB"} }
	for _, tc := range []struct {
		name string
		url  string
		env  []string
		args []string
	}{
		{"heap=1MB", plain.URL, none, []string{"-heap=1"}},
		{"heap=8MB", plain.URL, none, []string{"-heap=8"}},
		{"heap=64MB", plain.URL, none, []string{"-heap=64"}},
		{"heap=512MB", plain.URL, none, []string{"-heap=512"}},
		{"heap=1MB/gogc=off/limit=256MB", plain.URL, noGC(256), []string{"-heap=1"}},
		{"heap=64MB/gogc=off/limit=512MB", plain.URL, noGC(512), []string{"-heap=64"}},
		{"heap=8MB/tls", secure.URL, []string{"SONDE_CA_FILE=" + ca}, []string{"-heap=8"}},
		{"heap=8MB/slow-collector", slow.URL, none, []string{"-heap=8"}},
		{"heap=8MB/goroutines=10000", plain.URL, none, []string{"-heap=8", "-goroutines=10000"}},
	} {
		b.Run(tc.name, func(b *testing.B) {
			env := append(append(os.Environ(), "SONDE_URL="+tc.url, "SONDE_PERIOD=5s"), tc.env...)
			for range b.N {
				pairedOverhead(b, bin, env, tc.args)
			}
		})
	}
}

// sinkHandler answers pushes after delay.
func sinkHandler(delay time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // a sender that breaks off shows in its own Close
		time.Sleep(delay)
		_, _ = io.WriteString(w, `{"status":"ok","settings":null}`)
	})
}

func pairedOverhead(b *testing.B, bin string, env, args []string) {
	pairs := envInt(b, "SONDE_OVERHEAD_PAIRS", 5)
	seconds := envInt(b, "SONDE_OVERHEAD_SECONDS", 8)
	with := "agent"
	if m := os.Getenv("SONDE_OVERHEAD_MODE"); m != "" {
		with = m
	}
	first := overheadChild(b, bin, env, append(args, "-mode=off", "-seconds="+strconv.Itoa(seconds)))
	fixed := append(args, "-requests="+strconv.Itoa(first.Requests))
	var cpuRatio, gcRatio, faultRatio, rss, perRequest []float64
	for i := range pairs {
		var off, on overheadRun
		for j := range 2 {
			if (i+j)%2 == 0 {
				off = overheadChild(b, bin, env, append(fixed, "-mode=off"))
			} else {
				on = overheadChild(b, bin, env, append(fixed, "-mode="+with))
			}
		}
		cpuRatio = append(cpuRatio, float64(on.CPUNanos)/float64(off.CPUNanos))
		gcRatio = append(gcRatio, (float64(on.GCCycles)+1)/(float64(off.GCCycles)+1))
		faultRatio = append(faultRatio, float64(on.Faults)/float64(max(off.Faults, 1)))
		rss = append(rss, float64(on.MaxRSS-off.MaxRSS)/1024)
		perRequest = append(perRequest, float64(off.CPUNanos)/float64(off.Requests)/1000)
		b.Logf("pair %d: cpu %.4f, gc cycles %d → %d, faults %d → %d, live heap %d → %d kB, rss %d → %d kB", i, cpuRatio[i],
			off.GCCycles, on.GCCycles, off.Faults, on.Faults, off.HeapLive>>10, on.HeapLive>>10, off.MaxRSS, on.MaxRSS)
	}
	b.ReportMetric(0, "ns/op") // wall time of child processes: it says nothing
	b.ReportMetric(median(perRequest), "µs-cpu/request")
	b.ReportMetric(median(cpuRatio), "cpu-ratio")
	b.ReportMetric(slices.Min(cpuRatio), "cpu-ratio-min")
	b.ReportMetric(slices.Max(cpuRatio), "cpu-ratio-max")
	b.ReportMetric(median(gcRatio), "gc-ratio")
	b.ReportMetric(median(faultRatio), "faults-ratio")
	b.ReportMetric(median(rss), "rss-more-MB")
}

func overheadChild(b *testing.B, bin string, env, args []string) (r overheadRun) {
	b.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.Env, cmd.Stderr = env, os.Stderr
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, &r)
	}
	if err != nil {
		b.Fatalf("run %v: %v: %s", args, err, out)
	}
	return r
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
