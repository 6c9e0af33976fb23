package e2e

import (
	"os/exec"
	"testing"
	"time"
)

// BenchmarkSidecarNode runs a sidecar, with all that it does by default, on a node with 500 Go processes that have neither agent nor endpoint and rest most of the time. It prints the
// sidecar's memory and the share of one CPU that it takes once it knows them all, in all and for a scan.
func BenchmarkSidecarNode(b *testing.B) {
	const processes, watched = 500, 60 * time.Second
	bin, err := sonde()
	if err != nil {
		b.Fatal(err)
	}
	bins := b.TempDir()
	rest := fixture(b, bins, "resting")
	for range processes {
		cmd := exec.Command(rest)
		cmd.Env = []string{"GOMAXPROCS=1"}
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() {
			cmd.Process.Kill()
			cmd.Wait()
		})
	}
	srv := startServe(b, b.TempDir())
	addr := freeAddr(b)
	side := spawnCommand(b, addr, bin, "sidecar", "--upstream", srv.url, "--listen", addr, "--data", b.TempDir(), "--allow", "path:"+bins+"/*", "--log-level", "warn")
	side.await(b)
	figure := func(name string) float64 {
		v, err := side.metric(name)
		if err != nil {
			b.Fatal(err)
		}
		return v
	}
	for deadline := time.Now().Add(2 * time.Minute); figure("sonde_inspect_targets") < processes; time.Sleep(time.Second) {
		if time.Now().After(deadline) {
			b.Fatalf("%v of %d processes are watched", figure("sonde_inspect_targets"), processes)
		}
	}
	time.Sleep(watched) // every process has been captured once
	cpu, scans, scanned, began := figure("process_cpu_seconds_total"), figure("sonde_discover_scan_seconds_count"), figure("sonde_discover_scan_seconds_sum"), time.Now()
	time.Sleep(watched)
	took := time.Since(began).Seconds()
	b.ReportMetric((figure("process_cpu_seconds_total")-cpu)/took*100, "%cpu")
	b.ReportMetric((figure("sonde_discover_scan_seconds_sum")-scanned)/(figure("sonde_discover_scan_seconds_count")-scans)*1000, "ms/scan")
	b.ReportMetric(figure("process_resident_memory_bytes")/1e6, "MB-RSS")
	b.ReportMetric(figure("sonde_inspect_profiles_total{type=\"goroutine\"}"), "goroutine-profiles")
	b.ReportMetric(0, "ns/op")
}
