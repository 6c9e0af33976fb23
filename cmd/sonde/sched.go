package main

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
)

// schedRow is what schedtrace says of one process over a range: means, and the highest where a peak says more.
type schedRow struct {
	traceProcess
	Lines       int64              `json:"lines"`
	Procs       float64            `json:"gomaxprocs"`
	Idle        float64            `json:"idleprocs"`
	Queue       float64            `json:"runqueue"`
	QueueMax    float64            `json:"runqueue_max"`
	Local       float64            `json:"local_runqueue"`
	LocalMax    float64            `json:"local_runqueue_max"` // of one processor
	Threads     float64            `json:"threads_max"`
	IdleThreads float64            `json:"idle_threads"`
	Spinning    float64            `json:"spinning_threads"`
	Goroutines  map[string]float64 `json:"goroutines,omitempty"` // by state, with scheddetail
}

func (a *app) schedCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sched",
		Short: "What schedtrace says: run queues, idle processors, threads, per process",
		Long: `List what the lines of GODEBUG=schedtrace=MS say, one row per process: how many processors were idle, how many goroutines waited for one (in the global
queue, and in the processors' own), on average and at most, and the threads. With scheddetail also the goroutines by state.

Goroutines that wait while processors are idle mean that the process does not get the CPU time that it thinks it has: compare with
container_cpu_cfs_throttled_seconds_total. --lines prints the lines.`,
		Example: `  sonde sched --service cart
  sonde sched --service cart --since 15m -o plot
  sonde sched --service cart --lines --limit 100`,
		Args: cobra.NoArgs,
	}
	traceVerb(a, cmd, trace[schedRow]{name: "schedtrace", flag: " --schedtrace 1000", each: "schedtrace_gomaxprocs", lines: "^(SCHED |  [PMG][0-9])", panels: schedPanels,
		rows: (*traceQuery).sched, write: a.writeSched})
	return cmd
}

// schedPanels are drawn by `sonde sched -o plot`.
var schedPanels = []tracePanel{
	{title: "goroutines that wait for a processor, the most", unit: promNumber, by: "is", expr: schedLine("max", "runqueue", "global") + " or " + schedLine("max", "local_runqueue", "local"),
		lines: []traceMark{{'g', "in the global queue", []string{"global"}}, {'p', "in the processors' own", []string{"local"}}}},
	{title: "processors, and the fewest of them idle", unit: promNumber, by: "is", expr: schedLine("max", "gomaxprocs", "all") + " or " + schedLine("min", "idleprocs", "idle"),
		lines: []traceMark{{'a', "all", []string{"all"}}, {'i', "idle", []string{"idle"}}}},
	{title: "threads, the most", unit: promNumber, by: "is",
		expr:  schedLine("max", "threads", "all") + " or " + schedLine("max", "idle_threads", "idle") + " or " + schedLine("max", "spinning_threads", "spinning"),
		lines: []traceMark{{'a', "all", []string{"all"}}, {'i', "idle", []string{"idle"}}, {'s', "spinning", []string{"spinning"}}}},
}

// schedLine returns the expression of one line of a panel: what f makes of the metric, called is.
func schedLine(f, metric, is string) string {
	return fmt.Sprintf(`label_replace(%s by (PROCESS) (%s_over_time(schedtrace_%sSELECTOR[STEP])), "is", %q, "", "")`, f, f, metric, is)
}

