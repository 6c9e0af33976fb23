package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"time"
)

// now is the time in these tests.
var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// result is what a command did.
type result struct {
	stdout, stderr string
	code           int
}

// sonde runs the command in this process against a collector that answers as told.
func sonde(t *testing.T, h http.HandlerFunc, stdin string, args ...string) result {
	t.Helper()
	var out, errs bytes.Buffer
	a := newApp(strings.NewReader(stdin), &out, &errs)
	a.now = func() time.Time { return now }
	env := map[string]string{"XDG_DATA_HOME": "/var/lib"}
	if h != nil {
		srv := httptest.NewServer(h)
		defer srv.Close()
		env["SONDE_URL"] = srv.URL
	}
	a.lookupEnv = func(name string) (string, bool) { v, ok := env[name]; return v, ok }
	code := report(&errs, a.run(t.Context(), args))
	return result{out.String(), errs.String(), code}
}

// answers answers path with body and keeps the last query.
func answers(path, body string, got *url.Values) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != path {
			http.NotFound(w, r)
			return
		}
		if got != nil {
			*got = r.URL.Query()
		}
		io.WriteString(w, body)
	}
}

const topJSON = `{"type":{"id":"cpu:cpu","profile":"cpu","sample":"cpu","unit":"nanoseconds","kind":"interval"},"from":1795258800000,"to":1795262400000,"total":4000000000,
"rows":[{"function":"main.work","file":"/src/main.go","kind":"own","self":3000000000,"total":4000000000},
{"function":"runtime.mallocgc","file":"","kind":"runtime","self":1000000000,"total":1000000000}],"functions":2,"stats":{"profiles":4,"series":1}}`

func TestTop(t *testing.T) {
	time.Local = time.UTC
	var q url.Values
	r := sonde(t, answers("/api/v1/top", topJSON, &q), "", "top", "--service", "cart", "--query", `{service_version="v1"}`, "--since", "30m", "-n", "2")
	want := `cpu:cpu from 2026-11-21 11:00:00 to 2026-11-21 12:00:00: 4.00s in 4 profiles
 SELF   SELF%     SUM%  TOTAL   TOTAL%  FUNCTION
3.00s  75.00%   75.00%  4.00s  100.00%  main.work
1.00s  25.00%  100.00%  1.00s   25.00%  runtime.mallocgc
`
	if r.code != 0 || r.stdout != want || r.stderr != "" {
		t.Errorf("exit %d, stderr %q, stdout:\n%s\nwant:\n%s", r.code, r.stderr, r.stdout, want)
	}
	for k, v := range map[string]string{"query": `{service_name="cart",service_version="v1"}`, "type": "cpu", "limit": "2",
		"from": unixMs(now.Add(-30 * time.Minute).UnixMilli()), "to": unixMs(now.UnixMilli())} {
		if q.Get(k) != v {
			t.Errorf("parameter %s = %q, want %q", k, q.Get(k), v)
		}
	}
	r = sonde(t, answers("/api/v1/top", topJSON, nil), "", "top", "-o", "json")
	var got struct{ Rows []struct{ Function string } }
	if err := json.Unmarshal([]byte(r.stdout), &got); err != nil || len(got.Rows) != 2 {
		t.Errorf("-o json = %s, %v", r.stdout, err)
	}
}

func TestTopNothing(t *testing.T) {
	r := sonde(t, answers("/api/v1/top", `{"type":{"id":"cpu:cpu"},"rows":[]}`, nil), "", "top")
	if r.code != 0 || !strings.Contains(r.stdout, "sonde ps") {
		t.Errorf("exit %d, %q, want a word on what to do next", r.code, r.stdout)
	}
}

// flameJSON is a root with two children, one of which has a child that is small.
const flameJSON = `{"type":{"id":"cpu:cpu","unit":"nanoseconds","kind":"interval"},"total":1000,"names":["total","main.a","main.b","main.\u001bc"],"kinds":["","own","own","own"],"files":["","","",""],
"name":[0,1,3,2],"depth":[0,1,2,1],"value":[1000,300,5,700],"self":[0,295,5,700],"nodes":4,"dropped":0,"stats":{"profiles":1}}`

