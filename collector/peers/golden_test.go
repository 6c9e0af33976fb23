package peers

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sonde-io/sonde/collector/receive"
	"github.com/sonde-io/sonde/profiles"
)

// TestGolden sends the requests again that the real senders made (internal/peertest records them), and compares what would be stored with what these sent.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.http")
	if err != nil || len(files) < 15 {
		t.Fatalf("%d recorded requests, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".http"), func(t *testing.T) {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			want, err := os.ReadFile(strings.TrimSuffix(file, ".http") + ".want")
			if err != nil {
				t.Fatal(err)
			}
			if got := replay(t, raw); got != string(want) {
				t.Errorf("stored\n%swant\n%s", got, want)
			}
		})
	}
}

// replay sends a recorded request at its time and returns the totals of what was stored.
func replay(t *testing.T, raw []byte) string {
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	r.Body, r.RemoteAddr = io.NopCloser(bytes.NewReader(body)), "10.0.0.1:1234"
	at, err := strconv.ParseInt(r.Header.Get("X-Recorded"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	s := &sink{}
	mux := http.NewServeMux()
	New(Config{Receive: receive.New(receive.Config{Sink: s, Processes: noProcesses{}, Limits: limits(), Now: func() time.Time { return time.UnixMilli(at) }})}).Register(mux)
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, r)
	if status := w.Result().Trailer.Get("Grpc-Status"); w.Code != 200 || status != "" && status != "0" {
		t.Fatalf("%d %s %v", w.Code, w.Body, w.Result().Trailer)
	}
	var lines []string
	for _, p := range s.pushes {
		for _, pr := range p.Profiles {
			for i, ty := range pr.Data.SampleTypes {
				sum := profiles.Int128{}
				for k := range pr.Data.Samples {
					sum = sum.Add(profiles.Int128From(pr.Data.Row(k)[i]))
				}
				v, _ := sum.Int64()
				lines = append(lines, fmt.Sprintf("%s %s:%s=%d", p.Process.Service, pr.Type, ty.Type, v))
			}
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n"
}
