package main

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// traceFlags select what `sonde gc` and `sonde sched` show.
type traceFlags struct {
	queryFlags
	lines bool
	limit int
}

func (f *traceFlags) register(cmd *cobra.Command, trace string) {
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVarP(&f.service, "service", "s", "", "the service's name")
	fs.StringVarP(&f.query, "query", "q", "", `selector, such as {service_name="cart",host_name="n1"}`)
	f.registerTimes(cmd)
	fs.IntVarP(&f.limit, "limit", "n", 30, "number of processes, or of lines with --lines")
	fs.BoolVar(&f.lines, "lines", false, "print the lines of "+trace+" as the runtime wrote them")
}

// trace is one of the runtime's traces, whose lines about a process come down to one R.
type trace[R any] struct {
	name   string // of the trace, as in GODEBUG
	flag   string // with which `sonde run` asks for it; "": it is on
	each   string // the name of a series of which each line makes a sample
	lines  string // matches its lines
	panels []tracePanel
	rows   func(q *traceQuery) ([]*R, error)
	write  func(q *traceQuery, rows []*R, limit int) error
}

// traceVerb makes cmd answer what t says.
func traceVerb[R any](a *app, cmd *cobra.Command, t trace[R]) {
	var f traceFlags
	f.register(cmd, t.name)
	out := outputFlag(cmd, "table", "json", "plot")
	a.clientFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		q, err := a.traceQuery(cmd, &f)
		if err != nil {
			return err
		}
		switch {
		case f.lines && out.value == "plot":
			return usage(cmd, "--lines is text: take -o table or json")
		case f.lines:
			return q.printLines(&f, t.lines, out.value)
		case out.value == "plot":
			return q.plot(t.each, t.panels, f.limit)
		}
		rows, err := t.rows(q)
		switch {
		case err != nil:
			return err
		case out.value == "json":
			return writeJSON(a.stdout, map[string]any{"from": q.r.From, "to": q.r.To, "processes": rows})
		case len(rows) == 0:
			return q.nothing("line of "+t.name, t.flag)
		}
		return t.write(q, rows, f.limit)
	}
}

// traceQuery asks for figures of traces over a range, one row per process.
type traceQuery struct {
	a        *app
	cmd      *cobra.Command
	selector string // {…} or ""
	r        timeRange
	notes    []string
}

func (a *app) traceQuery(cmd *cobra.Command, f *traceFlags) (*traceQuery, error) {
	if f.limit < 1 {
		return nil, usage(cmd, "read --limit: %d is less than 1", f.limit)
	}
	sel, err := f.selector(cmd)
	if err != nil {
		return nil, err
	}
	r, err := f.rangeOf(cmd, a.now())
	if err != nil {
		return nil, err
	}
	return &traceQuery{a: a, cmd: cmd, selector: sel, r: r}, nil
}

// over returns the metric with the selector over the whole range, as a range vector.
func (q *traceQuery) over(metric string) string {
	return fmt.Sprintf("%s%s[%dms]", metric, q.selector, q.r.To-q.r.From)
}

// ask returns the series of an expression at the range's end.
func (q *traceQuery) ask(format string, args ...any) ([]promSeries, error) {
	expr := fmt.Sprintf(format, args...)
	var answer promAnswer
	if err := q.a.ask(q.cmd.Context(), "/prometheus/api/v1/query", url.Values{"query": {expr}, "time": {promTime(q.r.To)}}, &answer); err != nil {
		return nil, err
	}
	for _, note := range slices.Concat(answer.Warnings, answer.Infos) {
		if !slices.Contains(q.notes, note) {
			q.notes = append(q.notes, note)
			fmt.Fprintln(q.a.stderr, "note: "+clean(note))
		}
	}
	return answer.Data.series()
}

// processOf names the process of a series: by its instance, else by all of its labels but those of the series itself.
func processOf(ls map[string]string) string {
	if id := ls["service_instance_id"]; id != "" {
		return id
	}
	var rest []string
	for name, value := range ls {
		if !slices.Contains([]string{"__name__", "phase", "at", "state"}, name) {
			rest = append(rest, name+"="+value)
		}
	}
	slices.Sort(rest)
	return strings.Join(rest, ",")
}

