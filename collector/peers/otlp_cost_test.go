package peers

import (
	"bytes"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/pprofile"
)

// What a request is estimated to take is no less than what it does take once it is decoded: of every kind of message as many as fit, as small as they can be.
func TestCostIsEnough(t *testing.T) {
	const n = 20_000
	many := func(path ...int) []byte {
		b := bytes.Repeat([]byte{byte(path[len(path)-1])<<3 | 2, 0}, n)
		for i := len(path) - 2; i >= 0; i-- {
			b = appendBytes(nil, path[i], b)
		}
		return b
	}
	bodies := map[string][]byte{
		"resources": many(1), "resource attributes": many(1, 1, 1), "entities": many(1, 1, 3), "scopes": many(1, 2), "scope attributes": many(1, 2, 1, 3), "profiles": many(1, 2, 2),
		"samples": many(1, 2, 2, 2), "sample types": many(1, 2, 2, 1), "mappings": many(2, 1), "locations": many(2, 2), "lines": many(2, 2, 3), "functions": many(2, 3), "links": many(2, 4),
		"strings": many(2, 5), "attributes": many(2, 6), "attribute lists": many(2, 6, 2, 5, 1), "attribute maps": many(2, 6, 2, 6, 1), "stacks": many(2, 7),
		"indices":    appendBytes(nil, 2, appendBytes(nil, 7, appendBytes(nil, 1, make([]byte, n)))),
		"values":     appendBytes(nil, 1, appendBytes(nil, 2, appendBytes(nil, 2, appendBytes(nil, 2, appendBytes(nil, 4, make([]byte, n)))))),
		"one by one": appendBytes(nil, 1, appendBytes(nil, 2, appendBytes(nil, 2, appendBytes(nil, 2, bytes.Repeat([]byte{4 << 3, 1}, n))))),
	}
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	for name, body := range bodies {
		t.Run(name, func(t *testing.T) {
			cost, err := costOfProto(body)
			if err != nil {
				t.Fatal(err)
			}
			before := heap()
			pd, err := (&pprofile.ProtoUnmarshaler{}).UnmarshalProfiles(body)
			if err != nil {
				t.Fatal(err)
			}
			took := heap() - before
			runtime.KeepAlive(pd)
			if took > cost {
				t.Errorf("estimated %d bytes, it takes %d", cost, took)
			}
		})
	}
	t.Run("JSON", func(t *testing.T) {
		for _, body := range []string{`{"resourceProfiles":[` + strings.Repeat(`{},`, n) + `{}]}`, `{"dictionary":{"stackTable":[{"locationIndices":[` + strings.Repeat("1,", n) + `1]}]}}`,
			`{"dictionary":{"stringTable":[` + strings.Repeat(`"",`, n) + `""]}}`, `{"dictionary":{"attributeTable":[` + strings.Repeat(`{"value":{"intValue":1}},`, n) + `{}]}}`} {
			cost, err := costOfJSON([]byte(body))
			if err != nil {
				t.Fatal(err)
			}
			before := heap()
			pd, err := (&pprofile.JSONUnmarshaler{}).UnmarshalProfiles([]byte(body))
			if err != nil {
				t.Fatal(err)
			}
			took := heap() - before
			runtime.KeepAlive(pd)
			if took > cost {
				t.Errorf("%.60s: estimated %d bytes, it takes %d", body, cost, took)
			}
		}
	})
}

// A small request must not become a large one: what each of its processes has a copy of is counted.
func TestOTLPDoesNotMultiply(t *testing.T) {
	at := time.Now().Add(-time.Minute)
	s := newServer(t, limits(), nil)
	r := newRequest()
	st := r.stack("main.main")
	l := r.dict.LocationTable().At(1)
	for range 2000 {
		l.Lines().AppendEmpty().SetFunctionIndex(1)
	}
	p := r.profile(r.resource("service.name", "cart"), "cpu", "nanoseconds", at)
	for i := range 1100 {
		r.sample(p, st, 1, r.attribute("process.pid", i))
	}
	if status, answer := s.post(t, otlpPath, "application/x-protobuf", r.proto(t)); status != 422 || !strings.Contains(answer, "max_lines") {
		t.Errorf("%d %s, want 422 with max_lines", status, answer)
	}
	r = newRequest()
	st = r.stack("main.main")
	p = r.profile(r.resource("service.name", "cart"), "cpu", "nanoseconds", at)
	for i := range maxProcesses + 1 {
		r.sample(p, st, 1, r.attribute("process.pid", i))
	}
	if status, answer := s.post(t, otlpPath, "application/x-protobuf", r.proto(t)); status != 422 || !strings.Contains(answer, "max_processes") {
		t.Errorf("%d %s, want 422 with max_processes", status, answer)
	}
}
