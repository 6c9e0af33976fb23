package e2e

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/pprof/profile"
)

// TestBadDay sends what no collector wants to a real one: each gets its 4xx with a message that names the cause, the
// server's memory stays bounded, and nothing of it is stored.
func TestBadDay(t *testing.T) {
	srv := startServe(t, t.TempDir())
	good := gzipped(t, profileBytes(t, goodProfile()))
	push, pushType := pushWithLabels(t, 10_000, good)
	manySampleLabels := goodProfile()
	manySampleLabels.Sample[0].Label = map[string][]string{}
	for i := range 10_000 {
		manySampleLabels.Sample[0].Label[fmt.Sprintf("l%d", i)] = []string{"v"}
	}
	tests := []struct {
		name        string
		path        string // default /api/v1/profiles
		query       url.Values
		contentType string
		body        []byte
		status      int
		message     string // what the error must name
	}{
		{"truncated gzip", "", nil, "", good[:len(good)/2], 400, "gzip"},
		{"zip bomb of 10 GB", "", nil, "", zipBomb(t), 413, "decompressed"},
		{"10 MB of random bytes", "", nil, "", randomBytes(10 << 20), 422, "pprof"},
		{"20 MB of random bytes", "", nil, "", randomBytes(20 << 20), 413, "body"},
		{"values disagree with types", "", nil, "", gzipped(t, disagreeing(t)), 422, "value"},
		{"unknown content type", "", nil, "text/csv", good, 415, "text/csv"},
		{"10,000 labels of the process", "/api/v1/push", nil, pushType, push, 422, "label"},
		{"10,000 labels of a sample", "", nil, "", gzipped(t, profileBytes(t, manySampleLabels)), 422, "label"},
		{"no body", "", nil, "", nil, 422, ""},
		{"no service", "", url.Values{"service": {""}}, "", good, 400, "service"},
		{"ends before it starts", "", url.Values{"start": {"now"}, "end": {"now-1h"}}, "", good, 422, "end"},
	}
	before := peakRSS(t, srv)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q := url.Values{"service": {"bad"}, "type": {"cpu"}}
			for k, v := range tt.query {
				q[k] = v
			}
			path := cmp.Or(tt.path, "/api/v1/profiles")
			req, err := http.NewRequestWithContext(t.Context(), "POST", srv.url+path+"?"+q.Encode(), bytes.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", cmp.Or(tt.contentType, "application/octet-stream"))
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			answer, _ := io.ReadAll(resp.Body)
			var e struct{ Error string }
			if err := json.Unmarshal(answer, &e); err != nil || e.Error == "" {
				t.Errorf("answer %q is not an error in JSON: %v", answer, err)
			}
			if resp.StatusCode != tt.status || !strings.Contains(strings.ToLower(e.Error), tt.message) {
				t.Errorf("got %d %q, want %d and a message with %q", resp.StatusCode, e.Error, tt.status, tt.message)
			}
			t.Logf("%d %s", resp.StatusCode, bytes.TrimSpace(answer))
		})
	}
	after := peakRSS(t, srv)
	t.Logf("peak RSS of the server: %d MiB before, %d MiB after", before>>20, after>>20)
	if after > 400<<20 {
		t.Errorf("peak RSS = %d MiB, want at most 400", after>>20)
	}
	var services struct{ Services []struct{ Name string } }
	srv.get(t, "/api/v1/services", &services)
	if len(services.Services) != 0 {
		t.Errorf("bad input left services behind: %v", services.Services)
	}
	srv.stop(t)
	srv.check(t)
}

// pushWithLabels is an agent's window whose process has n labels, and its content type.
func pushWithLabels(t *testing.T, n int, gz []byte) (body []byte, contentType string) {
	t.Helper()
	labels := map[string]string{"service_name": "bad"}
	for i := range n {
		labels[fmt.Sprintf("l%d", i)] = "v"
	}
	process, err := json.Marshal(map[string]any{"labels": labels})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UnixMilli()
	meta, err := json.Marshal(map[string]any{
		"v": 1, "instance": strings.Repeat("ab", 16), "window": 1, "part": 0, "start": now - 15_000, "end": now,
		"process_hash": fmt.Sprintf("%x", sha256.Sum256(process))[:16], "process": json.RawMessage(process),
		"profiles": []map[string]any{{"part": "cpu", "type": "cpu", "start": now - 15_000, "end": now}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	w := multipart.NewWriter(&buf)
	for _, part := range []struct {
		name string
		data []byte
	}{{"meta", meta}, {"cpu", gz}} {
		pw, err := w.CreateFormField(part.name)
		if err != nil {
			t.Fatal(err)
		}
		pw.Write(part.data)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes(), w.FormDataContentType()
}

func goodProfile() *profile.Profile {
	f := &profile.Function{ID: 1, Name: "main.work", Filename: "main.go"}
	l := &profile.Location{ID: 1, Address: 0x1000, Line: []profile.Line{{Function: f, Line: 7}}}
	return &profile.Profile{
		SampleType: []*profile.ValueType{{Type: "samples", Unit: "count"}, {Type: "cpu", Unit: "nanoseconds"}},
		Sample:     []*profile.Sample{{Location: []*profile.Location{l}, Value: []int64{1, 10_000_000}}},
		Location:   []*profile.Location{l},
		Function:   []*profile.Function{f},
	}
}

// disagreeing is a profile whose one sample has one value for two sample types; google/pprof refuses to write it, so it is by hand.
func disagreeing(t *testing.T) []byte {
	t.Helper()
	valueType := func(typ, unit byte) []byte { return []byte{0x0a, 4, 0x08, typ, 0x10, unit} }
	b := append(valueType(1, 2), valueType(3, 4)...)
	b = append(b, 0x12, 3, 0x12, 1, 5) // sample { value: [5] }
	for _, s := range []string{"", "samples", "count", "cpu", "nanoseconds"} {
		b = append(append(b, 0x32, byte(len(s))), s...)
	}
	if p, err := profile.ParseUncompressed(b); err == nil && p.CheckValid() == nil {
		t.Fatal("google/pprof takes the profile that was to disagree with its types")
	}
	return b
}

func profileBytes(t *testing.T, p *profile.Profile) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := p.WriteUncompressed(&buf); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func gzipped(t *testing.T, data []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	w.Write(data)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// zipBomb is a gzip stream of 160 members of 64 MiB of zeros: 10 GiB in about 10 MB.
func zipBomb(t *testing.T) []byte {
	t.Helper()
	return bytes.Repeat(gzipped(t, make([]byte, 64<<20)), 160)
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

// peakRSS is the server's VmHWM in bytes.
func peakRSS(t *testing.T, s *server) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		t.Skipf("peak memory is read from /proc, which this system does not have: %v", err)
	}
	for line := range strings.Lines(string(status)) {
		var kb int64
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &kb); err == nil {
			return kb << 10
		}
	}
	t.Fatal("no VmHWM in /proc/PID/status")
	return 0
}
