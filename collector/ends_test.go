package collector

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/forward"
	"github.com/sonde-io/sonde/collector/forward/spool"
	"github.com/sonde-io/sonde/collector/procstat"
	"github.com/sonde-io/sonde/collector/receive"
	"github.com/sonde-io/sonde/collector/series"
	"github.com/sonde-io/sonde/internal/catalog"
)

// value returns what a query answers: one number, or "" where there is none.
func (r *running) value(t testing.TB, expr string) string {
	t.Helper()
	var answer struct {
		Data struct {
			Result []struct {
				Value [2]any
			}
		}
	}
	if status := r.get(t, "/prometheus/api/v1/query?query="+url.QueryEscape(expr), &answer); status != http.StatusOK || len(answer.Data.Result) > 1 {
		t.Fatalf("%s: %d %v", expr, status, answer)
	}
	if len(answer.Data.Result) == 0 {
		return ""
	}
	return fmt.Sprint(answer.Data.Result[0].Value[1])
}

// await waits until a query answers what is wanted.
func (r *running) await(t testing.TB, expr, want string) {
	t.Helper()
	got := ""
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if got = r.value(t, expr); got == want {
			return
		}
	}
	t.Errorf("%s is %q, want %q", expr, got, want)
}

// TestEndsAndDeletions: what a sidecar tells of ends ends series in the collector, however it tells it, and what is deleted of a service are its series too, for good.
func TestEndsAndDeletions(t *testing.T) {
	dir := t.TempDir()
	r := start(t, testConfig(dir), nil)
	f, err := forward.New(forward.Config{Upstream: r.url, Dir: t.TempDir(), SpoolBytes: spool.MinBytes, BatchWait: time.Millisecond,
		Limits: receive.Limits{BodyBytes: 16 << 20, DecompressedBytes: 64 << 20, Samples: 500_000, Labels: 64, LabelNameBytes: 128, LabelValueBytes: 1024, Concurrent: 16}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	forwarded := make(chan error, 1)
	go func() { forwarded <- f.Run(ctx) }()
	process := func(service, instance string) labels.Labels {
		return labels.FromStrings("service_name", service, "service_instance_id", instance)
	}
	now := time.Now()
	var bs []series.Batch
	for instance, service := range map[string]string{"c1": "cart", "c2": "cart", "c3": "cart", "p1": "pay"} {
		bs = append(bs, series.Batch{Process: process(service, instance), Samples: []series.Sample{{Labels: labels.FromStrings("__name__", "process_threads"), T: now.UnixMilli(), V: 7}}})
	}
	if err := f.AppendSeries(t.Context(), bs...); err != nil {
		t.Fatal(err)
	}
	cart, pay := `count(process_threads{service_name="cart"})`, `count(process_threads{service_name="pay"})`
	r.await(t, cart, "3")
	if err := f.Events(t.Context(), []catalog.Event{{Time: time.Now().UnixMilli(), Kind: "exit", Service: "cart", Text: "cart ended", Attrs: map[string]string{"instance": "c1"}}}); err != nil {
		t.Fatal(err)
	}
	r.await(t, cart, "2")
	f.Seen(t.Context(), []catalog.Process{{Instance: "c2", Service: "cart", Labels: process("cart", "c2"), State: "exited", LastSeen: now.Add(-time.Minute).UnixMilli()}})
	r.await(t, cart, "1")
	cancel()
	if err := <-forwarded; err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}

	req, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, r.url+"/api/v1/profiles?service=cart", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("delete: %s", resp.Status)
	}
	gone := func() {
		t.Helper()
		for expr, want := range map[string]string{`sum(count_over_time(process_threads{service_name="cart"}[1h]))`: "", pay: "1"} {
			if got := r.value(t, expr); got != want {
				t.Errorf("after the deletion %s is %q, want %q", expr, got, want)
			}
		}
	}
	gone()
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	r = start(t, testConfig(dir), nil)
	gone()
}

// TestRenamed: what was measured of a process before its agent said anything ends where it goes on under the agent's name.
func TestRenamed(t *testing.T) {
	var told []string
	g := &gatherers{out: outlets{renamed: func(_ context.Context, instances []string) { told = append(told, instances...) }}}
	scan := func(ts ...procstat.Target) { g.rename(t.Context(), ts) }
	scan(procstat.Target{PID: 7, Start: 1, Instance: "found"}, procstat.Target{PID: 8, Start: 2, Instance: "other"})
	scan(procstat.Target{PID: 7, Start: 1, Instance: "agent", Agent: true}, procstat.Target{PID: 8, Start: 3, Instance: "next of that pid"})
	scan(procstat.Target{PID: 7, Start: 1, Instance: "agent", Agent: true})
	if fmt.Sprint(told) != "[found]" {
		t.Errorf("renamed are %v, want found", told)
	}
}
