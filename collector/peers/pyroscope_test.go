package peers

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles/store"
)

const cpuTypes, heapTypes, mutexTypes = "samples/count,cpu/nanoseconds", "alloc_objects/count,alloc_space/bytes,inuse_objects/count,inuse_space/bytes", "contentions/count,delay/nanoseconds"

// post sends a request and returns the answer's status and body.
func (s *server) post(t *testing.T, path, contentType string, body []byte, headers ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequest("POST", s.URL+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// form is a multipart body with the parts "name", "content", …
func form(t *testing.T, parts ...string) (contentType string, body []byte) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for i := 0; i < len(parts); i += 2 {
		f, err := w.CreateFormFile(parts[i], parts[i]+".bin")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(f, parts[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	return w.FormDataContentType(), b.Bytes()
}

func ingestQuery(name string, from, until time.Time, more ...string) string {
	q := url.Values{"name": {name}, "from": {strconv.FormatInt(from.UnixNano(), 10)}, "until": {strconv.FormatInt(until.UnixNano(), 10)}}
	for i := 0; i < len(more); i += 2 {
		q.Set(more[i], more[i+1])
	}
	return "/ingest?" + q.Encode()
}

const deltaConfig = `{"alloc_space":{"units":"bytes"},"alloc_objects":{"units":"objects"},"inuse_space":{"aggregation":"average"}}`

func TestIngest(t *testing.T) {
	at := time.Now().Add(-time.Minute)
	heap1 := pprofOf(heapTypes, at, 0, stack{"main;a", []int64{10, 1000, 1, 100}})
	heap2 := pprofOf(heapTypes, at.Add(15*time.Second), 0, stack{"main;a", []int64{14, 1400, 2, 200}})
	for _, tt := range []struct {
		name  string
		app   string // "": cart
		query []string
		parts []string // of a form
		body  string   // where there are no parts
		want  string
	}{
		{name: "CPU of the Go SDK", parts: []string{"profile", string(pprofOf(cpuTypes, at, 15*time.Second, stack{"main;a", []int64{3, 30}}))}, want: "cart cpu 15000 samples/count=3 cpu/nanoseconds=30"},
		{name: "heap, subtracted by the SDK", parts: []string{"profile", string(heap1), "sample_type_config", deltaConfig},
			want: "cart heap 15000 alloc_objects/count=10 alloc_space/bytes=1000 inuse_objects/count=1 inuse_space/bytes=100"},
		{name: "heap with the one before", parts: []string{"prev_profile", string(heap1), "profile", string(heap2), "sample_type_config", `{"alloc_space":{"cumulative":true}}`},
			want: "cart heap 15000 alloc_objects/count=4 alloc_space/bytes=400 inuse_objects/count=2 inuse_space/bytes=200"},
		{name: "a first cumulative heap is a baseline", parts: []string{"profile", string(heap1), "sample_type_config", `{"alloc_space":{"cumulative":true}}`}, want: ""},
		{name: "mutex by what the SDK calls it", parts: []string{"profile", string(pprofOf(mutexTypes, at, 0, stack{"main;sync.(*Mutex).Unlock", []int64{2, 20}})), "sample_type_config", `{"delay":{"display-name":"mutex_duration"}}`},
			want: "cart mutex 15000 contentions/count=2 delay/nanoseconds=20"},
		{name: "mutex by its leaf", parts: []string{"profile", string(pprofOf(mutexTypes, at, 0, stack{"main;sync.(*Mutex).Unlock", []int64{2, 20}}))}, want: "cart mutex 15000 contentions/count=2 delay/nanoseconds=20"},
		{name: "block by its leaf", parts: []string{"profile", string(pprofOf(mutexTypes, at, 0, stack{"main;runtime.chanrecv1", []int64{2, 20}}))}, want: "cart block 15000 contentions/count=2 delay/nanoseconds=20"},
		{name: "goroutines", parts: []string{"profile", string(pprofOf("goroutine/count", at, 0, stack{"main", []int64{7}}))}, want: "cart goroutine 15000 goroutine/count=7"},
		{name: "raw pprof", query: []string{"format", "pprof"}, body: string(pprofOf(cpuTypes, at, 15*time.Second, stack{"main;a", []int64{3, 30}})), want: "cart cpu 15000 samples/count=3 cpu/nanoseconds=30"},
		{name: "folded stacks", query: []string{"format", "folded", "sampleRate", "50"}, body: "main;a 3\nmain;b 4\n", want: "cart cpu 15000 samples/count=7 cpu/nanoseconds=140000000"},
		{name: "folded stacks without a format", query: []string{"units", "bytes"}, body: "main;a 3\n", want: "cart heap 15000 alloc_space/bytes=3"},
		{name: "folded stacks of a column that the name tells", app: "cart.inuse_objects", query: []string{"format", "folded"}, body: "main;a 3\n", want: "cart heap 15000 inuse_objects/count=3"},
		{name: "stacks line by line", query: []string{"format", "lines"}, body: "main;a\nmain;a\nmain\n", want: "cart cpu 15000 samples/count=3 cpu/nanoseconds=30000000"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer(t, limits(), nil)
			contentType, body := "application/octet-stream", []byte(tt.body)
			if tt.parts != nil {
				contentType, body = form(t, tt.parts...)
			}
			path := ingestQuery(cmp.Or(tt.app, "cart")+"{host=n1,__session_id__=abc}", at, at.Add(15*time.Second), tt.query...)
			for range 2 { // the second time it is a repeat
				if status, answer := s.post(t, path, contentType, body); status != 200 {
					t.Fatalf("%d %s", status, answer)
				}
			}
			if got := s.sink.summary(); got != tt.want {
				t.Errorf("stored\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}

func TestIngestRefuses(t *testing.T) {
	at := time.Now().Add(-time.Minute)
	good := string(pprofOf(cpuTypes, at, 15*time.Second, stack{"main;a", []int64{3, 30}}))
	query := func(more ...string) string { return ingestQuery("cart", at, at.Add(15*time.Second), more...) }
	for _, tt := range []struct {
		name, path  string
		contentType string
		body        string
		status      int
		want        string
	}{
		{"no name", "/ingest?format=pprof", "", good, 400, "parameter name is missing"},
		{"half a name", "/ingest?name=cart%7Ba%3Db", "", good, 400, "no closing brace"},
		{"a time that is none", query("from", "yesterday"), "", good, 400, "parameter from"},
		{"years ahead", ingestQuery("cart", at, at.Add(1e6*time.Hour)), "", good, 422, "in the future"},
		{"trie", query("format", "trie"), "", "xx", 415, `format \"trie\" is not read here`},
		{"jfr by its content type", query(), "binary/octet-stream+jfr", "xx", 415, "send pprof"},
		{"not a profile", query("format", "pprof"), "", "\xff\xff\xff\xff", 422, "not a pprof profile"},
		{"folded stacks without numbers", query("format", "folded"), "", "main;a\n", 422, "line 1"},
		{"another compression", query("format", "pprof"), "", good, 415, "content encoding"},
		{"a part that never ends", query(), "multipart/form-data; boundary=b", "--b\r\nContent-Disposition: form-data; name=profile\r\n\r\nabc", 400, "ends too early"},
		{"no profile in it", query(), "multipart/form-data; boundary=b", "--b--\r\n", 400, "no part named profile"},
		{"no boundary", query(), "multipart/form-data", "x", 400, "boundary of 0 bytes"},
		{"too large", query("format", "pprof"), "", strings.Repeat("x", 5<<20), 413, "max_body_bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer(t, limits(), nil)
			var headers []string
			if tt.name == "another compression" {
				headers = []string{"Content-Encoding", "br"}
			}
			status, answer := s.post(t, tt.path, tt.contentType, []byte(tt.body), headers...)
			if status != tt.status || !strings.Contains(answer, tt.want) {
				t.Errorf("%d %s, want %d with %q", status, answer, tt.status, tt.want)
			}
			if got := s.sink.summary(); got != "" {
				t.Errorf("stored %s", got)
			}
		})
	}
}

// pushMessage encodes a push.v1.PushRequest of one series.
func pushMessage(labels map[string]string, profiles ...[]byte) []byte {
	var series []byte
	for name, value := range labels {
		series = appendBytes(series, 1, appendBytes(appendBytes(nil, 1, []byte(name)), 2, []byte(value)))
	}
	for _, p := range profiles {
		series = appendBytes(series, 2, appendBytes(appendBytes(nil, 1, p), 2, []byte("an id")))
	}
	return appendBytes(nil, 1, series)
}

func gzipped(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	w.Write(b)
	w.Close()
	return out.Bytes()
}

// frame is a gRPC message.
func frame(compressed byte, b []byte) []byte {
	n := len(b)
	return append([]byte{compressed, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}, b...)
}

// grpc calls over HTTP/2 without TLS and returns the trailers.
func (s *server) grpc(t *testing.T, path string, body []byte, headers ...string) http.Header {
	t.Helper()
	only := &http.Protocols{}
	only.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: only}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequest("POST", s.URL+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("TE", "trailers")
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := (&http.Client{Transport: tr}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 200 || resp.ProtoMajor != 2 || resp.Header.Get("Content-Type") != "application/grpc" {
		t.Fatalf("%s %s %v", resp.Proto, resp.Status, resp.Header)
	}
	if resp.Trailer.Get("Grpc-Status") == "0" && !bytes.Equal(b, frame(0, nil)) {
		t.Errorf("answer %x, want an empty message", b)
	}
	return resp.Trailer
}

func TestPush(t *testing.T) {
	at := time.Now().Add(-time.Minute)
	labels := map[string]string{"__name__": "process_cpu", "service_name": "cart", "namespace": "shop", "pod": "cart-1", "__delta__": "false"}
	message := pushMessage(labels, pprofOf(cpuTypes, at, 15*time.Second, stack{"main;a", []int64{3, 30}}))
	raw := pprofOf(cpuTypes, at, 15*time.Second, stack{"main;a", []int64{3, 30}})
	var pairs []map[string]string
	for name, value := range labels {
		pairs = append(pairs, map[string]string{"name": name, "value": value})
	}
	inJSON, err := json.Marshal(map[string]any{"series": []any{map[string]any{"labels": pairs, "samples": []any{map[string]any{"rawProfile": base64.StdEncoding.EncodeToString(raw), "ID": "x"}}}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		send func(s *server) string
	}{
		{"connect", func(s *server) string { return fmt.Sprint(s.post(t, pushPath, "application/proto", message)) }},
		{"connect, gzip", func(s *server) string {
			return fmt.Sprint(s.post(t, pushPath, "application/proto", gzipped(message), "Content-Encoding", "gzip"))
		}},
		{"connect, JSON", func(s *server) string {
			return strings.Replace(fmt.Sprint(s.post(t, pushPath, "application/json", inJSON)), "{}", "", 1)
		}},
		{"gRPC", func(s *server) string {
			return "200 " + strings.Trim(s.grpc(t, pushPath, frame(0, message)).Get("Grpc-Status"), "0")
		}},
		{"gRPC, gzip", func(s *server) string {
			return "200 " + strings.Trim(s.grpc(t, pushPath, frame(1, gzipped(message)), "Grpc-Encoding", "gzip").Get("Grpc-Status"), "0")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer(t, limits(), nil)
			for range 2 { // the second time it is a repeat
				if got := strings.TrimSpace(tt.send(s)); got != "200" {
					t.Fatal(got)
				}
			}
			if got, want := s.sink.summary(), "cart cpu 15000 samples/count=3 cpu/nanoseconds=30"; got != want {
				t.Fatalf("stored\n%s\nwant\n%s", got, want)
			}
			p := s.sink.pushes[0]
			if got := p.Process.Labels.String(); !strings.Contains(got, `k8s_namespace_name="shop", k8s_pod_name="cart-1"`) {
				t.Errorf("labels %s", got)
			}
			if p.Process.Gatherer != "sdk" || p.Process.BuildID != "abcdef0123456789" || !strings.HasPrefix(p.Key.Instance, "pyroscope/") || p.Key.Window != 1 {
				t.Errorf("process %+v, key %+v", p.Process, p.Key)
			}
		})
	}
}

// Profiles that count from the process's start are subtracted from the one before, unless the sender says that it did that.
func TestPushSubtracts(t *testing.T) {
	at := time.Now().Add(-time.Minute)
	s := newServer(t, limits(), nil)
	labels := map[string]string{"__name__": "memory", "service_name": "cart"}
	send := func(i int, fail bool) int {
		t.Helper()
		s.sink.mu.Lock()
		s.sink.fail = nil
		if fail {
			s.sink.fail = func(*store.Push) error { return catalog.ErrNoSpace }
		}
		s.sink.mu.Unlock()
		n := int64(i)
		status, _ := s.post(t, pushPath, "application/proto", pushMessage(labels, pprofOf(heapTypes, at.Add(time.Duration(i)*time.Second), 0, stack{"main;a", []int64{n, 100 * n, 5, 50}})))
		return status
	}
	for i := 1; i <= 3; i++ {
		if status := send(i, false); status != 200 {
			t.Fatal(status)
		}
	}
	one := "cart heap 1000 alloc_objects/count=1 alloc_space/bytes=100 inuse_objects/count=5 inuse_space/bytes=50"
	if got, want := s.sink.summary(), one+"\n"+one; got != want {
		t.Fatalf("stored\n%s\nwant\n%s", got, want)
	}
	// What could not be stored is a gap: its repeat is a new baseline, and nothing is counted twice.
	if status := send(5, true); status != 503 {
		t.Fatal(status)
	}
	for _, i := range []int{5, 6} {
		if status := send(i, false); status != 200 {
			t.Fatal(status)
		}
	}
	if got, want := s.sink.summary(), one+"\n"+one+"\n"+one; got != want {
		t.Errorf("stored\n%s\nwant\n%s", got, want)
	}
	labels["__delta__"] = "false"
	if status := send(9, false); status != 200 {
		t.Fatal(status)
	}
	if got := s.sink.summary(); !strings.Contains(got, "alloc_objects/count=9 ") {
		t.Errorf("a delta was subtracted:\n%s", got)
	}
}

func TestPushRefuses(t *testing.T) {
	at := time.Now().Add(-time.Minute)
	good := pushMessage(map[string]string{"service_name": "cart"}, pprofOf(cpuTypes, at, 15*time.Second, stack{"main;a", []int64{3, 30}}))
	for _, tt := range []struct {
		name, contentType string
		body              []byte
		status            int
		want              string
	}{
		{"another content type", "text/plain", good, 400, "content type"},
		{"no message", "application/proto", []byte{0xff}, 400, "not a protobuf message"},
		{"no JSON", "application/json", []byte("{"), 400, "invalid_argument"},
		{"no profile", "application/proto", pushMessage(nil, []byte("hello")), 400, "series[0].samples[0]"},
		{"gzip that is none", "application/proto", good, 400, "it is said to be gzip"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer(t, limits(), nil)
			var headers []string
			if strings.HasPrefix(tt.name, "gzip") {
				headers = []string{"Content-Encoding", "gzip"}
			}
			if status, answer := s.post(t, pushPath, tt.contentType, tt.body, headers...); status != tt.status || !strings.Contains(answer, tt.want) {
				t.Errorf("%d %s, want %d with %q", status, answer, tt.status, tt.want)
			}
		})
	}
}

func TestGRPCFraming(t *testing.T) {
	for _, tt := range []struct {
		name    string
		body    []byte
		headers []string
		status  string
		want    string
	}{
		{"nothing", nil, nil, "3", "ends too early"},
		{"a message that is cut", frame(0, []byte("abc"))[:6], nil, "3", "1 bytes of 3 came"},
		{"two messages", append(frame(0, nil), frame(0, nil)...), nil, "3", "more than one"},
		{"a flag that is none", frame(7, nil), nil, "3", "flag 7"},
		{"a length of 4 GiB", []byte{0, 0xff, 0xff, 0xff, 0xff, 1}, nil, "3", "max_body_bytes"},
		{"another compression", frame(1, []byte("x")), []string{"Grpc-Encoding", "zstd"}, "12", "send gzip"},
		{"an empty message", frame(0, nil), nil, "0", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer(t, limits(), nil)
			tr := s.grpc(t, pushPath, tt.body, tt.headers...)
			if tr.Get("Grpc-Status") != tt.status || !strings.Contains(tr.Get("Grpc-Message"), tt.want) {
				t.Errorf("trailers %v, want %s with %q", tr, tt.status, tt.want)
			}
		})
	}
	t.Run("what a retry may cure says when", func(t *testing.T) {
		s := newServer(t, limits(), nil)
		s.sink.fail = func(*store.Push) error { return catalog.ErrNoSpace }
		body := pushMessage(map[string]string{"service_name": "cart"}, pprofOf(cpuTypes, time.Now(), time.Second, stack{"main;a", []int64{3, 30}}))
		tr := s.grpc(t, pushPath, frame(0, body))
		details, err := base64.RawStdEncoding.DecodeString(tr.Get("Grpc-Status-Details-Bin"))
		if tr.Get("Grpc-Status") != "14" || err != nil || !bytes.Contains(details, []byte("google.rpc.RetryInfo")) {
			t.Errorf("trailers %v", tr)
		}
	})
}

// A push of many profiles of one process becomes several pushes, of which a repeat stores those that are missing.
func TestPushOfMany(t *testing.T) {
	at := time.Now().Add(-time.Minute)
	s := newServer(t, limits(), nil)
	n := 0
	s.sink.fail = func(*store.Push) error {
		if n++; n == 2 {
			return catalog.ErrNoSpace
		}
		return nil
	}
	var all [][]byte
	for i := range 2*maxPushProfiles + 10 {
		all = append(all, pprofOf(cpuTypes, at.Add(time.Duration(i)*time.Millisecond), time.Second, stack{"main;a", []int64{1, 10}}))
	}
	body := pushMessage(map[string]string{"service_name": "cart"}, all...)
	if status, answer := s.post(t, pushPath, "application/proto", body); status != 503 {
		t.Fatal(status, answer)
	}
	if status, answer := s.post(t, pushPath, "application/proto", body); status != 200 {
		t.Fatal(status, answer)
	}
	if got := strings.Count(s.sink.summary(), "\n") + 1; got != len(all) || len(s.sink.pushes) != 3 {
		t.Errorf("%d profiles in %d pushes, want %d in 3", got, len(s.sink.pushes), len(all))
	}
	keys := map[catalog.Key]bool{}
	for _, p := range s.sink.pushes {
		keys[p.Key] = true
	}
	if len(keys) != 3 {
		t.Errorf("keys %v", keys)
	}
}
