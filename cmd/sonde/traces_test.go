package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// tracesServer answers queries by the metric and the function in them.
func tracesServer(t *testing.T, asked *[]string) http.HandlerFunc {
	series := func(name string, v string, more string) string {
		return fmt.Sprintf(`{"metric":{"__name__":%q,"service_name":"cart","service_instance_id":"0123456789abcdef","host_name":"n1","process_pid":"4711"%s},"value":[1795262400,%q]}`, name, more, v)
	}
	one := func(name, label string, values map[string]string) string {
		var out []string
		for label2, v := range values {
			more := ""
			if label != "" {
				more = fmt.Sprintf(`,%q:%q`, label, label2)
			}
			out = append(out, series(name, v, more))
		}
		return `{"status":"success","data":{"resultType":"vector","result":[` + strings.Join(out, ",") + `]}}`
	}
	answers := map[string]string{
		"count_over_time(gctrace_cycle":                     one("", "", map[string]string{"": "1234"}),
		"sum_over_time(gctrace_forced":                      one("", "", map[string]string{"": "2"}),
		"quantile_over_time(0.5, gctrace_pause_seconds":     one("", "phase", map[string]string{"sweep_termination": "0.00001", "mark_termination": "0.00005"}),
		"quantile_over_time(0.99, gctrace_pause_seconds":    one("", "phase", map[string]string{"sweep_termination": "0.003", "mark_termination": "0.001"}),
		"max_over_time(gctrace_pause_seconds":               one("", "phase", map[string]string{"sweep_termination": "0.0121", "mark_termination": "0.001"}),
		"sum_over_time(gctrace_pause_seconds":               one("", "phase", map[string]string{"sweep_termination": "1", "mark_termination": "0.5"}),
		"avg_over_time(gctrace_heap_bytes":                  one("", "at", map[string]string{"start": "4194304", "end": "5242880", "live": "3145728"}),
		"avg_over_time(gctrace_goal_bytes":                  one("", "", map[string]string{"": "6291456"}),
		"sum_over_time(gctrace_cpu_seconds":                 one("", "phase", map[string]string{"sweep_termination": "1", "mark_termination": "1", "assist": "2", "background": "5", "idle": "1"}),
		"last_over_time(gctrace_cpu_ratio":                  one("", "", map[string]string{"": "0.05"}),
		"last_over_time(gctrace_procs":                      one("", "", map[string]string{"": "2"}),
		"min(min_over_time(timestamp(gctrace_cycle":         one("", "", map[string]string{"": "1795262400"}),
		"min(min_over_time(timestamp(schedtrace_gomaxprocs": one("", "", map[string]string{"": "1795262400"}),
		"count_over_time(schedtrace_gomaxprocs":             one("", "", map[string]string{"": "60"}),
		"last_over_time(schedtrace_gomaxprocs":              one("", "", map[string]string{"": "2"}),
		"avg_over_time(schedtrace_idleprocs":                one("", "", map[string]string{"": "1.25"}),
		"avg_over_time(schedtrace_runqueue":                 one("", "", map[string]string{"": "0.5"}),
		"max_over_time(schedtrace_runqueue":                 one("", "", map[string]string{"": "8"}),
		"avg_over_time(schedtrace_local_runqueue":           one("", "", map[string]string{"": "2"}),
		"max_over_time(schedtrace_local_runqueue_max":       one("", "", map[string]string{"": "7"}),
		"max_over_time(schedtrace_threads":                  one("", "", map[string]string{"": "12"}),
		"avg_over_time(schedtrace_idle_threads":             one("", "", map[string]string{"": "5"}),
		"avg_over_time(schedtrace_spinning_threads":         one("", "", map[string]string{"": "0.1"}),
		"avg_over_time(schedtrace_goroutines":               one("", "state", map[string]string{"waiting": "40", "runnable": "3"}),
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/prometheus/api/v1/query", func(w http.ResponseWriter, r *http.Request) {
		q := r.FormValue("query")
		if asked != nil {
			*asked = append(*asked, q)
		}
		for prefix, answer := range answers {
			if strings.HasPrefix(q, prefix+"{") {
				fmt.Fprint(w, answer)
				return
			}
		}
		t.Errorf("unexpected query %s", q)
	})
	mux.HandleFunc("/prometheus/api/v1/query_range", func(w http.ResponseWriter, r *http.Request) {
		*asked = append(*asked, r.FormValue("query"))
		fmt.Fprint(w, matrix())
	})
	mux.HandleFunc("/api/v1/lines", func(w http.ResponseWriter, r *http.Request) {
		*asked = append(*asked, r.FormValue("grep"))
		fmt.Fprint(w, `{"lines":[{"time":1795262400123,"service":"cart","instance":"0123456789abcdef","source":"stderr","text":"gc 1 @0.017s 1%\u001b"}],"more":true,"next":1795262401000}`)
	})
	return mux.ServeHTTP
}

