package metrics

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sonde-io/sonde/collector/series"
)

// debian returns the path of a program of Debian's package prometheus, as it was released.
func debian(t *testing.T, name string) string {
	t.Helper()
	exe, err := filepath.Abs(filepath.Join("..", "..", ".cache", "debian", "prometheus", "usr", "bin", name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(exe); err != nil {
		t.Skipf("SKIPPED %s: Debian's prometheus is not in .cache/debian; .ci/setup fetches it where there is apt-get", name)
	}
	return exe
}

func TestPromtool(t *testing.T) {
	promtool := debian(t, "promtool")
	dir := filepath.Join(t.TempDir(), "metrics")
	s, now := filled(t, Config{Dir: dir})
	srv := serve(t, s)
	at := fmt.Sprint(now.Unix())
	for _, tc := range []struct {
		want string
		args []string
	}{
		{"{} => 12 @[" + at + "]", []string{"query", "instant", "--time=" + at, srv.URL + Prefix, "sum(go_goroutines)"}},
		{`go_goroutines{instance="i2", job="shop/pay"`, []string{"query", "range", "--start=" + at, "--end=" + fmt.Sprint(now.Unix()+1), srv.URL + Prefix, `go_goroutines{service_name="pay"}`}},
		{"cart_orders_total", []string{"query", "series", "--match=cart_orders_total", srv.URL + Prefix}},
		{"shop/cart", []string{"query", "labels", srv.URL + Prefix, "job"}},
	} {
		out, err := exec.CommandContext(t.Context(), promtool, tc.args...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), tc.want) {
			t.Errorf("promtool %v: %v\n%s\nwant %s", tc.args, err, out, tc.want)
		}
	}
	resp, err := http.Get(srv.URL + Prefix + "/federate?match[]={__name__=~%22.%2B%22}")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	cmd := exec.CommandContext(t.Context(), promtool, "check", "metrics", "--extended")
	cmd.Stdin = resp.Body
	// It finds fault with names, which are others' (exit code 3), and must not with the format.
	if out, err := cmd.CombinedOutput(); err != nil && cmd.ProcessState.ExitCode() != 3 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}

// promConfig is that of a Prometheus that federates from Sonde and asks it for series that it has not.
const promConfig = `
global: {scrape_interval: 500ms}
scrape_configs:
- {job_name: sonde, honor_labels: true, metrics_path: /prometheus/federate, params: {"match[]": ['{__name__=~"go_goroutines|go_gc_pauses_seconds"}']}, static_configs: [{targets: [SONDE]}]}
remote_read:
- {url: "http://SONDE/prometheus/api/v1/read", required_matchers: {kind: new}, read_recent: true}
`

// TestPrometheus has an unmodified Prometheus of Debian federate from Sonde's API and read from it. That it writes to a collector internal/e2e tests.
func TestPrometheus(t *testing.T) {
	exe := debian(t, "prometheus")
	s := open(t, Config{})
	mux := http.NewServeMux()
	if err := s.Register(mux); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(mux)
	defer srv.Close()
	addr := startPrometheus(t, exe, strings.TrimPrefix(srv.URL, "http://"))
	base := "http://" + addr
	feed := func() {
		now := time.Now()
		appendAll(t, s, series.Batch{Process: process("cart", "i1"), Samples: []series.Sample{sample("go_goroutines", now, 9), sample("cart_orders_total", now, 12, "kind", "new"), pauses(now, 4, 1, 5)}})
	}
	for _, tc := range []struct{ what, url, want string }{
		{"federation", base + "/api/v1/query?query=go_goroutines{job=%22shop/cart%22}", `"service_name":"cart"`},
		{"federation of a histogram", base + "/api/v1/query?query=go_gc_pauses_seconds_bucket{job=%22shop/cart%22,le=%220.01%22}", `"5"]`},
		{"remote-read", base + "/api/v1/query?query=cart_orders_total{kind=%22new%22}", `"12"]`},
	} {
		eventually(t, tc.what, func() error {
			feed()
			resp, err := http.Get(tc.url)
			if err != nil {
				return err // it is not up yet
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(body), tc.want) {
				return fmt.Errorf("%s, error %w, %.500s; want %s", resp.Status, err, body, tc.want)
			}
			return nil
		})
	}
}

// startPrometheus starts a Prometheus beside the collector at sonde and returns its address.
func startPrometheus(t *testing.T, exe, sonde string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, []byte(strings.NewReplacer("http://SONDE", "http://"+sonde, "SONDE", "'"+sonde+"'").Replace(promConfig)), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, exe, "--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+addr)
	log := new(lockedBuffer)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // killed
		if t.Failed() {
			t.Logf("prometheus said:\n%s", log)
		}
	})
	return addr
}

// lockedBuffer is written by a program and read by the test.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// eventually tries for a minute.
func eventually(t *testing.T, what string, try func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if err = try(); err == nil {
			return
		}
	}
	t.Fatalf("%s: %v", what, err)
}
