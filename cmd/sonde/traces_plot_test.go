package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// plotServer answers the queries of `sonde gc -o plot` and `sonde sched -o plot` about two processes over an hour: the live heap rises below that of before and after a cycle, which do not,
// and three cycles were forced at half past.
func plotServer(t *testing.T) http.HandlerFunc {
	type series struct {
		Metric map[string]string `json:"metric"`
		Values [][2]any          `json:"values"`
	}
	line := func(instance, label, value string, f func(i int) float64) series {
		s := series{Metric: map[string]string{"service_name": "cart", "service_instance_id": instance, "host_name": "n1", "process_pid": "4711", label: value}}
		for i := range 121 {
			if v := f(i); v >= 0 {
				s.Values = append(s.Values, [2]any{now.Add(-time.Hour).Unix() + int64(i)*30, fmt.Sprint(v)})
			}
		}
		return s
	}
	flat := func(v float64) func(int) float64 { return func(int) float64 { return v } }
	const mib = 1 << 20
	answers := []struct {
		in    string // the query
		lines map[string]func(i int) float64
		by    string
	}{
		{"gctrace_pause_seconds", map[string]func(int) float64{"": func(i int) float64 { return float64(i) * 1e-5 }}, "phase"},
		{"gctrace_heap_bytes", map[string]func(int) float64{"start": flat(64 * mib), "end": flat(65 * mib), "live": func(i int) float64 { return float64(i) * mib / 4 }, "goal": flat(80 * mib),
			"forced": func(i int) float64 { return float64(3 - 4*abs(int64(i)-60)) }}, "at"},
		{"gctrace_cpu_seconds", map[string]func(int) float64{"sweep_termination": flat(0.01), "mark_termination": flat(0.02), "assist": flat(0.1), "background": flat(0.25),
			"idle": flat(0.17)}, "phase"},
		{"schedtrace_runqueue", map[string]func(int) float64{"global": flat(2), "local": flat(9)}, "is"},
		{"schedtrace_idleprocs", map[string]func(int) float64{"all": flat(8), "idle": flat(3)}, "is"},
		{"schedtrace_threads", map[string]func(int) float64{"all": flat(20), "idle": flat(6), "spinning": flat(0)}, "is"},
	}
	return func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "_range") {
			fmt.Fprint(w, `{"data":{"resultType":"vector","result":[]}}`)
			return
		}
		query := r.FormValue("query")
		for _, word := range []string{"SELECTOR", "STEP", "SECONDS", "PROCESS"} {
			if strings.Contains(query, word) {
				t.Errorf("%s is not filled in: %s", word, query)
			}
		}
		for _, a := range answers {
			if !strings.Contains(query, a.in) {
				continue
			}
			var result []series
			for _, instance := range []string{"fedcba9876543210", "0123456789abcdef"} {
				for value, f := range a.lines {
					result = append(result, line(instance, a.by, value, f))
				}
			}
			data := map[string]any{"data": map[string]any{"resultType": "matrix", "result": result}}
			if err := json.NewEncoder(w).Encode(data); err != nil {
				t.Error(err)
			}
			return
		}
		t.Errorf("unexpected query %s", query)
	}
}

// plotOf returns what a verb's plot of the last hour looks like in a terminal of so many columns.
func plotOf(t *testing.T, verb string, columns int) string {
	t.Helper()
	srv := httptest.NewServer(plotServer(t))
	defer srv.Close()
	var out, errs bytes.Buffer
	a := newApp(nil, &out, &errs)
	a.columns = columns
	a.now = func() time.Time { return now }
	if err := a.run(t.Context(), []string{verb, "-o", "plot", "--since", "1h", "--server", srv.URL}); err != nil {
		t.Fatalf("%v, %s", err, errs.String())
	}
	return out.String()
}

