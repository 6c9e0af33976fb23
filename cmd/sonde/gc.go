package main

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
)

// gcRow is what gctrace says of one process over a range.
type gcRow struct {
	traceProcess
	Cycles int64 `json:"cycles"`
	Forced int64 `json:"forced"`
	// Pauses are seconds: of the two stops of a cycle the quantile of the longer one.
	PauseP50   float64 `json:"pause_p50_seconds"`
	PauseP99   float64 `json:"pause_p99_seconds"`
	PauseMax   float64 `json:"pause_max_seconds"`
	PauseTotal float64 `json:"pause_total_seconds"`
	// Bytes, on average over the cycles.
	HeapStart float64 `json:"heap_start_bytes"`
	HeapEnd   float64 `json:"heap_end_bytes"`
	HeapLive  float64 `json:"heap_live_bytes"`
	Goal      float64 `json:"goal_bytes"`
	// CPU is seconds by phase, Ratio the share of the collector in the program's CPU time since its start, as the last line tells.
	CPU   map[string]float64 `json:"cpu_seconds"`
	Ratio float64            `json:"cpu_ratio"`
	Procs float64            `json:"procs"`
}

func (a *app) gcCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "gc",
		Short: "What gctrace says: pauses, heap and goal, CPU by phase, per process",
		Long: `List what the lines of GODEBUG=gctrace=1 say, one row per process: garbage collections (and how many of them were forced), how long they stopped
the program (of a cycle's two stops the longer one's median and 99th percentile, and the longest of all), the heap at the start, at the end and live
after it and its goal, each on average, and where the collector's CPU time went. -o plot draws the same over time.

The lines come from programs under sonde run, or from logs that the collector follows. runtime/metrics tells much of this for every process with an
agent (sonde query go_gc_pauses_seconds); gctrace tells it cycle by cycle. --lines prints the lines.`,
		Example: `  sonde gc --service cart
  sonde gc --service cart --since 15m -o plot
  sonde gc --query '{host_name="n1"}' -o json
  sonde gc --service cart --lines --limit 100`,
		Args: cobra.NoArgs,
	}
	traceVerb(a, cmd, trace[gcRow]{name: "gctrace", each: "gctrace_cycle", lines: "^(gc |GC forced|scan: )", panels: gcPanels, rows: (*traceQuery).gc, write: a.writeGC})
	return cmd
}

// gcPanels are drawn by `sonde gc -o plot`.
var gcPanels = []tracePanel{
	{title: "longest pause", unit: promSeconds, expr: `max by (PROCESS) (max_over_time(gctrace_pause_secondsSELECTOR[STEP]))`},
	{title: "heap before and after a cycle, live, and goal: the highest; forced cycles", unit: promBytes, by: "at", counts: "forced",
		expr: `max by (PROCESS, at) (max_over_time(gctrace_heap_bytesSELECTOR[STEP]))
or label_replace(max by (PROCESS) (max_over_time(gctrace_goal_bytesSELECTOR[STEP])), "at", "goal", "", "")
or label_replace(sum by (PROCESS) (sum_over_time(gctrace_forcedSELECTOR[STEP])) > 0, "at", "forced", "", "")`,
		lines: []traceMark{{'b', "before", []string{"start"}}, {'a', "after", []string{"end"}}, {'l', "live", []string{"live"}}, {'g', "goal", []string{"goal"}}}},
	{title: "CPU of the collector by phase, of all that GOMAXPROCS allows", unit: promPercent, by: "phase",
		expr: `sum by (PROCESS, phase) (sum_over_time(gctrace_cpu_secondsSELECTOR[STEP])) / SECONDS / on (PROCESS) group_left () max by (PROCESS) (last_over_time(gctrace_procsSELECTOR[STEP]))`,
		lines: []traceMark{{'s', "stopped", []string{"sweep_termination", "mark_termination"}}, {'a', "assist", []string{"assist"}}, {'b', "background", []string{"background"}},
			{'i', "idle", []string{"idle"}}}},
}