func TestFlame(t *testing.T) {
	want := `cpu:cpu: 1.00µs in 1 profile
 70.00%     700ns    main.b
 30.00%     300ns    main.a
  0.50%       5ns      main.?c
`
	r := sonde(t, answers("/api/v1/flamegraph", flameJSON, nil), "", "flame", "--min", "0.1")
	if r.code != 0 || r.stdout != want {
		t.Errorf("exit %d, stderr %q, stdout:\n%s\nwant:\n%s", r.code, r.stderr, r.stdout, want)
	}
	r = sonde(t, answers("/api/v1/flamegraph", flameJSON, nil), "", "flame", "--depth", "1", "--min", "50")
	if !strings.Contains(r.stdout, "2 nodes below 50%") || strings.Contains(r.stdout, "main.a") {
		t.Errorf("flame --min 50 =\n%s", r.stdout)
	}
	for _, bad := range []string{`{"total":1,"names":["total"],"name":[0,9],"depth":[0,1],"value":[1,1],"self":[1,1]}`,
		`{"total":1,"names":["total"],"name":[0,0],"depth":[0,5],"value":[1,1],"self":[1,1]}`,
		`{"total":1,"names":["total"],"name":[0,0],"depth":[0],"value":[1,1],"self":[1,1]}`} {
		if r := sonde(t, answers("/api/v1/flamegraph", bad, nil), "", "flame"); r.code != exitFailed {
			t.Errorf("a flame graph that is wrong in itself: exit %d, want 1\n%s", r.code, r.stdout)
		}
	}
}

