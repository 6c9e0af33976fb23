package e2e

import (
	"context"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/sonde-io/sonde/collector/discover"
	"github.com/sonde-io/sonde/collector/discover/discovertest"
	"github.com/sonde-io/sonde/collector/exposed"
	"github.com/sonde-io/sonde/collector/forward"
	"github.com/sonde-io/sonde/collector/forward/spool"
	"github.com/sonde-io/sonde/collector/metrics"
	"github.com/sonde-io/sonde/collector/procstat"
	"github.com/sonde-io/sonde/collector/receive"
	"github.com/sonde-io/sonde/collector/scrape"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles/store"
)

// noProfiles is a sink that forgets profiles.
type noProfiles struct{}

func (noProfiles) Append(context.Context, store.Push) error { return nil }

func (noProfiles) Process(context.Context, string) (catalog.Process, error) {
	return catalog.Process{}, catalog.ErrNotFound
}

// TestMetricsOfNode has what a node's gatherers read of a real process without an agent go through a sidecar's spool into the time series database: what its gops agent says, what /proc knows, each
// series once, under the labels of its process, job and instance among them.
func TestMetricsOfNode(t *testing.T) {
	db, err := metrics.Open(t.Context(), metrics.Config{Dir: filepath.Join(t.TempDir(), "metrics")})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	limits := receive.Limits{BodyBytes: 16 << 20, DecompressedBytes: 64 << 20, Samples: 500_000, Labels: 64, LabelNameBytes: 128, LabelValueBytes: 1024, Concurrent: 16}
	mux := http.NewServeMux()
	receive.New(receive.Config{Sink: noProfiles{}, Processes: noProfiles{}, Limits: limits, Series: db}).Register(mux)
	collector := httptest.NewServer(mux)
	defer collector.Close()
	sidecar, err := forward.New(forward.Config{Upstream: collector.URL, Dir: t.TempDir(), SpoolBytes: spool.MinBytes, Limits: limits, BatchWait: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer sidecar.Close()

	proc := discovertest.Start(t, discovertest.Build(t), discovertest.Options{Env: []string{"HOME=" + t.TempDir(), "OTEL_SERVICE_NAME=cart"}}, "-gops")
	scanner, err := discover.New(discover.Config{Host: "n1", AgentSeen: func(_ string, _, _ uint64, pids []int) bool { return pids[0] != proc.PID }})
	if err != nil {
		t.Fatal(err)
	}
	defer scanner.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var scraper *scrape.Manager
	var files *procstat.Manager
	scraper, err = scrape.New(scrape.Config{Sink: noProfiles{}, Scanner: scanner, CPUDuration: -1, Period: time.Hour, ScanPeriod: 100 * time.Millisecond, Host: "n1", Report: func(_ context.Context, r discover.Report) {
		r.Processes = only(r.Processes, proc.PID)
		files.SetTargets(procstat.Targets(r, "n1", sidecar.AgentOf))
	}})
	if err != nil {
		t.Fatal(err)
	}
	own, err := exposed.New(exposed.Config{Source: scraper, Series: sidecar, Every: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	files = procstat.New(procstat.Config{Series: sidecar, Given: own.Given, Every: 200 * time.Millisecond})
	var running sync.WaitGroup
	for _, run := range []func(context.Context) error{sidecar.Run, scraper.Run, own.Run, files.Run} {
		running.Go(func() {
			if err := run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	defer running.Wait()
	defer cancel()

	of := `{job="cart",service_name="cart",host_name="n1"}`
	for _, q := range []string{"go_memstats_heap_sys_bytes" + of + " > 1e5", "go_goroutines" + of, "process_open_fds" + of, "process_resident_memory_bytes" + of + " > 1e6", "process_threads" + of,
		"process_start_time_seconds" + of + " > 1.7e9", "increase(process_cpu_seconds_total" + of + "[1m]) >= 0", `count by (instance) ({__name__=~"go_.*",instance!=""}) > 15`} {
		var got []metrics.Series
		for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
			if got, err = db.Query(t.Context(), q, time.Now()); err != nil {
				t.Fatalf("%s: %v", q, err)
			}
			if len(got) == 1 || time.Now().After(end) {
				break
			}
		}
		if len(got) != 1 {
			t.Errorf("%s: %d series, want one: %v", q, len(got), got)
		}
	}
}

// only returns the process with that pid.
func only(ps []discover.Process, pid int) []discover.Process {
	for i := range ps {
		if ps[i].PID == pid {
			return ps[i : i+1]
		}
	}
	return nil
}
