package api

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"runtime/trace"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/capture"
	"github.com/sonde-io/sonde/internal/blob"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/internal/fsys"
	"github.com/sonde-io/sonde/profiles"
)

// capturesFixture is a fixture with a Broker and one process, i1 of cart.
func capturesFixture(t *testing.T) (*fixture, *capture.Broker) {
	f := filled(t, nil)
	blobs, err := blob.OpenFiles(fsys.OS{}, filepath.Join(t.TempDir(), "blobs"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := capture.New(t.Context(), capture.Config{Catalog: f.cat, Blobs: blobs, Now: f.h.cfg.Now})
	if err != nil {
		t.Fatal(err)
	}
	f.h.RegisterCaptures(f.mux, b)
	capture.Register(f.mux, b, nil)
	if err := f.cat.PutProcesses(t.Context(), []catalog.Process{{Instance: "captured", Service: "cart", Labels: labels.FromStrings("service_name", "cart"), Gatherer: "agent", LastSeen: now.UnixMilli()}}); err != nil {
		t.Fatal(err)
	}
	return f, b
}

// take asks for a capture, takes it as an agent does, and returns its id.
func (f *fixture) take(t *testing.T, b *capture.Broker, kind string, data []byte) string {
	t.Helper()
	if _, err := b.Next(t.Context(), []string{"captured"}, 0); err != nil {
		t.Fatal(err)
	}
	var asked askedJSON
	if status, body := f.ask(t, "POST", "/api/v1/captures?service=cart&instance=captured&kind="+kind, &asked); status != 200 || len(asked.Captures) != 1 {
		t.Fatalf("%d %s", status, body)
	}
	c := asked.Captures[0]
	if status, body := f.ask(t, "GET", "/api/v1/captures/"+c.ID+"/result", nil); status != http.StatusConflict {
		t.Errorf("the result before it is there: %d %s", status, body)
	}
	tasks, err := b.Next(t.Context(), []string{"captured"}, 0)
	if err != nil || len(tasks) != 1 {
		t.Fatalf("%+v, %v", tasks, err)
	}
	if err := b.Deliver(t.Context(), capture.Result{ID: c.ID, Instance: "captured", Body: bytes.NewReader(data)}); err != nil {
		t.Fatal(err)
	}
	return c.ID
}

func TestCaptures(t *testing.T) {
	f, b := capturesFixture(t)
	var heap bytes.Buffer
	if err := pprof.Lookup("heap").WriteTo(&heap, 0); err != nil {
		t.Fatal(err)
	}
	id := f.take(t, b, "heap", heap.Bytes())
	var c captureJSON
	if status, body := f.ask(t, "GET", "/api/v1/captures/"+id, &c); status != 200 || c.State != "done" || c.File != "cart-heap-"+id+".pb.gz" || c.Size != int64(heap.Len()) {
		t.Errorf("%d %s", status, body)
	}
	w := f.get(t, "captures/"+id+"/result")
	if !bytes.Equal(w.Body.Bytes(), heap.Bytes()) || w.Header().Get("Content-Disposition") != `attachment; filename="`+c.File+`"` || w.Header().Get("Content-Type") != "application/octet-stream" {
		t.Errorf("the result: %d bytes, %v", w.Body.Len(), w.Header())
	}
	for _, typ := range []string{"", "heap:alloc_space"} {
		var flame profiles.Flame
		path := "/api/v1/captures/" + id + "/flamegraph"
		if typ != "" {
			path += "?type=" + typ
		}
		if status, body := f.ask(t, "GET", path, &flame); status != 200 || flame.Total == 0 || flame.Names[0] != "total" || flame.Type.Unit != "bytes" {
			t.Errorf("flame graph %q: %d %.300s", typ, status, body)
		}
	}
	var list struct{ Captures []captureJSON }
	if status, body := f.ask(t, "GET", "/api/v1/captures?service=cart&state=done,failed", &list); status != 200 || len(list.Captures) != 1 || list.Captures[0].ID != id {
		t.Errorf("list: %d %s", status, body)
	}
	for path, want := range map[string]int{
		"GET /api/v1/captures/none":                                                http.StatusNotFound,
		"GET /api/v1/captures/none/result":                                         http.StatusNotFound,
		"DELETE /api/v1/captures/" + id:                                            http.StatusNotFound,
		"POST /api/v1/captures?kind=heap":                                          http.StatusBadRequest,
		"POST /api/v1/captures?service=none&kind=heap":                             http.StatusNotFound,
		"POST /api/v1/captures?service=cart&kind=everything":                       http.StatusUnprocessableEntity,
		"POST /api/v1/captures?service=cart&kind=cpu&duration=x":                   http.StatusBadRequest,
		"POST /api/v1/captures?service=cart&kind=cpu&spread=some":                  http.StatusBadRequest,
		"GET /api/v1/captures/" + id + "/flamegraph?type=heap:x":                   http.StatusUnprocessableEntity,
		"POST /api/v1/captures/next":                                               http.StatusBadRequest,
		"POST /api/v1/captures/claim":                                              http.StatusBadRequest,
		"POST /api/v1/captures/" + id + "/result":                                  http.StatusBadRequest,
		"POST /api/v1/captures/none/result?instance=captured&kind=heap":            http.StatusNotFound,
		"POST /api/v1/captures?service=cart&kind=heap&shadow=true&note=only+asked": http.StatusOK,
	} {
		method, target, _ := strings.Cut(path, " ")
		if status, body := f.ask(t, method, target, nil); status != want {
			t.Errorf("%s: %d %s, want %d", path, status, body, want)
		}
	}
}

// TestCaptureAmongProfiles: what came as a profile of its process is read as that.
func TestCaptureAmongProfiles(t *testing.T) {
	f, b := capturesFixture(t)
	g, err := b.Claim(t.Context(), capture.Claim{Instance: "captured", Trigger: "r", Kinds: []string{"cpu"}})
	if err != nil || !g.Granted {
		t.Fatalf("%+v, %v", g, err)
	}
	f.push(t, "cart", "v1", "captured", 5*60*1e9, stack{"main;work", 7})
	if err := b.Stored(context.Background(), g.ID, "captured", "cpu", ms(6*60*1e9), ms(0)); err != nil {
		t.Fatal(err)
	}
	cs, err := b.List(t.Context(), catalog.CaptureFilter{Request: g.ID})
	if err != nil || len(cs) != 1 {
		t.Fatalf("%+v, %v", cs, err)
	}
	var flame profiles.Flame
	if status, body := f.ask(t, "GET", "/api/v1/captures/"+cs[0].ID+"/flamegraph", &flame); status != 200 || flame.Total != 7e7 {
		t.Errorf("%d %s", status, body)
	}
	if w := f.get(t, "captures/"+cs[0].ID+"/result"); w.Code != 200 || !profiles.IsGzip(w.Body.Bytes()) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestCapturedTraceOpens: go tool trace reads what is downloaded.
func TestCapturedTraceOpens(t *testing.T) {
	var buf bytes.Buffer
	if err := trace.Start(&buf); err != nil {
		t.Skipf("TestCapturedTraceOpens: somebody traces the tests: %v", err)
	}
	done := make(chan bool)
	go func() { done <- true }()
	<-done
	trace.Stop()
	f, b := capturesFixture(t)
	id := f.take(t, b, "trace", buf.Bytes())
	if status, body := f.ask(t, "GET", "/api/v1/captures/"+id+"/flamegraph", nil); status != http.StatusUnprocessableEntity {
		t.Errorf("a flame graph of a trace: %d %s", status, body)
	}
	w := f.get(t, "captures/"+id+"/result")
	path := filepath.Join(t.TempDir(), "x.trace")
	if err := os.WriteFile(path, w.Body.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("go", "tool", "trace", "-d=parsed", path).CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("GoID=")) && !bytes.Contains(out, []byte("G=")) {
		t.Errorf("go tool trace: %v\n%.500s", err, out)
	}
}

// TestCaptureJSON: the names of the fields are the API's.
func TestCaptureJSON(t *testing.T) {
	b, err := json.Marshal(captureOf(catalog.Capture{ID: "x", State: "asked", Blob: "captures/x"}))
	if err != nil || strings.Contains(string(b), "captures/x") || !strings.Contains(string(b), `"state":"asked"`) {
		t.Errorf("%s, %v", b, err)
	}
}
