package peer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime/pprof"
	"strings"
	"testing"
	"time"
)

var (
	from = time.UnixMilli(1795258800000)
	to   = time.UnixMilli(1795262400000)
)

// In the form that Pyroscope 2.0 answers in: numbers as strings, bars from left to right, each by its distance to the one before.
const flamegraph = `{"flamegraph":{"names":["total","main.main","main.work","runtime.mallocgc","other"],
"levels":[{"values":["0","100","0","0"]},{"values":["0","100","10","1"]},{"values":["10","60","60","2","0","30","25","3"]},{"values":["70","5","5","4"]}],"total":"100","maxSelf":"60"}}`

func TestPyroscope(t *testing.T) {
	var got map[string]any
	var tenant string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/pyro/querier.v1.QuerierService/SelectMergeStacktraces" || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("asked %s in %s", r.URL.Path, r.Header.Get("Content-Type"))
		}
		tenant = r.Header.Get("X-Scope-Orgid")
		if err := json.NewDecoder(r.Body).Decode(&got); err != nil {
			t.Error(err)
		}
		io.WriteString(w, flamegraph)
	}))
	defer srv.Close()
	s, err := Open("pyroscope", srv.URL+"/pyro", http.Header{"X-Scope-Orgid": {"team"}})
	if err != nil {
		t.Fatal(err)
	}
	a, err := s.Ask(t.Context(), Query{Type: s.Type("cpu:cpu"), Selector: `{service_name="cart"}`, From: from, To: to})
	if err != nil {
		t.Fatal(err)
	}
	if a.Total != 100 || fmt.Sprint(a.Self) != "map[main.main:10 main.work:60 other:5 runtime.mallocgc:25]" || !a.Cut || a.Bytes != int64(len(flamegraph)) || a.Took <= 0 {
		t.Errorf("%+v", a)
	}
	if tenant != "team" || got["profileTypeID"] != "process_cpu:cpu:nanoseconds:cpu:nanoseconds" || got["labelSelector"] != `{service_name="cart"}` || got["start"] != "1795258800000" || got["end"] != "1795262400000" {
		t.Errorf("asked for %v as %q", got, tenant)
	}
}

// realProfile is a small real profile.
func realProfile(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&b, 0); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// response is a QueryResponse with fields that are not used before and behind the profile.
func response(profile []byte) []byte {
	b := appendBytes(nil, 8, []byte("a report of another kind"))
	b = appendNumber(b, 9, 12345)
	b = appendBytes(b, fieldPprof, profile)
	return grpcFrame(appendNumber(b, 10, 1))
}

func TestParca(t *testing.T) {
	profile := realProfile(t)
	var request []byte
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 || r.URL.Path != "/parca.query.v1alpha1.QueryService/Query" {
			t.Errorf("asked %s by %s", r.URL.Path, r.Proto)
		}
		request, _ = io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status, Grpc-Message")
		if bytes.Contains(request, []byte("nobody")) {
			w.WriteHeader(http.StatusOK)
			w.Header().Set("Grpc-Status", "5")
			w.Header().Set("Grpc-Message", "no%20such%20thing")
			return
		}
		w.Write(response(profile))
		w.Header().Set("Grpc-Status", "0")
	}))
	srv.Config.Protocols = new(http.Protocols)
	srv.Config.Protocols.SetUnencryptedHTTP2(true)
	srv.Start()
	defer srv.Close()
	s, err := Open("parca", srv.Listener.Addr().String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	a, err := s.Ask(t.Context(), Query{Type: s.Type("cpu:cpu"), Selector: `{job="cart"}`, From: from, To: to})
	if err != nil {
		t.Fatal(err)
	}
	if a.Total < 1 || len(a.Self) == 0 || a.Bytes <= int64(len(profile)) || a.Cut {
		t.Errorf("%+v", a)
	}
	if !bytes.Contains(request, []byte(`process_cpu:cpu:nanoseconds:cpu:nanoseconds:delta{job="cart"}`)) || !bytes.Equal(request, grpcFrame(parcaRequest(Query{Type: s.Type("cpu:cpu"), Selector: `{job="cart"}`, From: from, To: to}))) {
		t.Errorf("asked for %q", request)
	}
	if _, err := s.Ask(t.Context(), Query{Type: "cpu", Selector: `{job="nobody"}`, From: from, To: to}); err == nil || !strings.Contains(err.Error(), "gRPC status 5: no such thing") {
		t.Errorf("of what is not there: %v", err)
	}
}

func TestRefuses(t *testing.T) {
	for _, tc := range []struct{ kind, url, want string }{
		{"pyroscope", "ftp://x", "want http://"}, {"jaeger", "http://x", "pyroscope=URL or parca=URL"}, {"parca", "http://", "want http://"},
	} {
		if _, err := Open(tc.kind, tc.url, nil); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s=%s: %v", tc.kind, tc.url, err)
		}
	}
	for name, text := range map[string]string{
		"no JSON": "<html>", "three numbers": `{"flamegraph":{"names":["a"],"levels":[{"values":["0","1","1"]}]}}`,
		"no such name": `{"flamegraph":{"names":["a"],"levels":[{"values":["0","1","1","7"]}]}}`, "less than nothing": `{"flamegraph":{"names":["a"],"levels":[{"values":["0","1","-1","0"]}]}}`,
		"no number": `{"flamegraph":{"names":["a"],"levels":[{"values":["x"]}]}}`,
	} {
		if _, err := parsePyroscope([]byte(text)); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, `{"code":"invalid_argument"}`, http.StatusBadRequest)
	}))
	defer srv.Close()
	s, err := Open("pyroscope", srv.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Ask(t.Context(), Query{From: from, To: to}); err == nil || !strings.Contains(err.Error(), "400 Bad Request: {\"code\":\"invalid_argument\"}") {
		t.Errorf("refused: %v", err)
	}
}

func FuzzAnswers(f *testing.F) {
	f.Add([]byte(flamegraph))
	f.Add(response(realProfile(f)))
	f.Add(grpcFrame(appendBytes(nil, fieldPprof, []byte("none"))))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _ = parsePyroscope(data)
		_, _ = parseParca(data)
		_, _, _ = OfFlame(data)
		if len(data) > 0 {
			_, _ = parseParca(grpcFrame(data))
		}
	})
}
