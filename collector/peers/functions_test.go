package peers

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/sonde-io/sonde/collector/receive"
	"github.com/sonde-io/sonde/symbols/binaries"
)

// functionList makes a list of names as FORMAT.md has it, but without shared prefixes.
func functionList(t *testing.T, names ...string) []byte {
	return functionListAt(t, gzip.DefaultCompression, names...)
}

func functionListAt(t *testing.T, level int, names ...string) []byte {
	t.Helper()
	content := binary.AppendUvarint([]byte("SONDEFN\x01"), uint64(len(names)))
	for _, n := range names {
		content = append(binary.AppendUvarint(append(content, 0), uint64(len(n))), n...)
	}
	content = binary.LittleEndian.AppendUint32(content, crc32.Checksum(content, crc32.MakeTable(crc32.Castagnoli)))
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, level)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func functionsServer(t *testing.T) (*http.ServeMux, *Handler, *binaries.Store, string) {
	t.Helper()
	dir := t.TempDir()
	store, err := binaries.Open(binaries.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	h := New(Config{Receive: receive.New(receive.Config{}), Binaries: store})
	mux := http.NewServeMux()
	h.Register(mux)
	h.RegisterFunctions(mux)
	return mux, h, store, dir
}

const functionsPath = "/api/v1/binaries/functions"

func send(mux *http.ServeMux, method, path string, body io.Reader, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, body)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, r)
	return w
}

func TestFunctions(t *testing.T) {
	mux, _, store, _ := functionsServer(t)
	const known, unknown = "00112233445566778899aabbccddeeff00112233", "aabbccddaabbccdd"
	for _, encoding := range []string{"", "gzip"} {
		w := send(mux, http.MethodPut, functionsPath+"?build="+known, bytes.NewReader(functionList(t, "main.main", "os.Exit")), "Content-Encoding", encoding)
		if w.Code != http.StatusOK || strings.TrimSpace(w.Body.String()) != `{"status":"ok"}` {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
	}
	f, err := store.Functions(known)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var names []string
	f.EachName(func(name string) bool { names = append(names, name); return true })
	if !slices.Equal(names, []string{"main.main", "os.Exit"}) {
		t.Errorf("names %q", names)
	}
	for body, want := range map[string]string{`["` + known + `","` + unknown + `"]`: `["` + unknown + `"]`, `["` + known + `"]`: `[]`, `[]`: `[]`} {
		if w := send(mux, http.MethodPost, functionsPath+"/missing", strings.NewReader(body)); w.Code != http.StatusOK || strings.TrimSpace(w.Body.String()) != want {
			t.Errorf("of %s: %d %s, want %s", body, w.Code, w.Body, want)
		}
	}
}

// broken fails in the middle.
type brokenBody struct{ r io.Reader }

func (b brokenBody) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func TestFunctionsRefuses(t *testing.T) {
	mux, h, _, dir := functionsServer(t)
	const id = "00112233445566778899"
	good := functionList(t, "main.main", "os.Exit")
	many, err := json.Marshal(slices.Repeat([]string{id}, maxAsked+1))
	if err != nil {
		t.Fatal(err)
	}
	large := make([]string, 300_000)
	for i := range large {
		large[i] = fmt.Sprintf("%016d", i)
	}
	for name, c := range map[string]struct {
		method, path string
		body         io.Reader
		header       string
		status       int
		want         string
	}{
		"no build":             {"PUT", "", bytes.NewReader(good), "", 400, "parameter build"},
		"a path as build":      {"PUT", "?build=../../etc/passwd", bytes.NewReader(good), "", 400, "8 to 128 hex digits"},
		"capitals as build":    {"PUT", "?build=AABBCCDDEEFF", bytes.NewReader(good), "", 400, "8 to 128 hex digits"},
		"two builds":           {"PUT", "?build=" + id + "&build=" + id, bytes.NewReader(good), "", 400, "given 2 times"},
		"another parameter":    {"PUT", "?build=" + id + "&x=1", bytes.NewReader(good), "", 400, "unknown parameter"},
		"zstd":                 {"PUT", "?build=" + id, bytes.NewReader(good), "zstd", 415, "content encoding"},
		"nothing":              {"PUT", "?build=" + id, strings.NewReader(""), "", 422, "not a list of functions"},
		"half of a list":       {"PUT", "?build=" + id, bytes.NewReader(good[:len(good)/2]), "", 422, "not a list of functions"},
		"a broken connection":  {"PUT", "?build=" + id, brokenBody{bytes.NewReader(good[:len(good)/2])}, "", 400, "read list of functions"},
		"more than 4 MiB":      {"PUT", "?build=" + id, bytes.NewReader(functionListAt(t, gzip.NoCompression, large...)), "", 413, "max_functions_bytes"},
		"a name of 1 MiB":      {"PUT", "?build=" + id, bytes.NewReader(longName(t)), "", 413, "max_function_name_bytes"},
		"ask: no JSON":         {"POST", "/missing", strings.NewReader("builds"), "", 400, "JSON list"},
		"ask: an object":       {"POST", "/missing", strings.NewReader(`{"builds":[]}`), "", 400, "JSON list"},
		"ask: no build":        {"POST", "/missing", strings.NewReader(`["main.main"]`), "", 422, "8 to 128 hex digits"},
		"ask: too many":        {"POST", "/missing", bytes.NewReader(many), "", 422, `"limit":"max_builds","max":1000,"got":1001`},
		"ask: too much":        {"POST", "/missing", io.LimitReader(endless{}, 1<<20), "", 413, "max_builds_bytes"},
		"ask: half a question": {"POST", "/missing", brokenBody{strings.NewReader(`["`)}, "", 400, "read list of builds"},
	} {
		w := send(mux, c.method, functionsPath+c.path, c.body, "Content-Encoding", c.header)
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.want) {
			t.Errorf("%s: %d %s, want %d %s", name, w.Code, w.Body, c.status, c.want)
		}
	}
	for range listUploads {
		h.listing <- struct{}{}
	}
	if w := send(mux, http.MethodPut, functionsPath+"?build="+id, bytes.NewReader(good)); w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), "max_function_uploads") {
		t.Errorf("one too many at once: %d %s", w.Code, w.Body)
	}
	for range listUploads {
		<-h.listing
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("%d files left, %v", len(left), err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if w := send(mux, http.MethodPut, functionsPath+"?build="+id, bytes.NewReader(good)); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("where nothing can be kept: %d %s", w.Code, w.Body)
	}
}

// endless is a list of builds without end.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

// longName is a list whose first name claims 1 MiB.
func longName(t *testing.T) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(append(append([]byte("SONDEFN\x01"), 1, 0), binary.AppendUvarint(nil, 1<<20)...)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