// TestTracePlots compares what is drawn with what is known to be right, and makes sure that it fits.
func TestTracePlots(t *testing.T) {
	time.Local = time.UTC
	for _, verb := range []string{"gc", "sched"} {
		for _, columns := range []int{80, 140} {
			got := plotOf(t, verb, columns)
			golden(t, fmt.Sprintf("testdata/%s_plot_%d.txt", verb, columns), []byte(got))
			frame := -1
			for line := range strings.Lines(got) {
				line = strings.TrimSuffix(line, "\n")
				if n := utf8.RuneCountInString(line); n > columns {
					t.Errorf("%s in %d columns: a line of %d: %s", verb, columns, n, line)
				}
				left, _, framed := strings.Cut(line, "│")
				if n := utf8.RuneCountInString(left); framed && frame >= 0 && n != frame {
					t.Errorf("%s in %d columns: the frame is at %d and at %d: %s", verb, columns, frame, n, line)
				} else if frame = n; !framed {
					frame = -1
				}
				if _, below, found := strings.Cut(line, "└"); found && !strings.HasSuffix(below, "─") {
					t.Errorf("%s in %d columns: below: %s", verb, columns, line)
				}
			}
		}
	}
}

// TestGCPlotTells finds in the plot what was asked of it: each line of the heap, the live one in its rise, the share of each phase, the forced cycles where they were.
func TestGCPlotTells(t *testing.T) {
	got := plotOf(t, "gc", 80)
	_, heap, _ := strings.Cut(got, "heap before and after")
	heap, cpu, _ := strings.Cut(heap, "CPU of the collector")
	first, _, _ := strings.Cut(heap, "cart n1 4711 fedcba98")
	rows := map[rune][]int{} // of each letter, from the top
	var forced string
	for y, line := range strings.Split(first, "\n")[3:] {
		label, plotted, framed := strings.Cut(line, "│")
		if strings.TrimSpace(label) == "forced" {
			forced = plotted
			continue
		}
		for _, c := range plotted {
			if framed && !slices.Contains(rows[c], y) {
				rows[c] = append(rows[c], y)
			}
		}
	}
	if len(rows['l']) < 3 {
		t.Errorf("the rise of the live heap is not seen: rows %v of\n%s", rows['l'], first)
	}
	for c, n := range map[rune]int{'b': 1, 'a': 1, 'g': 1} {
		if len(rows[c]) != n {
			t.Errorf("line %c is in rows %v of\n%s", c, rows[c], first)
		}
	}
	if rows['g'][0] >= rows['a'][0] || rows['a'][0] != rows['b'][0] {
		t.Errorf("the goal is not above before and after, which meet, in\n%s", first)
	}
	if !strings.Contains(first, "cart n1 4711 01234567, 3 forced\n") || strings.TrimSpace(forced) != "3" || abs(int64(len(forced))-36) > 2 {
		t.Errorf("three forced cycles at half past are drawn as %q in\n%s", forced, first)
	}
	for _, letter := range "sabi" {
		if !strings.Contains(cpu, strings.Repeat(string(letter), 10)) {
			t.Errorf("no line of %c in\n%s", letter, cpu)
		}
	}
	if !strings.Contains(cpu, "25%") {
		t.Errorf("the highest share is not a quarter in\n%s", cpu)
	}
}

// TestTraceTablesFold prints a table that is too wide for the terminal as several, each with who it is about.
func TestTraceTablesFold(t *testing.T) {
	for _, verb := range []string{"gc", "sched"} {
		for columns, tables := range map[int]int{0: 1, 80: 2, 140: 0, 300: 1} {
			srv := httptest.NewServer(tracesServer(t, nil))
			var out bytes.Buffer
			a := newApp(nil, &out, &out)
			a.columns = columns
			if err := a.run(t.Context(), []string{verb, "--service", "cart", "--server", srv.URL}); err != nil {
				t.Fatal(err)
			}
			srv.Close()
			n := strings.Count(out.String(), "SERVICE")
			if tables == 1 && n != 1 || tables == 2 && n < 2 || n != strings.Count(out.String(), "01234567") {
				t.Errorf("%s in %d columns: %d tables\n%s", verb, columns, n, out.String())
			}
			for _, line := range strings.Split(out.String(), "\n")[1:] {
				if n := utf8.RuneCountInString(line); columns > 0 && n > columns {
					t.Errorf("%s in %d columns: a line of %d: %s", verb, columns, n, line)
				}
			}
		}
	}
}