// TestFlameBoxes: only a terminal gets lines.
func TestFlameBoxes(t *testing.T) {
	srv := httptest.NewServer(answers("/api/v1/flamegraph", flameJSON, nil))
	defer srv.Close()
	var out bytes.Buffer
	a := newApp(nil, &out, io.Discard)
	a.terminal = true
	if err := a.run(t.Context(), []string{"flame", "--server", srv.URL, "--min", "0"}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"├─main.b", "└─main.a", "  └─main.?c"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

const diffJSON = `{"type":{"id":"cpu:cpu","unit":"nanoseconds","kind":"interval"},"total":3000,"base_total":2000,
"rows":[{"function":"main.same","self":1000,"total":1000,"base_self":500,"base_total":500},{"function":"main.slow","self":2000,"total":2000,"base_self":1500,"base_total":1500}],"stats":{}}`

func TestDiff(t *testing.T) {
	tests := []struct {
		name   string
		args   []string
		params map[string]string
		want   []string
	}{
		{"the range before", []string{"--service", "cart", "--since", "1h"},
			map[string]string{"from": unixMs(now.Add(-time.Hour).UnixMilli()), "base_from": unixMs(now.Add(-2 * time.Hour).UnixMilli()),
				"base_to": unixMs(now.Add(-time.Hour).UnixMilli()), "view": "top", "base_query": "", "normalize": "interval", "frames": "function"},
			[]string{"3.00µs, base 2.00µs, change +1.00µs (+50.0%)", "500ns  1.00µs  +500ns"}},
		{"a range of another length", []string{"--since", "1h", "--base-from", "now-3h", "--base-to", "now-1h"},
			map[string]string{"base_from": unixMs(now.Add(-3 * time.Hour).UnixMilli()), "normalize": "interval"}, nil},
		{"a gauge is a mean already", []string{"--type", "heap"}, map[string]string{"normalize": "none"}, nil},
		{"as asked for", []string{"--normalize", "cpu", "--frames", "line", "--sample", `{account="A"}`, "--focus", "json", "--ignore", "test"},
			map[string]string{"normalize": "cpu", "frames": "line", "sample": `{account="A"}`, "focus": "json", "ignore": "test"}, nil},
		{"as it was once written", []string{"--norm", "rate"}, map[string]string{"normalize": "interval"}, nil},
		{"two selections", []string{"--service", "cart", "--base-query", `{service_version="v1"}`},
			map[string]string{"base_query": `{service_name="cart",service_version="v1"}`, "base_from": unixMs(now.Add(-time.Hour).UnixMilli())}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var q url.Values
			r := sonde(t, answers("/api/v1/diff", diffJSON, &q), "", append([]string{"diff"}, tt.args...)...)
			if r.code != 0 {
				t.Fatalf("exit %d: %s", r.code, r.stderr)
			}
			for k, v := range tt.params {
				if q.Get(k) != v {
					t.Errorf("parameter %s = %q, want %q", k, q.Get(k), v)
				}
			}
			for _, w := range tt.want {
				if !strings.Contains(r.stdout, w) {
					t.Errorf("no %q in\n%s", w, r.stdout)
				}
			}
		})
	}
}

// TestDiffScaled: a side that was profiled for a tenth of the time is not a tenth of the other.
func TestDiffScaled(t *testing.T) {
	body := strings.Replace(diffJSON, `"stats":{}`, `"stats":{},"scale":{"normalize":"interval","now":0.5,"base":0.05}`, 1)
	r := sonde(t, answers("/api/v1/diff", body, nil), "", "diff")
	if want := "3.00µs, base 200ns (scaled by 0.1), change +2.80µs"; !strings.Contains(r.stdout, want) {
		t.Errorf("no %q in\n%s", want, r.stdout)
	}
	body = strings.Replace(diffJSON, `"stats":{}`, `"stats":{},"scale":{"normalize":"none","now":1,"base":1,"missing":"base: no CPU"}`, 1)
	r = sonde(t, answers("/api/v1/diff", body, nil), "", "diff", "--normalize", "cpu")
	if !strings.Contains(r.stdout, "base 2.00µs, change +1.00µs") || r.stderr != "note: not normalized: base: no CPU\n" {
		t.Errorf("%s%s", r.stderr, r.stdout)
	}
}

const rankingJSON = `{"type":{"id":"heap:alloc_space","unit":"bytes","kind":"interval"},"from":1795258800000,"to":1795262400000,"normalize":"interval","per":"per second of process time","value":"total",
"window":120000,"windows":4,"base_windows":30,"note":"only 4 windows","functions":3,"rows":[{"function":"main.slow","base":1024.5,"now":2048,"t":9,"q":3e-9,"log10_p":-10.2},
{"function":"main.new","base":0,"now":0.25,"q":0.04,"log10_p":-1.9},{"function":"main.sure","base":3,"now":1,"q":0,"log10_p":-400.4}]}`

func TestDiffRank(t *testing.T) {
	time.Local = time.UTC
	var q url.Values
	r := sonde(t, answers("/api/v1/ranking", rankingJSON, &q), "", "diff", "--rank", "--type", "allocs", "--sort", "self", "--window", "2m", "-n", "7")
	for k, v := range map[string]string{"value": "self", "window": "2m", "limit": "7", "normalize": "interval", "type": "allocs", "base_from": unixMs(now.Add(-2 * time.Hour).UnixMilli())} {
		if q.Get(k) != v {
			t.Errorf("parameter %s = %q, want %q", k, q.Get(k), v)
		}
	}
	golden(t, "testdata/diff_rank.txt", []byte(r.stdout))
	if r.code != 0 || r.stderr != "note: only 4 windows\n" {
		t.Errorf("exit %d, %q", r.code, r.stderr)
	}
	for _, args := range [][]string{{"diff", "--rank", "a.pb.gz", "b.pb.gz"}, {"diff", "--rank", "--frames", "line"}} {
		if r := sonde(t, nil, "", args...); r.code != exitUsage {
			t.Errorf("%v: exit %d, %s", args, r.code, r.stderr)
		}
	}
}

func TestFormatNumber(t *testing.T) {
	for _, c := range []struct {
		v    float64
		unit string
		want string
	}{{0, "count", "0"}, {0.0125, "count", "0.0125"}, {12.345, "count", "12.3"}, {1234567.8, "count", "1,234,568"}, {-2.5e9, "nanoseconds", "-2.50s"}, {0.25, "bytes", "0.25B"}, {1e30, "count", "1e+30"}, {1023.5, "bytes", "1024B"}} {
		if got := formatNumber(c.v, c.unit); got != c.want {
			t.Errorf("%g %s: %q, want %q", c.v, c.unit, got, c.want)
		}
	}
}

const callersJSON = `{"function":"main.b","self":100,"total":600,"all":1000,
"callers":{"type":{"id":"cpu:cpu","unit":"nanoseconds","kind":"interval"},"total":600,"names":["main.b","main.a","main.main"],"name":[0,1,2],"depth":[0,1,2],"value":[600,600,600],"self":[0,0,600],"nodes":3,"stats":{"profiles":1}},
"callees":{"type":{"id":"cpu:cpu","unit":"nanoseconds","kind":"interval"},"total":600,"names":["main.b","main.c","main.d"],"name":[0,1,2],"depth":[0,1,1],"value":[600,497,3],"self":[100,497,3],"nodes":3,"stats":{"profiles":1}}}`

func TestCallers(t *testing.T) {
	var q url.Values
	r := sonde(t, answers("/api/v1/callers", callersJSON, &q), "", "callers", "main.b", "--service", "cart", "--frames", "line")
	golden(t, "testdata/callers.txt", []byte(r.stdout))
	if r.code != 0 || q.Get("function") != "main.b" || q.Get("frames") != "line" || q.Get("query") != `{service_name="cart"}` {
		t.Errorf("exit %d, %s, asked %v", r.code, r.stderr, q)
	}
	none := strings.Replace(callersJSON, `"total":600,"all"`, `"total":0,"all"`, 1)
	if r := sonde(t, answers("/api/v1/callers", none, nil), "", "callers", "main.b"); r.code != exitFailed || !strings.Contains(r.stderr, "hint: names are as") {
		t.Errorf("exit %d, %s", r.code, r.stderr)
	}
	for _, bad := range []string{`{"all":1,"total":1}`, strings.Replace(callersJSON, `"depth":[0,1,1]`, `"depth":[0,2,1]`, 1)} {
		if r := sonde(t, answers("/api/v1/callers", bad, nil), "", "callers", "main.b"); r.code != exitFailed {
			t.Errorf("%s: exit %d", bad, r.code)
		}
	}
}

// TestSelection: what selects stacks is sent by every verb that merges, and a mistake in it is found before anybody is asked.
func TestSelection(t *testing.T) {
	for verb, path := range map[string]string{"top": "/api/v1/top", "flame": "/api/v1/flamegraph", "get": "/api/v1/profile"} {
		var q url.Values
		sonde(t, answers(path, `{"name":[]}`, &q), "", verb, "--sample", `{account="A"}`, "--focus", "a.*b", "--ignore", "c")
		if q.Get("sample") != `{account="A"}` || q.Get("focus") != "a.*b" || q.Get("ignore") != "c" {
			t.Errorf("%s asked %v", verb, q)
		}
		for _, bad := range [][]string{{"--sample", "{a"}, {"--focus", "("}, {"--ignore", "["}} {
			if r := sonde(t, nil, "", append([]string{verb}, bad...)...); r.code != exitUsage || !strings.Contains(r.stderr, "read "+bad[0]) {
				t.Errorf("%s %v: exit %d, %s", verb, bad, r.code, r.stderr)
			}
		}
	}
}

func TestGet(t *testing.T) {
	h := answers("/api/v1/profile", "\x1f\x8bbytes", nil)
	if r := sonde(t, h, "", "get", "--service", "cart"); r.stdout != "\x1f\x8bbytes" {
		t.Errorf("piped: %q, %s", r.stdout, r.stderr)
	}
	file := filepath.Join(t.TempDir(), "out.pb.gz")
	if r := sonde(t, h, "", "get", "--service", "cart", "-f", file); r.code != 0 || r.stdout != "" {
		t.Errorf("-f: exit %d, %q, %s", r.code, r.stdout, r.stderr)
	}
	if data, err := os.ReadFile(file); err != nil || string(data) != "\x1f\x8bbytes" {
		t.Errorf("file = %q, %v", data, err)
	}

	// A download that breaks off leaves the old file as it was, and nothing else.
	broken := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1000")
		io.WriteString(w, "half")
	}
	if r := sonde(t, broken, "", "get", "-f", file); r.code != exitFailed {
		t.Errorf("a download cut off: exit %d", r.code)
	}
	if data, err := os.ReadFile(file); err != nil || string(data) != "\x1f\x8bbytes" {
		t.Errorf("after a broken download the file = %q, %v", data, err)
	}
	if es, err := os.ReadDir(filepath.Dir(file)); err != nil || len(es) != 1 {
		t.Errorf("files left behind: %v, %v", es, err)
	}
}

