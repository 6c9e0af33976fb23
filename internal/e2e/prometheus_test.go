package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestPrometheusWrites has an unmodified Prometheus of Debian send what it finds out of itself to both addresses that a collector has for remote-write: it is all there, and
// Prometheus says itself, in what it sends, that nothing was refused.
func TestPrometheusWrites(t *testing.T) {
	exe, err := filepath.Abs(filepath.Join("..", "..", ".cache", "debian", "prometheus", "usr", "bin", "prometheus"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(exe); err != nil {
		t.Skip("SKIPPED prometheus: Debian's is not in .cache/debian; .ci/setup fetches it where there is apt-get")
	}
	s := startServe(t, t.TempDir())
	addr, dir := freeAddr(t), t.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	text := fmt.Sprintf("global: {scrape_interval: 500ms}\nscrape_configs: [{job_name: self, static_configs: [{targets: ['%s']}]}]\nremote_write:\n", addr)
	for _, path := range []string{"/api/v1/write", "/prometheus/api/v1/write"} {
		text += fmt.Sprintf("- {url: '%s%s', queue_config: {batch_send_deadline: 200ms}, write_relabel_configs: [{target_label: way, replacement: '%s'}]}\n", s.url, path, path)
	}
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	log := new(syncBuffer)
	cmd := exec.Command(exe, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+addr)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("prometheus wrote:\n%s", log.tail(40))
		}
	})
	for expr, want := range map[string]string{
		`count(count by (way) (prometheus_build_info{job="self"}))`:                                                  "2",
		`count(count by (way) (count_over_time(prometheus_http_requests_total{handler="/metrics"}[5m]) > 2))`:        "2",
		`count(prometheus_remote_storage_samples_total > 1000)`:                                                      "4", // both queues, by both ways
		`sum(prometheus_remote_storage_samples_failed_total) + sum(prometheus_remote_storage_samples_dropped_total)`: "0",
	} {
		awaitAnswer(t, s, expr, want)
	}
}

// awaitAnswer waits until a query is answered with that number.
func awaitAnswer(t *testing.T, s *server, expr, want string) {
	t.Helper()
	last := ""
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		resp, err := http.Get(s.url + "/prometheus/api/v1/query?query=" + url.QueryEscape(expr))
		if err != nil {
			t.Fatal(err)
		}
		var answer struct {
			Data struct{ Result []struct{ Value [2]any } }
		}
		err = json.NewDecoder(resp.Body).Decode(&answer)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s %v", expr, resp.Status, err)
		}
		if last = fmt.Sprint(answer.Data.Result); len(answer.Data.Result) == 1 && strings.HasSuffix(last, " "+want+"]}]") {
			return
		}
	}
	t.Errorf("%s is %s, want %s", expr, last, want)
}
