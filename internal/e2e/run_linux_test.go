package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// collecting is a program that collects, prints lines and half lines, and says at its end what its runtime knows of its cycles. An agent in it has ended by then.
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
		imports, start, stop = "\n\t\"github.com/sonde-io/sonde/agent\"\n", `a := agent.Start(agent.Config{Service: "orders"})`, "a.Close()"
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
		if got := srv.number(t, "sum(count_over_time(gctrace_cycle"+of+"))"); got != cycles || cycles < 10 {
			t.Errorf("%s: %v cycles in the store, the runtime says %v", tc.service, got, cycles)
		}
		sum := srv.number(t, "sum(sum_over_time(gctrace_pause_seconds"+of+"))")
		if slack := cycles*2e-6 + pauses*1e-9*0.05; math.Abs(sum-pauses*1e-9) > slack {
			t.Errorf("%s: pauses of %v s in the store, the runtime says %v s; rounding explains %v s", tc.service, sum, pauses*1e-9, slack)
		}
		if got := srv.number(t, "sum(count_over_time(schedtrace_gomaxprocs"+of+"))"); got < 2 {
			t.Errorf("%s: %v lines of schedtrace", tc.service, got)
		}
		var lines struct {
			Lines []struct{ Text, Instance string }
		}
		srv.get(t, "/api/v1/lines?limit=50000&grep="+url.QueryEscape(`^gc \d+ @`)+"&service="+tc.service, &lines)
		if len(lines.Lines) != int(cycles) {
			t.Errorf("%s: %d lines of gctrace, the runtime says %v cycles", tc.service, len(lines.Lines), cycles)
		}
		if tc.agent && len(lines.Lines) > 0 { // joined with what the agent says
			if got := srv.number(t, fmt.Sprintf("count(count_over_time(go_goroutines{service_instance_id=%q}[1h]))", lines.Lines[0].Instance)); got != 1 {
				t.Errorf("%d series of the agent's under the launcher's instance, want one", int(got))
			}
		}
	}
}

// number asks for one number; -1: there is none.
func (s *server) number(t *testing.T, expr string) float64 {
	t.Helper()
	resp, err := http.Get(s.url + "/prometheus/api/v1/query?query=" + url.QueryEscape(expr) + "&time=" + strconv.FormatInt(time.Now().Add(time.Minute).Unix(), 10))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct {
		Error string
		Data  struct {
			Result []struct{ Value []any }
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || answer.Error != "" {
		t.Fatalf("%s: %v %s", expr, err, answer.Error)
	}
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
