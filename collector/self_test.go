package collector

import (
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"
)

// TestSelf has a collector watch itself: its goroutines are read like any other's, and what it says of itself is in its time series, with what the kernel knows of it.
func TestSelf(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("SKIPPED: processes are discovered on linux only, so watching itself is NOT tested")
	}
	cfg := testConfig(t.TempDir())
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cfg.Discover, cfg.Gather, cfg.Allow = true, []string{GatherMemory, GatherMetrics, GatherSelf}, []string{"path:" + exe}
	r := start(t, cfg, nil)
	pid := strconv.Itoa(os.Getpid())
	for _, name := range []string{"process_threads", "sonde_build_info", "go_goroutines", "process_cpu_seconds_total"} {
		var got int
		for deadline := time.Now().Add(90 * time.Second); got == 0 && time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
			got = samplesOf(t, r.url, name+`{process_pid="`+pid+`"}`)
		}
		if got != 1 {
			t.Errorf("%d series of %s, want one", got, name)
		}
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
}

// samplesOf returns how many series a PromQL query answers.
func samplesOf(t *testing.T, base, query string) int {
	t.Helper()
	res, err := http.Get(base + "/prometheus/api/v1/query?" + url.Values{"query": {query}}.Encode())
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var a struct {
		Status string
		Data   struct{ Result []json.RawMessage }
	}
	if err := json.NewDecoder(res.Body).Decode(&a); err != nil || a.Status != "success" {
		t.Fatalf("query %s: %+v, %v", query, a, err)
	}
	return len(a.Data.Result)
}