// sched asks for the figures of all processes.
func (q *traceQuery) sched() ([]*schedRow, error) {
	rows := map[string]*schedRow{}
	for _, ask := range []struct {
		expr string
		set  func(row *schedRow, ls map[string]string, v float64)
	}{
		{"count_over_time(" + q.over("schedtrace_gomaxprocs") + ")", func(row *schedRow, _ map[string]string, v float64) { row.Lines = int64(v) }},
		{"last_over_time(" + q.over("schedtrace_gomaxprocs") + ")", func(row *schedRow, _ map[string]string, v float64) { row.Procs = v }},
		{"avg_over_time(" + q.over("schedtrace_idleprocs") + ")", func(row *schedRow, _ map[string]string, v float64) { row.Idle = v }},
		{"avg_over_time(" + q.over("schedtrace_runqueue") + ")", func(row *schedRow, _ map[string]string, v float64) { row.Queue = v }},
		{"max_over_time(" + q.over("schedtrace_runqueue") + ")", func(row *schedRow, _ map[string]string, v float64) { row.QueueMax = v }},
		{"avg_over_time(" + q.over("schedtrace_local_runqueue") + ")", func(row *schedRow, _ map[string]string, v float64) { row.Local = v }},
		{"max_over_time(" + q.over("schedtrace_local_runqueue_max") + ")", func(row *schedRow, _ map[string]string, v float64) { row.LocalMax = v }},
		{"max_over_time(" + q.over("schedtrace_threads") + ")", func(row *schedRow, _ map[string]string, v float64) { row.Threads = v }},
		{"avg_over_time(" + q.over("schedtrace_idle_threads") + ")", func(row *schedRow, _ map[string]string, v float64) { row.IdleThreads = v }},
		{"avg_over_time(" + q.over("schedtrace_spinning_threads") + ")", func(row *schedRow, _ map[string]string, v float64) { row.Spinning = v }},
		{"avg_over_time(" + q.over("schedtrace_goroutines") + ")", func(row *schedRow, ls map[string]string, v float64) {
			if row.Goroutines == nil {
				row.Goroutines = map[string]float64{}
			}
			row.Goroutines[ls["state"]] = v
		}},
	} {
		series, err := q.ask("%s", ask.expr)
		if err != nil {
			return nil, err
		}
		for _, s := range series {
			row := rows[processOf(s.labels)]
			if row == nil {
				row = &schedRow{traceProcess: traceProcessOf(s.labels)}
				rows[processOf(s.labels)] = row
			}
			ask.set(row, s.labels, s.points[len(s.points)-1].v)
		}
	}
	out := make([]*schedRow, 0, len(rows))
	for _, row := range rows {
		out = append(out, row)
	}
	slices.SortFunc(out, func(a, b *schedRow) int {
		return cmp.Or(cmp.Compare(b.Queue+b.Local, a.Queue+a.Local), cmp.Compare(a.Instance, b.Instance))
	})
	return out, nil
}

func (a *app) writeSched(q *traceQuery, rows []*schedRow, limit int) error {
	var lines int64
	for _, row := range rows {
		lines += row.Lines
	}
	if _, err := fmt.Fprintf(a.stdout, "schedtrace%s: %s of %s\n", between(q.r.From, q.r.To), plural(lines, "line"), processCount(len(rows))); err != nil {
		return err
	}
	number := func(v float64) string { return formatNumber(v, "") }
	tab := a.newTable("SERVICE", "WHERE", ">PID", "INSTANCE", ">LINES", ">PROCS", ">IDLE", ">QUEUE", ">MAX", ">LOCAL", ">MAX OF ONE", ">THREADS", ">IDLE THREADS", ">SPINNING", "GOROUTINES")
	for _, row := range rows[:min(limit, len(rows))] {
		states := make([]string, 0, len(row.Goroutines))
		for state := range row.Goroutines {
			states = append(states, state)
		}
		slices.SortFunc(states, func(a, b string) int { return cmp.Compare(row.Goroutines[b], row.Goroutines[a]) })
		text := ""
		for i, state := range states {
			if i > 0 {
				text += ", "
			}
			text += clean(state) + " " + number(row.Goroutines[state])
		}
		tab.add(append(row.cells(), group(row.Lines), number(row.Procs), number(row.Idle), number(row.Queue), number(row.QueueMax), number(row.Local), number(row.LocalMax),
			number(row.Threads), number(row.IdleThreads), number(row.Spinning), dash(text))...)
	}
	if err := tab.writeFolded(a.stdout, 4, 11); err != nil {
		return err
	}
	if more := len(rows) - limit; more > 0 {
		fmt.Fprintf(a.stderr, "%d more processes; --limit shows them\n", more)
	}
	return nil
}
