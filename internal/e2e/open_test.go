//go:build linux

package e2e

import (
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/sonde-io/sonde/internal/bench"
)

const openLimit = 200 // ms

// BenchmarkOpen kills a collector that holds 30 days of a fleet and is being pushed to, starts it again, and measures the time from there to the end of the first right answer, a flame
// graph over half an hour, and what CPU that took.
//
//	go test ./internal/e2e -run '^$' -bench Open -benchtime 1x -timeout 40m
func BenchmarkOpen(b *testing.B) {
	month := bench.Days(b, bench.MonthData)
	end := bench.DaysStart + bench.Day
	q := url.Values{"query": {bench.ReplicaService}, "type": {"cpu"}, "from": {strconv.FormatInt(end-30*60_000, 10)}, "to": {strconv.FormatInt(end, 10)}}
	for b.Loop() {
		dir := filepath.Join(b.TempDir(), "data")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			b.Fatal(err)
		}
		linkDirectory(b, month, dir)
		srv := startServe(b, dir, "--discover=false", "--retention-age=0", "--retention-size=0")
		var before flameAnswer
		srv.get(b, "/api/v1/flamegraph?"+q.Encode(), &before)
		if before.Stats.Profiles != 7200 {
			b.Fatalf("the flame graph is of %d profiles, want 7,200", before.Stats.Profiles)
		}
		// Something is in the catalogue's log, and something under way, when it dies.
		few := &bench.Fleet{Corpus: bench.LoadCorpus(b), Instances: 200, Windows: 1}
		newLoad(b, srv, few).run(b, 0)
		srv.kill(b)

		began := time.Now()
		again := spawn(b, srv.dir, srv.addr, srv.args)
		var after flameAnswer
		for after.Stats.Profiles == 0 {
			if time.Since(began) > 30*time.Second {
				b.Fatal("no answer within 30 s")
			}
			if body, ok := tryGet(again.url + "/api/v1/flamegraph?" + q.Encode()); ok {
				if err := json.Unmarshal(body, &after); err != nil {
					b.Fatal(err)
				}
			}
		}
		took := time.Since(began)
		used := (&watched{t: b, srv: again}).cpu()
		if after != before {
			b.Errorf("the answer is %+v after the kill, %+v before", after, before)
		}
		bench.AtMost(b, float64(took.Microseconds())/1000, "ms-to-answer", openLimit)
		bench.AtMost(b, float64(used.Milliseconds()), "ms-CPU", openLimit)
		again.kill(b)
	}
}

// flameAnswer is what is compared of a flame graph.
type flameAnswer struct {
	Total int64
	Nodes int
	Stats struct{ Profiles int }
}

// tryGet asks once and reports whether there was an answer.
func tryGet(url string) ([]byte, bool) {
	resp, err := http.Get(url)
	if err != nil {
		time.Sleep(time.Millisecond)
		return nil, false
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return body, err == nil && resp.StatusCode == http.StatusOK
}

// linkDirectory copies a data directory that nobody has open. Blobs never change, so they are linked where that is possible.
func linkDirectory(t testing.TB, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == from {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		if d.IsDir() {
			return os.Mkdir(target, 0o755)
		}
		if filepath.Ext(path) != ".db" && os.Link(path, target) == nil {
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(target, data, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
}