// gc asks for the figures of all processes.
func (q *traceQuery) gc() ([]*gcRow, error) {
	rows := map[string]*gcRow{}
	get := func(ls map[string]string) *gcRow {
		row := rows[processOf(ls)]
		if row == nil {
			row = &gcRow{traceProcess: traceProcessOf(ls), CPU: map[string]float64{}}
			rows[processOf(ls)] = row
		}
		return row
	}
	for _, ask := range []struct {
		expr string
		set  func(row *gcRow, ls map[string]string, v float64)
	}{
		{"count_over_time(" + q.over("gctrace_cycle") + ")", func(row *gcRow, _ map[string]string, v float64) { row.Cycles = int64(v) }},
		{"sum_over_time(" + q.over("gctrace_forced") + ")", func(row *gcRow, _ map[string]string, v float64) { row.Forced = int64(v) }},
		{"quantile_over_time(0.5, " + q.over("gctrace_pause_seconds") + ")", func(row *gcRow, _ map[string]string, v float64) { row.PauseP50 = max(row.PauseP50, v) }},
		{"quantile_over_time(0.99, " + q.over("gctrace_pause_seconds") + ")", func(row *gcRow, _ map[string]string, v float64) { row.PauseP99 = max(row.PauseP99, v) }},
		{"max_over_time(" + q.over("gctrace_pause_seconds") + ")", func(row *gcRow, _ map[string]string, v float64) { row.PauseMax = max(row.PauseMax, v) }},
		{"sum_over_time(" + q.over("gctrace_pause_seconds") + ")", func(row *gcRow, _ map[string]string, v float64) { row.PauseTotal += v }},
		{"avg_over_time(" + q.over("gctrace_heap_bytes") + ")", func(row *gcRow, ls map[string]string, v float64) {
			switch ls["at"] {
			case "start":
				row.HeapStart = v
			case "end":
				row.HeapEnd = v
			case "live":
				row.HeapLive = v
			}
		}},
		{"avg_over_time(" + q.over("gctrace_goal_bytes") + ")", func(row *gcRow, _ map[string]string, v float64) { row.Goal = v }},
		{"sum_over_time(" + q.over("gctrace_cpu_seconds") + ")", func(row *gcRow, ls map[string]string, v float64) { row.CPU[ls["phase"]] = v }},
		{"last_over_time(" + q.over("gctrace_cpu_ratio") + ")", func(row *gcRow, _ map[string]string, v float64) { row.Ratio = v }},
		{"last_over_time(" + q.over("gctrace_procs") + ")", func(row *gcRow, _ map[string]string, v float64) { row.Procs = v }},
	} {
		series, err := q.ask("%s", ask.expr)
		if err != nil {
			return nil, err
		}
		for _, s := range series {
			ask.set(get(s.labels), s.labels, s.points[len(s.points)-1].v)
		}
	}
	out := make([]*gcRow, 0, len(rows))
	for _, row := range rows {
		out = append(out, row)
	}
	slices.SortFunc(out, func(a, b *gcRow) int {
		return cmp.Or(cmp.Compare(b.PauseMax, a.PauseMax), cmp.Compare(a.Instance, b.Instance))
	})
	return out, nil
}

func (a *app) writeGC(q *traceQuery, rows []*gcRow, limit int) error {
	var cycles int64
	for _, row := range rows {
		cycles += row.Cycles
	}
	if _, err := fmt.Fprintf(a.stdout, "gctrace%s: %s in %s\n", between(q.r.From, q.r.To), plural(cycles, "cycle"), processCount(len(rows))); err != nil {
		return err
	}
	tab := a.newTable("SERVICE", "WHERE", ">PID", "INSTANCE", ">CYCLES", ">FORCED", ">PAUSE P50", ">P99", ">MAX", ">HEAP BEFORE", ">AFTER", ">LIVE", ">GOAL",
		">GC CPU", ">STOPPED", ">ASSIST", ">BACKGROUND", ">IDLE", ">OF CPU")
	for _, row := range rows[:min(limit, len(rows))] {
		cpu := 0.0
		for _, s := range row.CPU {
			cpu += s
		}
		stopped := row.CPU["sweep_termination"] + row.CPU["mark_termination"]
		tab.add(append(row.cells(), group(row.Cycles), group(row.Forced), secondsCell(row.PauseP50), secondsCell(row.PauseP99), secondsCell(row.PauseMax),
			bytesCell(row.HeapStart), bytesCell(row.HeapEnd), bytesCell(row.HeapLive), bytesCell(row.Goal), secondsCell(cpu), ratioCell(stopped, cpu), ratioCell(row.CPU["assist"], cpu),
			ratioCell(row.CPU["background"], cpu), ratioCell(row.CPU["idle"], cpu), ratioCell(row.Ratio, 1))...)
	}
	if err := tab.writeFolded(a.stdout, 4, 9, 13); err != nil {
		return err
	}
	if more := len(rows) - limit; more > 0 {
		fmt.Fprintf(a.stderr, "%d more processes; --limit shows them\n", more)
	}
	return nil
}