func TestGCAndSched(t *testing.T) {
	for _, tc := range []struct{ verb, header, row string }{
		{"gc", "1,234 cycles in 1 process", "cart n1 4711 01234567 1,234 2 50.0µs 3.00ms 12.1ms 4.00MiB 5.00MiB 3.00MiB 6.00MiB 10.0s 20.0% 20.0% 50.0% 10.0% 5.0%"},
		{"sched", "60 lines of 1 process", "cart n1 4711 01234567 60 2 1.25 0.5 8 2 7 12 5 0.1 waiting 40, runnable 3"},
	} {
		var asked []string
		r := sonde(t, tracesServer(t, &asked), "", tc.verb, "--service", "cart", "--since", "15m")
		lines := strings.Split(strings.TrimSpace(r.stdout), "\n")
		if r.code != 0 || len(lines) != 3 || !strings.Contains(lines[0], tc.header) || strings.Join(strings.Fields(lines[2]), " ") != tc.row {
			t.Errorf("%s: exit %d, %s\n%s", tc.verb, r.code, r.stderr, r.stdout)
		}
		for _, q := range asked {
			if !strings.Contains(q, `{service_name="cart"}[900000ms]`) {
				t.Errorf("asked %s", q)
			}
		}
		r = sonde(t, tracesServer(t, nil), "", tc.verb, "--service", "cart", "-o", "json")
		var got struct{ Processes []map[string]any }
		if err := json.Unmarshal([]byte(r.stdout), &got); err != nil || len(got.Processes) != 1 || got.Processes[0]["instance"] != "0123456789abcdef" {
			t.Errorf("%s -o json: %v\n%s", tc.verb, err, r.stdout)
		}
		asked = nil
		r = sonde(t, tracesServer(t, &asked), "", tc.verb, "--service", "cart", "-o", "plot")
		if r.code != 0 || !strings.Contains(r.stdout, "│") || len(asked) < 3 || strings.Contains(strings.Join(asked, ""), "SELECTOR") {
			t.Errorf("%s -o plot: exit %d, %s\n%s", tc.verb, r.code, r.stderr, r.stdout)
		}
		r = sonde(t, tracesServer(t, &asked), "", tc.verb, "--service", "cart", "--lines")
		if r.code != 0 || !strings.Contains(r.stdout, "01234567  gc 1 @0.017s 1%?") || !strings.Contains(r.stderr, "there are more") {
			t.Errorf("%s --lines: exit %d, %s, %s", tc.verb, r.code, r.stdout, r.stderr)
		}
		var q url.Values
		if r = sonde(t, answers("/prometheus/api/v1/query", `{"data":{"resultType":"vector","result":[]}}`, &q), "", tc.verb); r.code != 0 || !strings.Contains(r.stdout, "sonde run") {
			t.Errorf("%s of nothing: exit %d, %s", tc.verb, r.code, r.stdout)
		}
		for _, args := range [][]string{{"--lines", "-o", "plot"}, {"--lines", "--query", "{a=\"b\"}"}, {"-n", "0"}} {
			if r := sonde(t, tracesServer(t, &asked), "", append([]string{tc.verb}, args...)...); r.code != 2 {
				t.Errorf("%s %v: exit %d, %s", tc.verb, args, r.code, r.stderr)
			}
		}
	}
}