// traceProcess is who a row is about.
type traceProcess struct {
	Service  string `json:"service"`
	Instance string `json:"instance"`
	Node     string `json:"node"`
	Pod      string `json:"pod,omitempty"`
	PID      string `json:"pid,omitempty"`
}

func traceProcessOf(ls map[string]string) traceProcess {
	return traceProcess{Service: ls["service_name"], Instance: ls["service_instance_id"], Node: cmp.Or(ls["k8s_node_name"], ls["host_name"]), Pod: ls["k8s_pod_name"], PID: ls["process_pid"]}
}

// cells are a row's first cells.
func (p *traceProcess) cells() []string {
	return []string{dash(clean(p.Service)), dash(clean(cmp.Or(p.Pod, p.Node))), dash(clean(p.PID)), dash(clean(p.Instance[:min(len(p.Instance), 8)]))}
}

// secondsCell prints a time in seconds.
func secondsCell(s float64) string { return formatValue(int64(math.Round(s*1e9)), "nanoseconds") }

func bytesCell(b float64) string { return formatValue(int64(math.Round(b)), "bytes") }

// ratioCell prints what part is of whole, in percent.
func ratioCell(part, whole float64) string {
	if whole == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f%%", 100*part/whole)
}

// nothing says that no line was found, and what to try.
func (q *traceQuery) nothing(trace, flag string) error {
	of := ""
	if q.selector != "" {
		of = " of " + clean(q.selector)
	}
	_, err := fmt.Fprintf(q.a.stdout, "no %s%s%s; start the program with `sonde run%s -- PROG`, or follow its log (`godebug.files` in the collector's configuration)\n", trace, of, between(q.r.From, q.r.To), flag)
	return err
}

// narrow lets the range begin where the samples of a series do.
func (q *traceQuery) narrow(name string) error {
	length := q.r.To - q.r.From
	found, err := q.ask("min(min_over_time(timestamp(%s%s)[%dms:%dms]))", name, q.selector, length, max(1000, length/promValues))
	if err != nil || len(found) == 0 || len(found[0].points) == 0 {
		return err
	}
	if first := int64(found[0].points[0].v * 1000); first > q.r.From+length/promValues {
		q.r.From = first
	}
	return nil
}

// linesAnswer is the answer of /api/v1/lines.
type linesAnswer struct {
	Lines []traceLine `json:"lines"`
	More  bool        `json:"more"`
	Next  int64       `json:"next"`
}

type traceLine struct {
	Time     int64  `json:"time"` // Unix ms
	Service  string `json:"service"`
	Instance string `json:"instance"`
	Source   string `json:"source"`
	Text     string `json:"text"`
}

// printLines prints the lines themselves, oldest first.
func (q *traceQuery) printLines(f *traceFlags, grep, format string) error {
	if f.query != "" {
		return usage(q.cmd, "--lines knows services: give --service in place of --query")
	}
	params := url.Values{"from": {unixMs(q.r.From)}, "to": {unixMs(q.r.To)}, "grep": {grep}, "limit": {fmt.Sprint(f.limit)}}
	if f.service != "" {
		params.Set("service", f.service)
	}
	var answer linesAnswer
	if err := q.a.ask(q.cmd.Context(), "/api/v1/lines", params, &answer); err != nil {
		return err
	}
	if format == "json" {
		return writeJSON(q.a.stdout, answer)
	}
	var out bytes.Buffer
	for _, l := range answer.Lines {
		fmt.Fprintf(&out, "%s  %-8s  %s\n", time.UnixMilli(l.Time).Format("2006-01-02 15:04:05.000"), clean(l.Instance[:min(len(l.Instance), 8)]), clean(l.Text))
	}
	if _, err := out.WriteTo(q.a.stdout); err != nil {
		return err
	}
	if answer.More {
		fmt.Fprintf(q.a.stderr, "there are more, from %s on: --limit takes more, --from %d goes on\n", stamp(answer.Next), answer.Next)
	}
	return nil
}

func processCount(n int) string {
	if n == 1 {
		return "1 process"
	}
	return group(int64(n)) + " processes"
}
