package e2e

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sonde-io/sonde/collector/godebug"
)

// collecting is a program that collects, prints lines and half lines, and says at its end what its runtime knows of its cycles. An agent in it has ended by then, one cycle before the last:
// no cycle runs while it reads its metrics for the last time.
const collecting = `package main

import (
	"fmt"
	"os"
	"runtime"
	"time"
%s)

var sink []byte

func main() {
	%s
	for i := 0; i < 400; i++ {
		for j := 0; j < 20; j++ {
			sink = make([]byte, 64<<10)
		}
		fmt.Fprintf(os.Stderr, "order %%d", i)
		time.Sleep(time.Millisecond)
		fmt.Fprintln(os.Stderr, " is done")
	}
	%s
	runtime.GC()
	time.Sleep(50 * time.Millisecond)
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	fmt.Println(m.NumGC, m.PauseTotalNs)
}
`

// buildCollecting compiles it, in the workspace, so that the agent is this tree's.
func buildCollecting(t *testing.T, agent bool) string {
	t.Helper()
	imports, start, stop := "", "", ""
	if agent {
		imports, start = "\t\"runtime/debug\"\n\n\t\"github.com/sonde-io/sonde/agent\"\n", `a := agent.Start(agent.Config{Service: "orders", CloseTimeout: time.Minute})`
		stop = "debug.SetGCPercent(-1)\n\truntime.GC()\n\ttime.Sleep(2 * time.Second) // a reading of less than a second ago would do for the last\n\tif err := a.Close(); err != nil {\n\t\tpanic(err)\n\t}"
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "main.go")
	if err := os.WriteFile(file, fmt.Appendf(nil, collecting, imports, start, stop), 0o600); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "orders-of-today")
	if out, err := exec.Command("go", "build", "-o", program, file).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return program
}

// TestRun: of a program under sonde run, with an agent and without, every cycle is in the time series and every line among the lines, its pauses add up to what its runtime says,
// and its standard error is its own.
func TestRun(t *testing.T) {
	srv := startServe(t, t.TempDir())
	bin, err := sonde()
	if err != nil {
		t.Fatal(err)
	}
	var wantErr strings.Builder
	for i := range 400 {
		fmt.Fprintf(&wantErr, "order %d is done\n", i)
	}
	for _, tc := range []struct {
		service string
		agent   bool
	}{{"orders-of-today", false}, {"orders", true}} {
		cmd := exec.Command(bin, "run", "--schedtrace", "100", "--every", "200ms", "--close-timeout", "60s", "--", buildCollecting(t, tc.agent))
		cmd.Env = append(os.Environ(), "SONDE_URL="+srv.url)
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Run(); err != nil {
			t.Fatalf("%v\n%s", err, stderr.Bytes())
		}
		if stderr.String() != wantErr.String() {
			t.Errorf("%s: standard error is not the program's own: %.1000q", tc.service, stderr.String())
		}
		var cycles, pauses float64
		if _, err := fmt.Sscan(stdout.String(), &cycles, &pauses); err != nil {
			t.Fatal(err)
		}
		of := fmt.Sprintf("{service_name=%q}[1h]", tc.service)
		if got := srv.number(t, "sum(count_over_time(gctrace_cycle"+of+"))"); got != cycles || cycles < 1 {
			t.Errorf("%s: %v cycles in the store, the runtime says %v", tc.service, got, cycles)
		}
		sum := srv.number(t, "sum(sum_over_time(gctrace_pause_seconds"+of+"))")
		if got := srv.number(t, "sum(count_over_time(schedtrace_gomaxprocs"+of+"))"); got < 2 {
			t.Errorf("%s: %v lines of schedtrace", tc.service, got)
		}
		var lines struct {
			Lines []struct{ Text, Instance string }
		}
		srv.get(t, "/api/v1/lines?limit=50000&grep="+url.QueryEscape(`^gc \d+ @`)+"&service="+tc.service, &lines)
		if len(lines.Lines) != int(cycles) {
			t.Fatalf("%s: %d lines of gctrace, the runtime says %v cycles", tc.service, len(lines.Lines), cycles)
		}
		all := make([]godebug.GC, 0, len(lines.Lines))
		for _, line := range lines.Lines {
			l, ok := godebug.Parse([]byte(line.Text))
			if !ok {
				t.Fatalf("not read: %q", line.Text)
			}
			all = append(all, l.GC)
		}
		if printed, slack := pausesOf(all); math.Abs(sum-printed) > 1e-9 || sum < pauses*1e-9-slack || sum > pauses*1e-9+slack+lostCPU {
			t.Errorf("%s: pauses of %v s in the store and %v s in the lines, the runtime says %v s; rounding explains %v s", tc.service, sum, printed, pauses*1e-9, slack)
		}
		if tc.agent { // joined with what the agent says
			srv.checkAgentPauses(t, lines.Lines[0].Instance, all)
			if got := srv.number(t, fmt.Sprintf("count(count_over_time(go_goroutines{service_instance_id=%q}[1h]))", lines.Lines[0].Instance)); got != 1 {
				t.Errorf("%d series of the agent's under the launcher's instance, want one", int(got))
			}
		}
	}
}

