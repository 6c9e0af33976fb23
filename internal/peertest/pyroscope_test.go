package peertest

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/pprof/profile"
	"github.com/grafana/pyroscope-go"
	pushv1 "github.com/grafana/pyroscope/api/gen/proto/go/push/v1"
	"github.com/grafana/pyroscope/api/gen/proto/go/push/v1/pushv1connect"
	typesv1 "github.com/grafana/pyroscope/api/gen/proto/go/types/v1"
)

// sums adds up what was sent, by type of profile and column.
type sums map[string]int64

// gauge reports whether a column holds what is alive.
func gauge(column string) bool { return strings.HasPrefix(column, "inuse_") || column == "goroutine" }

// typeName says which of the collector's types a profile is, from what the SDK says about its columns.
func typeName(p *profile.Profile, config map[string]struct {
	DisplayName string `json:"display-name"`
}) string {
	for _, st := range p.SampleType {
		switch {
		case st.Type == "cpu":
			return "cpu"
		case strings.HasPrefix(st.Type, "alloc_"):
			return "heap"
		case st.Type == "goroutine":
			return "goroutine"
		case st.Type == "delay":
			kind, _, _ := strings.Cut(config["delay"].DisplayName, "_")
			return kind
		}
	}
	return "?"
}

// ingested reads what the SDK sent: its type, totals by column, and interval in Unix ms.
func ingested(t *testing.T, r request) (typ string, totals map[string]int64, start, end int64) {
	t.Helper()
	u, err := url.Parse(r.uri)
	if err != nil {
		t.Fatal(err)
	}
	_, params, err := mime.ParseMediaType(r.header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	mr := multipart.NewReader(bytes.NewReader(r.body), params["boundary"])
	var p *profile.Profile
	config := map[string]struct {
		DisplayName string `json:"display-name"`
	}{}
	for {
		part, err := mr.NextPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(part)
		if err != nil {
			t.Fatal(err)
		}
		switch part.FormName() {
		case "profile":
			if p, err = profile.ParseData(b); err != nil {
				t.Fatal(err)
			}
		case "sample_type_config":
			if err := json.Unmarshal(b, &config); err != nil {
				t.Fatal(err)
			}
		}
	}
	totals = map[string]int64{}
	for i, st := range p.SampleType {
		for _, s := range p.Sample {
			totals[st.Type] += s.Value[i]
		}
	}
	from, err1 := strconv.ParseInt(u.Query().Get("from"), 10, 64)
	until, err2 := strconv.ParseInt(u.Query().Get("until"), 10, 64)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	return typeName(p, config), totals, from / 1e6, until / 1e6
}

// work uses CPU, memory and locks for a while.
func work(d time.Duration) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	kept := map[int][]byte{}
	end := time.Now().Add(d)
	for n := range 3 {
		wg.Go(func() {
			for i := 0; time.Now().Before(end); i++ {
				mu.Lock()
				kept[(n*1000+i)%64] = bytes.Repeat([]byte{byte(i)}, 10_000)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	runtime.KeepAlive(kept)
}

// TestPyroscopeGo profiles this program with the real SDK.
func TestPyroscopeGo(t *testing.T) {
	c := serve(t)
	runtime.SetMutexProfileFraction(1)
	runtime.SetBlockProfileRate(1)
	defer runtime.SetMutexProfileFraction(0)
	defer runtime.SetBlockProfileRate(0)
	start := time.Now()
	p, err := pyroscope.Start(pyroscope.Config{ApplicationName: "cart", ServerAddress: c.proxy.URL, UploadRate: time.Second, Tags: map[string]string{"hostname": "n1", "region": "eu"},
		ProfileTypes: []pyroscope.ProfileType{pyroscope.ProfileCPU, pyroscope.ProfileAllocObjects, pyroscope.ProfileAllocSpace, pyroscope.ProfileInuseObjects, pyroscope.ProfileInuseSpace,
			pyroscope.ProfileGoroutines, pyroscope.ProfileMutexCount, pyroscope.ProfileMutexDuration, pyroscope.ProfileBlockCount, pyroscope.ProfileBlockDuration}})
	if err != nil {
		t.Fatal(err)
	}
	work(3500 * time.Millisecond)
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	sent, kept := sums{}, map[string]bool{}
	for _, r := range c.passed() {
		if r.status != http.StatusOK {
			t.Fatalf("%s answered %d", r.uri, r.status)
		}
		typ, totals, from, until := ingested(t, r)
		var want []string
		for column, v := range totals {
			id := typ + ":" + column
			want = append(want, fmt.Sprintf("cart %s=%d", id, v))
			if !gauge(column) {
				sent[id] += v
			} else if got := c.total(t, "cart", id, from, until); got != v {
				t.Errorf("%s: the SDK sent %d for [%d, %d), the collector holds %d", id, v, from, until, got)
			}
		}
		if !kept[typ] {
			kept[typ] = true
			keep(t, "pyroscope-go-"+typ, r, want)
		}
	}
	if len(kept) != 5 {
		t.Errorf("the SDK sent %v, want cpu, heap, goroutine, mutex and block", kept)
	}
	from, to := start.Add(-2*time.Second).UnixMilli(), time.Now().UnixMilli()
	for id, want := range sent {
		if id == "cpu:samples" {
			continue // the store keeps one of both, as they are proportional
		}
		got := c.total(t, "cart", id, from, to)
		t.Logf("%-22s sent %d, held %d", id, want, got)
		if got != want {
			t.Errorf("%s: the SDK sent %d, the collector holds %d", id, want, got)
		}
	}
	var answer struct {
		Processes []struct {
			Service, Gatherer, Host string
			GoVersion               string `json:"go_version"`
			Labels                  map[string]string
		}
	}
	c.get(t, "/api/v1/processes?service=cart", &answer)
	if len(answer.Processes) != 1 {
		t.Fatalf("%d processes: %+v", len(answer.Processes), answer.Processes)
	}
	if got := answer.Processes[0]; got.Gatherer != "sdk" || got.Host != "n1" || got.GoVersion != runtime.Version() || got.Labels["region"] != "eu" {
		t.Errorf("process %+v", got)
	}
}

// cpuProfile is a CPU profile of 10 s that ended a minute ago.
func cpuProfile(t *testing.T, n int64) []byte {
	t.Helper()
	fn := &profile.Function{ID: 1, Name: "main.work", SystemName: "main.work", Filename: "/src/main.go"}
	m := &profile.Mapping{ID: 1, Start: 0x400000, Limit: 0x500000, File: "/app/cart", BuildID: "abcd", HasFunctions: true}
	l := &profile.Location{ID: 1, Mapping: m, Address: 0x401000, Line: []profile.Line{{Function: fn, Line: 7}}}
	p := &profile.Profile{SampleType: []*profile.ValueType{{Type: "samples", Unit: "count"}, {Type: "cpu", Unit: "nanoseconds"}}, PeriodType: &profile.ValueType{Type: "cpu", Unit: "nanoseconds"},
		Period: 10_000_000, TimeNanos: time.Now().Add(-70*time.Second).UnixNano() + n, DurationNanos: int64(10 * time.Second),
		Sample: []*profile.Sample{{Location: []*profile.Location{l}, Value: []int64{n, n * 10_000_000}}}, Mapping: []*profile.Mapping{m}, Location: []*profile.Location{l}, Function: []*profile.Function{fn}}
	var b bytes.Buffer
	if err := p.Write(&b); err != nil {
		t.Fatal(err)
	}
	if _, err := gzip.NewReader(bytes.NewReader(b.Bytes())); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestPush calls the push API with the client that Alloy and the newer SDKs use, in all the ways that it has.
func TestPush(t *testing.T) {
	c := serve(t)
	h2 := &http.Protocols{}
	h2.SetUnencryptedHTTP2(true)
	overH2 := &http.Client{Transport: &http.Transport{Protocols: h2}}
	defer overH2.CloseIdleConnections()
	want := int64(0)
	start := time.Now()
	for i, tt := range []struct {
		name   string
		client *http.Client
		opts   []connect.ClientOption
	}{
		{"connect-proto", http.DefaultClient, nil},
		{"connect-gzip", http.DefaultClient, []connect.ClientOption{connect.WithSendGzip()}},
		{"connect-json", http.DefaultClient, []connect.ClientOption{connect.WithProtoJSON()}},
		{"grpc", overH2, []connect.ClientOption{connect.WithGRPC()}},
		{"grpc-gzip", overH2, []connect.ClientOption{connect.WithGRPC(), connect.WithSendGzip()}},
	} {
		n := int64(i + 1)
		client := pushv1connect.NewPusherServiceClient(tt.client, c.proxy.URL, tt.opts...)
		_, err := client.Push(t.Context(), connect.NewRequest(&pushv1.PushRequest{Series: []*pushv1.RawProfileSeries{{
			Labels:  []*typesv1.LabelPair{{Name: "__name__", Value: "process_cpu"}, {Name: "__delta__", Value: "false"}, {Name: "service_name", Value: "pushed"}, {Name: "namespace", Value: "shop"}, {Name: "pod", Value: tt.name}},
			Samples: []*pushv1.RawSample{{RawProfile: cpuProfile(t, n)}}}}}))
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		want += n * 10_000_000
		passed := c.passed()
		keep(t, "push-"+tt.name, passed[len(passed)-1], []string{fmt.Sprintf("pushed cpu:samples=%d", n), fmt.Sprintf("pushed cpu:cpu=%d", n*10_000_000)})
	}
	if got := c.total(t, "pushed", "cpu", start.Add(-5*time.Minute).UnixMilli(), time.Now().UnixMilli()); got != want {
		t.Errorf("pushed %d ns, the collector holds %d", want, got)
	}
	for _, opts := range [][]connect.ClientOption{nil, {connect.WithGRPC()}} {
		client := pushv1connect.NewPusherServiceClient(overH2, c.proxy.URL, opts...)
		_, err := client.Push(t.Context(), connect.NewRequest(&pushv1.PushRequest{Series: []*pushv1.RawProfileSeries{{Samples: []*pushv1.RawSample{{RawProfile: []byte("hello")}}}}}))
		if connect.CodeOf(err) != connect.CodeInvalidArgument || !strings.Contains(err.Error(), "series[0].samples[0]") {
			t.Errorf("error %v of what is no profile, want invalid_argument that says where", err)
		}
	}
}