func TestGetToTerminal(t *testing.T) {
	var errs bytes.Buffer
	a := newApp(nil, io.Discard, &errs)
	a.terminal = true
	if code := report(&errs, a.run(t.Context(), []string{"get", "--service", "cart"})); code != exitUsage || !strings.Contains(errs.String(), "hint: name a file with -f") {
		t.Errorf("exit %d, %q, want a refusal with a hint", code, errs.String())
	}
}

func TestPush(t *testing.T) {
	dir := t.TempDir()
	var keys []string
	var q url.Values
	h := func(w http.ResponseWriter, r *http.Request) {
		q = r.URL.Query()
		keys = append(keys, r.Header.Get("Idempotency-Key"))
		io.WriteString(w, `{"status":"ok","profiles":1,"samples":219}`)
	}
	file := filepath.Join(dir, "cpu.pb.gz")
	if err := os.WriteFile(file, []byte("profile"), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"push", file, "--service", "batch", "--type", "cpu", "--label", "host_name=n1", "-l", "k=v", "--start", "now-10s", "--end", "now"}
	for range 2 {
		if r := sonde(t, h, "", args...); r.code != 0 || r.stdout != file+": ok, 219 samples\n" {
			t.Fatalf("exit %d, %q %q", r.code, r.stdout, r.stderr)
		}
	}
	sonde(t, h, "", append(args, "-l", "k=w")...)
	sonde(t, h, "other bytes", "push", "-", "-s", "batch", "-t", "cpu")
	if keys[0] == "" || keys[0] != keys[1] || keys[0] == keys[2] || keys[2] == keys[3] {
		t.Errorf("keys = %q, want the same for the same push only", keys)
	}
	sonde(t, h, "", args...)
	for k, v := range map[string]string{"service": "batch", "type": "cpu", "label.host_name": "n1", "label.k": "v",
		"start": unixMs(now.Add(-10 * time.Second).UnixMilli()), "end": unixMs(now.UnixMilli())} {
		if q.Get(k) != v {
			t.Errorf("parameter %s = %q, want %q", k, q.Get(k), v)
		}
	}
	if r := sonde(t, h, "", "push", file, filepath.Join(dir, "none"), "-s", "batch", "-t", "cpu", "-o", "json"); r.code != exitFailed || !strings.Contains(r.stdout, file) {
		t.Errorf("the second file is missing: exit %d, %q, want the first one listed", r.code, r.stdout)
	}
}

