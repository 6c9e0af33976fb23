package peers

import (
	"debug/elf"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/receive"
	"github.com/sonde-io/sonde/internal/blob"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/internal/fsys"
	"github.com/sonde-io/sonde/profiles"
	"github.com/sonde-io/sonde/profiles/store"
	"github.com/sonde-io/sonde/symbols/binaries"
	"github.com/sonde-io/sonde/symbols/build"
)

// compileWork builds a Go program and returns it with the address of main.work.
func compileWork(t *testing.T) (path string, work uint64) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module example.com/tiny\n\ngo 1.23\n",
		"main.go": "package main\n\nimport \"os\"\n\n//go:noinline\nfunc work(n int) int { return n * len(os.Args) }\n\nfunc main() { println(work(3)) }\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	path = filepath.Join(dir, "tiny")
	cmd := exec.Command("go", "build", "-o", path, ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, b)
	}
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	syms, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range syms {
		if s.Name == "main.work" {
			return path, s.Value
		}
	}
	t.Fatal("the program has no main.work")
	return "", 0
}

// A profile that came as addresses has names once its binary is known: in the answers of queries, what came after is stored with them.
func TestNamesComeLater(t *testing.T) {
	path, work := compileWork(t)
	info, err := build.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	bins, err := binaries.Open(binaries.Config{Dir: filepath.Join(dir, "binaries")})
	if err != nil {
		t.Fatal(err)
	}
	defer bins.Close()
	blobs, err := blob.OpenFiles(fsys.OS{}, filepath.Join(dir, "blobs"))
	if err != nil {
		t.Fatal(err)
	}
	cat, err := catalog.OpenSQLite(t.Context(), filepath.Join(dir, "catalog.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer cat.Close()
	st, err := store.Open(t.Context(), store.Config{Blobs: blobs, Catalog: cat, Symbolizer: bins})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	mux := http.NewServeMux()
	New(Config{Receive: receive.New(receive.Config{Sink: st, Processes: cat, Limits: limits()}), Binaries: bins}).Register(mux)
	s := &server{Server: httptest.NewServer(mux)}
	defer s.Close()

	at := time.Now().Add(-time.Minute)
	send := func(at time.Time) {
		t.Helper()
		r := newRequest()
		m := r.dict.MappingTable().AppendEmpty()
		m.SetFilenameStrindex(r.str("tiny"))
		m.AttributeIndices().Append(r.attribute("process.executable.build_id.gnu", info.GNUBuildID))
		l := r.dict.LocationTable().AppendEmpty()
		l.SetMappingIndex(1)
		l.SetAddress(work)
		stack := r.dict.StackTable().AppendEmpty()
		stack.LocationIndices().Append(1)
		r.sample(r.profile(r.resource("service.name", "tiny"), "cpu", "nanoseconds", at), 1, 7)
		if status, answer := s.post(t, otlpPath, "application/x-protobuf", r.proto(t)); status != 200 {
			t.Fatal(status, answer)
		}
	}
	top := func() string {
		t.Helper()
		got, err := st.Merge(t.Context(), store.Query{Type: profiles.Type{Profile: "cpu", Sample: "cpu"}, From: at.Add(-time.Hour).UnixMilli(), To: at.Add(time.Hour).UnixMilli(),
			Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "service_name", "tiny")}})
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, row := range profiles.NewTop(got, nil, profiles.TopOptions{}).Rows {
			out = append(out, fmt.Sprintf("%s=%d", row.Function, row.Self))
		}
		return strings.Join(out, " ")
	}
	send(at)
	if got, want := top(), fmt.Sprintf("[tiny+0x%x]=7", work); got != want {
		t.Fatalf("before the binary came %s, want %s", got, want)
	}
	if resp, err := http.Get(s.URL + "/api/v1/binaries"); err != nil || resp.StatusCode != 200 {
		t.Error(resp, err)
	} else if _, wanted := bins.List(); len(wanted) != 1 || wanted[0].BuildID != info.GNUBuildID {
		t.Errorf("wanted %+v", wanted)
		resp.Body.Close()
	} else {
		resp.Body.Close()
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s.put(t, gzipped(b), "gzip", 200)
	if got, want := top(), "main.work=7"; got != want {
		t.Errorf("after the binary came %s, want %s", got, want)
	}
	send(at.Add(20 * time.Second))
	if got, want := top(), "main.work=14"; got != want {
		t.Errorf("with one that was named as it came %s, want %s", got, want)
	}
	if err := st.Compact(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if got, want := top(), "main.work=14"; got != want {
		t.Errorf("after compaction %s, want %s", got, want)
	}
	s.put(t, []byte("no binary"), "", 422)
	s.put(t, []byte("no gzip"), "gzip", 400)
}

// put uploads a binary.
func (s *server) put(t *testing.T, body []byte, encoding string, want int) {
	t.Helper()
	req, err := http.NewRequest("PUT", s.URL+"/api/v1/binaries", strings.NewReader(string(body)))
	if err != nil {
		t.Fatal(err)
	}
	if encoding != "" {
		req.Header.Set("Content-Encoding", encoding)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != want {
		t.Errorf("PUT answered %d, want %d", resp.StatusCode, want)
	}
}
