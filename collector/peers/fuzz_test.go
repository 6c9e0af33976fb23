package peers

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/pprofile"

	"github.com/sonde-io/sonde/collector/receive"
	"github.com/sonde-io/sonde/profiles/store"
)

// checkingSink refuses what the store would find invalid: a conversion must not make such a thing.
type checkingSink struct{ t *testing.T }

func (s checkingSink) Append(_ context.Context, p store.Push) error {
	for _, pr := range p.Profiles {
		d := pr.Data
		if pr.End <= pr.Start || pr.Labels.Get("service_name") == "" || len(d.Values) != len(d.Samples)*d.Columns() {
			s.t.Errorf("interval [%d, %d), labels %s, %d values for %d samples of %d columns", pr.Start, pr.End, pr.Labels, len(d.Values), len(d.Samples), d.Columns())
		}
		copied(d) // every index is looked at
	}
	if p.Taken != nil {
		p.Taken()
	}
	return nil
}

// handle sends a request to all of the endpoints' code without a network.
func handle(t *testing.T, method, path string, header map[string]string, body []byte) *httptest.ResponseRecorder {
	rc := receive.New(receive.Config{Sink: checkingSink{t}, Processes: noProcesses{}, Now: func() time.Time { return time.UnixMilli(1_795_241_460_123) },
		Limits: receive.Limits{BodyBytes: 1 << 20, DecompressedBytes: 4 << 20, Samples: 5000, Labels: 16, LabelNameBytes: 64, LabelValueBytes: 256, Concurrent: 4}})
	mux := http.NewServeMux()
	New(Config{Receive: rc}).Register(mux)
	r := httptest.NewRequest(method, "http://127.0.0.1/", bytes.NewReader(body))
	path, query, _ := strings.Cut(path, "?")
	r.URL.Path, r.URL.RawQuery = path, query
	for k, v := range header {
		r.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, r)
	if w.Code >= 500 && w.Code != 503 && w.Code != 501 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	return w
}

var fuzzTime = time.UnixMilli(1_795_241_400_000)

func FuzzIngestName(f *testing.F) {
	for _, s := range []string{"cart", "cart{a=b,c=d}", "cart{otel.scope.name=x,__session_id__=1}", "{", "a{b}", "a{=}", "a{b=c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		app, labels, err := parseName(s)
		if err != nil {
			return
		}
		o := newOrigin(labels)
		o.labels["service_name"] = service(map[string]string{"service_name": app})
		o.fit(limits())
		if len(o.labels) > limits().Labels || len(o.id("x")) > 128 {
			t.Errorf("%d labels, instance %q", len(o.labels), o.id("x"))
		}
		for name := range o.labels {
			if name == "" || strings.HasPrefix(name, "__") || labelName(name) != name {
				t.Errorf("label %q", name)
			}
		}
	})
}

func FuzzIngest(f *testing.F) {
	good := pprofOf(cpuTypes, fuzzTime, 15*time.Second, stack{"main;a", []int64{3, 30}})
	f.Add("name=cart", "multipart/form-data; boundary=b", []byte("--b\r\nContent-Disposition: form-data; name=\"profile\"\r\n\r\n"+string(good)+"\r\n--b--\r\n"))
	f.Add("name=cart&format=pprof", "application/octet-stream", good)
	f.Add("name=cart.alloc_space&units=bytes", "", []byte("main;a 3\nmain;b 4\n"))
	f.Add("name=cart&format=lines&from=1795241400&until=1795241415", "", []byte("main;a\n"))
	f.Fuzz(func(t *testing.T, query, contentType string, body []byte) {
		handle(t, "POST", ingestPath+"?"+query, map[string]string{"Content-Type": contentType}, body)
	})
}

// FuzzPushProto compares with the same message read as gRPC and written as JSON.
func FuzzPushProto(f *testing.F) {
	f.Add(pushMessage(map[string]string{"service_name": "cart"}, pprofOf(cpuTypes, fuzzTime, 15*time.Second, stack{"main;a", []int64{3, 30}})))
	f.Add(pushMessage(map[string]string{"__name__": "memory"}, pprofOf(heapTypes, fuzzTime, 0, stack{"main;a", []int64{3, 30, 1, 2}})))
	f.Add([]byte{0x0a, 0x00})
	f.Fuzz(func(t *testing.T, body []byte) {
		a := handle(t, "POST", pushPath, map[string]string{"Content-Type": "application/proto"}, body)
		b := handle(t, "POST", pushPath, map[string]string{"Content-Type": "application/grpc"}, frame(0, body))
		if (a.Code == 200) != (b.Result().Trailer.Get("Grpc-Status") == "0") {
			t.Errorf("connect says %d %s, gRPC %v", a.Code, a.Body, b.Result().Trailer)
		}
		series, err := decodePush(body)
		if err != nil {
			return
		}
		profiles := 0
		for _, s := range series {
			profiles += len(s.profiles)
		}
		if len(series) > maxPushSeries || profiles > maxPushSamples {
			t.Errorf("%d series, %d profiles", len(series), profiles)
		}
	})
}

func FuzzPushJSON(f *testing.F) {
	f.Add([]byte(`{"series":[{"labels":[{"name":"service_name","value":"cart"}],"samples":[{"rawProfile":"aGVsbG8=","ID":"x"}]}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		handle(t, "POST", pushPath, map[string]string{"Content-Type": "application/json"}, body)
	})
}

func FuzzGRPC(f *testing.F) {
	f.Add(frame(0, []byte("x")), "gzip")
	f.Add(frame(1, gzipped([]byte("x"))), "gzip")
	f.Add([]byte{0, 0xff, 0xff, 0xff, 0xff}, "")
	f.Fuzz(func(t *testing.T, body []byte, encoding string) {
		w := handle(t, "POST", exportPath, map[string]string{"Content-Type": "application/grpc", "Grpc-Encoding": encoding}, body)
		if s := w.Result().Trailer.Get("Grpc-Status"); w.Code != 200 || s == "" || s == "13" {
			t.Errorf("status %d, trailers %v", w.Code, w.Result().Trailer)
		}
		if _, err := io.ReadAll(w.Body); err != nil {
			t.Error(err)
		}
	})
}

func FuzzOTLP(f *testing.F) {
	f.Add(ebpfRequest(fuzzTime).proto(f), false)
	f.Add(ebpfRequest(fuzzTime).json(f), true)
	f.Add([]byte{0x12, 0x02, 0x2a, 0x00}, false)
	f.Fuzz(func(t *testing.T, body []byte, inJSON bool) {
		contentType := "application/x-protobuf"
		if inJSON {
			contentType = "application/json"
		}
		handle(t, "POST", otlpPath, map[string]string{"Content-Type": contentType}, body)
	})
}

// FuzzOTLPCost compares the walk that estimates memory with the library: what the one refuses as no message the other may not read, and the estimate is no less than
// what the samples, locations and strings take.
func FuzzOTLPCost(f *testing.F) {
	f.Add(ebpfRequest(fuzzTime).proto(f))
	f.Fuzz(func(t *testing.T, body []byte) {
		cost, err := costOfProto(body)
		if err != nil {
			return
		}
		pd, err := (&pprofile.ProtoUnmarshaler{}).UnmarshalProfiles(body)
		if err != nil {
			return
		}
		d := pd.Dictionary()
		least := int64(d.LocationTable().Len()*64 + d.StackTable().Len()*24 + d.StringTable().Len()*16 + d.FunctionTable().Len()*24 + pd.SampleCount()*96)
		if cost < least {
			t.Errorf("estimated %d bytes, the tables alone take %d", cost, least)
		}
	})
}