func TestErrorsAndExitCodes(t *testing.T) {
	refuse := func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusTooManyRequests)
		io.WriteString(w, `{"error":"too many queries at once","hint":"ask one at a time"}`)
	}
	tests := []struct {
		name string
		h    http.HandlerFunc
		args []string
		code int
		want []string
	}{
		{"the collector refuses", refuse, []string{"top"}, 1, []string{"error: too many queries at once (429)\n", "hint: ask one at a time\n"}},
		{"no collector", nil, []string{"top", "--server", "http://127.0.0.1:1"}, 1, []string{"error: reach collector at http://127.0.0.1:1", "hint: is it running?"}},
		{"server that is none", nil, []string{"top", "--server", "ftp://x"}, 1, []string{"hint: set it with --server"}},
		{"help of an unknown verb", nil, []string{"help", "tpo"}, 2, []string{`unknown command "tpo"`, "hint: did you mean", "`sonde top`"}},
		{"help of an unknown verb's verb", nil, []string{"help", "builds", "shwo"}, 2, []string{`unknown command "shwo"`, "`sonde builds show`"}},
		{"unknown verb", nil, []string{"tpo"}, 2, []string{`unknown command "tpo"`, "hint: did you mean", "`sonde top`"}},
		{"unknown flag", nil, []string{"top", "--sevice", "x"}, 2, []string{"unknown flag: --sevice", "hint: `sonde top --help`"}},
		{"wrong format", nil, []string{"top", "-o", "yaml"}, 2, []string{"want table or json"}},
		{"wrong type", nil, []string{"top", "--type", "c p u"}, 2, []string{"read --type", "PROFILE:SAMPLE"}},
		{"wrong time", nil, []string{"top", "--from", "yesterday"}, 2, []string{"read --from", "yesterday"}},
		{"empty range", nil, []string{"top", "--from", "now", "--to", "now-1h"}, 2, []string{"the range is empty"}},
		{"two ways to say when", nil, []string{"top", "--since", "1h", "--from", "now-2h"}, 2, []string{"--since ends now"}},
		{"wrong selector", nil, []string{"top", "--query", "{x"}, 2, []string{"read --query"}},
		{"service twice", nil, []string{"top", "--service", "a", "--query", "b"}, 2, []string{"both name a service"}},
		{"one file to compare", nil, []string{"diff", "a"}, 2, []string{"want two files"}},
		{"base without an end", nil, []string{"diff", "--base-from", "now-1h"}, 2, []string{"base-to"}},
		{"push without a service", nil, []string{"push", "x"}, 2, []string{"--service and --type are required"}},
		{"push of nothing", nil, []string{"push", "-s", "a", "-t", "cpu"}, 2, []string{"name at least one FILE"}},
		{"check of nothing", nil, []string{"check", "/nowhere/at/all"}, 1, []string{"error: ", "hint: "}},
		{"missing file", nil, []string{"top", "/nowhere.pb.gz"}, 1, []string{"no such file", "hint: a FILE is"}},
		{"a file and a service", nil, []string{"top", "x.pb.gz", "--service", "a"}, 2, []string{"--service is for the collector"}},
		{"a discovery rule for the collector", nil, []string{"ps", "--deny", "port:1"}, 2, []string{"--deny is for --dry-run"}},
		{"setting that is wrong", nil, []string{"config", "--listen", "nowhere"}, 2, []string{"listen", "hint: "}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := sonde(t, tt.h, "", tt.args...)
			if r.code != tt.code || r.stdout != "" {
				t.Errorf("exit %d, stdout %q, want exit %d and nothing there", r.code, r.stdout, tt.code)
			}
			for _, w := range tt.want {
				if !strings.Contains(r.stderr, w) {
					t.Errorf("no %q in %q", w, r.stderr)
				}
			}
			for line := range strings.Lines(r.stderr) {
				if !strings.HasPrefix(line, "error: ") && !strings.HasPrefix(line, "hint: ") {
					t.Errorf("line %q is neither an error nor a hint", line)
				}
			}
		})
	}
}

