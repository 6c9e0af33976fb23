package metrics

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sonde-io/sonde/collector/metrics/intake"
	"github.com/sonde-io/sonde/collector/series"
)

func remoteWrites(t testing.TB, text string) RemoteWrites {
	t.Helper()
	var r RemoteWrites
	if err := yaml.Unmarshal([]byte(text), &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestRemoteWriter: what one store takes another one gets, histograms of the runtime included, with the token of a file, although the server was away at first.
func TestRemoteWriter(t *testing.T) {
	receiver := open(t, Config{})
	write := intake.New(intake.Config{Series: receiver, Appendable: receiver.Appendable()}).RemoteWrite()
	var requests atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if requests.Add(1) == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		if r.Header.Get("Authorization") != "Bearer s3cret" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		write.ServeHTTP(w, r)
	}))
	defer srv.Close()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "token"), []byte("s3cret"), 0o600); err != nil {
		t.Fatal(err)
	}
	sender := open(t, Config{})
	w, err := sender.NewRemoteWriter(RemoteWriterConfig{Dir: dir, To: remoteWrites(t, fmt.Sprintf(
		`[{url: %q, authorization: {credentials_file: token}, queue_config: {batch_send_deadline: 100ms}, write_relabel_configs: [{target_label: cluster, replacement: blue}]}]`, srv.URL))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()

	kept := func() bool {
		now := time.Now()
		err := sender.AppendSeries(t.Context(), series.Batch{Process: process("cart", "i1"), Samples: []series.Sample{sample("go_goroutines", now, 7), pauses(now, 2, 1)}})
		if err != nil {
			t.Fatal(err)
		}
		q, err := receiver.Engine().NewInstantQuery(t.Context(), receiver.Queryable(), nil, `go_goroutines{cluster="blue",job="shop/cart",instance="i1"} + on (instance) histogram_count(go_gc_pauses_seconds)`, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		defer q.Close()
		v, err := q.Exec(t.Context()).Vector()
		if err != nil {
			t.Fatal(err)
		}
		return len(v) == 1 && v[0].F == 10
	}
	// What is appended before the log's follower has come to its end counts as history, which is not sent.
	for deadline := time.Now().Add(2 * time.Minute); !kept(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("nothing came in %d requests", requests.Load())
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestRemoteWritesRefused(t *testing.T) {
	for text, want := range map[string]string{
		`[{}]`:                        "url",
		`[a]`:                         "line 1",
		`[{url: "http://a", bad: 1}]`: "bad",
		`[{url: "http://a", protobuf_message: v3}]`:                        "v3",
		`[{url: "http://a", basic_auth: {}, authorization: {}}]`:           "basic_auth",
		`[{url: "http://a", write_relabel_configs: [{action: nonsense}]}]`: "nonsense",
	} {
		if err := remoteWrites(t, text).Validate(); err == nil || !strings.Contains(err.Error(), "remote_write") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one of remote_write with %q", text, err, want)
		}
	}
	if err := remoteWrites(t, `[{url: "http://a", send_native_histograms: false, protobuf_message: prometheus.WriteRequest}]`).Validate(); err != nil {
		t.Error(err)
	}
}