// TestRunDaemon: what a daemon that a script leaves running writes later comes out, and sonde run ends as the script does, not with the daemon.
func TestRunDaemon(t *testing.T) {
	bin, err := sonde()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := syscall.Mkfifo(dir+"/go", 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "run", "--server", "http://127.0.0.1:1", "--close-timeout", "10ms", "--", "sh", "-c", fmt.Sprintf("(read go <%s/go; echo late >&2; echo $? >&2) & echo last >&2; exit 3", dir))
	ours, theirs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	cmd.Stderr = theirs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = theirs.Close()
	_ = cmd.Wait() // for sonde run only: what it has are files
	if got := cmd.ProcessState.ExitCode(); got != 3 {
		t.Errorf("exit status %d, want 3", got)
	}
	if err := os.WriteFile(dir+"/go", []byte("go\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(ours); err != nil || string(got) != "last\nlate\n0\n" { // until nobody holds it
		t.Errorf("standard error is %q, %v", got, err)
	}
}

// lostCPU is how much longer, in seconds, all pauses of a trace may be than those that the runtime counts, whose clock starts a moment later: on a busy machine the thread may lose its CPU in
// between. How exact they are otherwise is tested with the launcher, where a run can be repeated.
const lostCPU = 0.2

// pausesOf adds up the pauses of cycles, and one of the last digit of each: the runtime cuts off what is behind it. Both are seconds.
func pausesOf(cycles []godebug.GC) (sum, slack float64) {
	for _, c := range cycles {
		for _, ms := range []float64{c.Clock[0], c.Clock[2]} {
			sum += ms / 1e3
			switch { // whole ms from 10 on, else two digits, three behind the point at most
			case ms >= 10:
				slack += 1e-3
			case ms >= 1:
				slack += 1e-4
			case ms >= 0.1:
				slack += 1e-5
			default:
				slack += 1e-6
			}
		}
	}
	return sum, slack
}

// checkAgentPauses compares the cycles of a trace, all but the last of which the agent saw, with its runtime/metrics: their count, two pauses each at least, and what these add up to within the buckets'
// bounds. A third pause is in a cycle only where its mark termination starts over (go.dev/issue/27993), for which a program has to write pointers at its end.
func (s *server) checkAgentPauses(t *testing.T, instance string, cycles []godebug.GC) {
	t.Helper()
	slices.SortFunc(cycles, func(a, b godebug.GC) int { return cmp.Compare(a.Cycle, b.Cycle) })
	cycles = cycles[:len(cycles)-1]
	last := func(name string) string {
		return fmt.Sprintf("last_over_time(%s{service_instance_id=%q}[1h])", name, instance)
	}
	if got := s.number(t, last("go_gc_cycles_total_gc_cycles_total")); got != float64(len(cycles)) {
		t.Errorf("%v cycles by the agent, %d by the trace", got, len(cycles))
	}
	pauses := last("go_gc_pauses_seconds")
	if got := s.number(t, "histogram_count("+pauses+")"); got < float64(2*len(cycles)) || got > float64(3*len(cycles)) {
		t.Errorf("%v pauses by the agent, two of each of %d cycles by the trace", got, len(cycles))
	}
	low, high := s.bounds(t, pauses)
	sum, slack := pausesOf(cycles)
	t.Logf("pauses of %v s to %v s by the trace, of %v s to %v s by the agent's buckets", sum, sum+slack, low, high)
	if sum+slack < low || sum > high+lostCPU {
		t.Errorf("pauses of %v s to %v s by the trace, of %v s to %v s by the agent's buckets", sum, sum+slack, low, high)
	}
	if got := s.number(t, "histogram_sum("+pauses+")"); got < low || got > high {
		t.Errorf("the sum of the agent's pauses is %v s, of its buckets %v s to %v s", got, low, high)
	}
}

// bounds returns the least and the most that the values in a histogram's buckets add up to, none of which is below 0.
func (s *server) bounds(t *testing.T, expr string) (low, high float64) {
	t.Helper()
	var answer struct {
		Data struct {
			Result []struct{ Histogram []json.RawMessage }
		}
	}
	s.query(t, expr, &answer)
	if len(answer.Data.Result) != 1 || len(answer.Data.Result[0].Histogram) != 2 {
		t.Fatalf("%s: %+v, want one histogram", expr, answer)
	}
	var h struct{ Buckets [][]any } // rule, bounds, count
	if err := json.Unmarshal(answer.Data.Result[0].Histogram[1], &h); err != nil {
		t.Fatal(err)
	}
	for _, b := range h.Buckets {
		var v [3]float64
		for i := range v {
			text, _ := b[i+1].(string)
			var err error
			if v[i], err = strconv.ParseFloat(text, 64); err != nil {
				t.Fatal(err)
			}
		}
		low += v[2] * max(v[0], 0)
		high += v[2] * v[1]
	}
	return low, high
}

// number asks for one number; -1: there is none.
func (s *server) number(t *testing.T, expr string) float64 {
	t.Helper()
	var answer struct {
		Data struct {
			Result []struct{ Value []any }
		}
	}
	s.query(t, expr, &answer)
	if len(answer.Data.Result) != 1 {
		return -1
	}
	text, _ := answer.Data.Result[0].Value[1].(string)
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// query asks a query of now.
func (s *server) query(t *testing.T, expr string, answer any) {
	t.Helper()
	resp, err := http.Get(s.url + "/prometheus/api/v1/query?query=" + url.QueryEscape(expr) + "&time=" + strconv.FormatInt(time.Now().Add(time.Minute).Unix(), 10))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d %v %s", expr, resp.StatusCode, err, body)
	}
	if err := json.Unmarshal(body, answer); err != nil {
		t.Fatalf("%s: %v", expr, err)
	}
}