func TestReaderGone(t *testing.T) {
	var errs bytes.Buffer
	if code := report(&errs, &os.PathError{Op: "write", Path: "stdout", Err: syscall.EPIPE}); code != exitFailed || errs.Len() != 0 {
		t.Errorf("exit %d, %q, want silence", code, errs.String())
	}
	if code := report(&errs, context.Canceled); code != exitFailed || errs.String() != "error: interrupted\n" {
		t.Errorf("exit %d, %q", code, errs.String())
	}
}

func TestToken(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("from a file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var got string
	h := func(w http.ResponseWriter, r *http.Request) {
		got = r.Header.Get("Authorization")
		io.WriteString(w, `{}`)
	}
	sonde(t, h, "", "ps", "--token-file", file)
	if got != "Bearer from a file" {
		t.Errorf("Authorization = %q", got)
	}
	if r := sonde(t, h, "", "ps", "--token-file", file+"x"); r.code != exitFailed {
		t.Errorf("a missing token file: exit %d", r.code)
	}
}

func TestFormatValue(t *testing.T) {
	tests := []struct {
		v    int64
		unit string
		want string
	}{
		{0, "nanoseconds", "0ns"}, {999, "nanoseconds", "999ns"}, {1500, "nanoseconds", "1.50µs"}, {12_345_678, "nanoseconds", "12.3ms"},
		{123_456_789_000, "nanoseconds", "2.06min"}, {-1_500_000_000, "nanoseconds", "-1.50s"}, {7200_000_000_000, "nanoseconds", "2.00h"},
		{1023, "bytes", "1023B"}, {1536, "bytes", "1.50KiB"}, {500 << 20, "bytes", "500MiB"}, {1 << 62, "bytes", "4194304TiB"},
		{0, "count", "0"}, {1234567, "count", "1,234,567"}, {-1234, "", "-1,234"}, {999, "count", "999"},
	}
	for _, tt := range tests {
		if got := formatValue(tt.v, tt.unit); got != tt.want {
			t.Errorf("formatValue(%d, %q) = %q, want %q", tt.v, tt.unit, got, tt.want)
		}
	}
}

func TestReadVersion(t *testing.T) {
	info := &debug.BuildInfo{Main: debug.Module{Version: "v1.2.3"}, Settings: []debug.BuildSetting{
		{Key: "vcs.revision", Value: "0123456789abcdef"}, {Key: "vcs.time", Value: "2026-11-21T00:00:00Z"}, {Key: "vcs.modified", Value: "true"}}}
	got := readVersion(info, true)
	if want := "sonde v1.2.3 (0123456789ab, modified, 2026-11-21T00:00:00Z) " + got.Go; !strings.HasPrefix(got.String(), want) {
		t.Errorf("version = %q, want %q", got, want)
	}
	if got := readVersion(nil, false).Version; got != "devel" {
		t.Errorf("version without build info = %q", got)
	}
	if r := sonde(t, nil, "", "version"); !strings.HasPrefix(r.stdout, "sonde ") || r.code != 0 {
		t.Errorf("sonde version = %+v", r)
	}
}

func TestConfig(t *testing.T) {
	r := sonde(t, nil, "", "config", "--retention-age", "30d")
	if r.code != 0 {
		t.Fatal(r.stderr)
	}
	for _, want := range []string{"retention_age", "30d", "flag", "default"} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("no %q in\n%s", want, r.stdout)
		}
	}
}
