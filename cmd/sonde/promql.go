package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/sonde-io/sonde/profiles"
)

// promRequest is what `sonde query` was asked.
type promRequest struct {
	expr  string
	times queryFlags
	at    string
	step  string
	limit int
}

func (a *app) promqlCommand() *cobra.Command {
	var q promRequest
	cmd := &cobra.Command{
		Use:   "query 'PROMQL'",
		Short: "Ask for metrics in PromQL: a table, JSON, CSV or a plot",
		Long: `Ask for metrics in PromQL, Prometheus' language: what runtime/metrics, /proc, cgroups and GODEBUG traces say of every process.

Without times the answer is that of now (--at: of then). With --since, --from, --to or --step, and for a plot, it is that of a range,
one value for each step. Labels that all series of the answer share stand above the table. The names are client_golang's:
go_goroutines, go_gc_heap_live_bytes, go_sched_latencies_seconds, process_cpu_seconds_total, container_memory_usage_bytes.`,
		Example: `  sonde query 'topk(5, go_goroutines)'
  sonde query 'sum by (service_name) (rate(process_cpu_seconds_total[5m]))' --since 6h -o plot
  sonde query 'histogram_quantile(0.99, sum(rate(go_gc_pauses_seconds{service_name="cart"}[5m])))' --at now-1d
  sonde query 'go_gc_heap_live_bytes{service_name="cart"}' --from now-2d --to now-1d --step 5m -o csv > heap.csv`,
		Args: cobra.ExactArgs(1),
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVar(&q.at, "at", "", "the moment to answer for: now-1h, RFC 3339 or Unix (default now)")
	q.times.registerTimes(cmd)
	fs.StringVar(&q.step, "step", "", "time between two values of a range, such as 15s or 5m (default: 120 values, at least 10s apart)")
	fs.IntVarP(&q.limit, "limit", "n", 30, "number of series in a table, and of 8 at most in a plot")
	out := outputFlag(cmd, "table", "json", "csv", "plot")
	a.clientFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		q.expr = args[0]
		return a.promql(cmd, &q, out.value)
	}
	return cmd
}

const (
	promValues  = 120              // of a range without --step
	promMinStep = 10 * time.Second // the agent reads runtime/metrics this often
)

func (a *app) promql(cmd *cobra.Command, q *promRequest, format string) error {
	path, params, when, err := q.params(cmd, a.now(), format)
	if err != nil {
		return err
	}
	var answer promAnswer
	if err := a.ask(cmd.Context(), path, params, &answer); err != nil {
		return err
	}
	for _, note := range slices.Concat(answer.Warnings, answer.Infos) {
		fmt.Fprintln(a.stderr, "note: "+clean(note))
	}
	if format == "json" {
		return writeJSON(a.stdout, answer.Data)
	}
	series, err := answer.Data.series()
	if err != nil {
		return err
	}
	if format == "csv" {
		return writePromCSV(a.stdout, series)
	}
	if len(series) == 0 {
		_, err := fmt.Fprintf(a.stdout, "%s: nothing found; names that are there: sonde query 'count by (__name__) ({service_name!=\"\"})'\n", when)
		return err
	}
	if format == "plot" {
		return a.plotProm(series, params, q.limit)
	}
	return a.writePromTable(q.expr, series, when, answer.Data.ResultType == "matrix", q.limit)
}

// params are those of Prometheus' API; when says the same to people.
func (q *promRequest) params(cmd *cobra.Command, now time.Time, format string) (path string, v url.Values, when string, err error) {
	if q.limit < 1 {
		return "", nil, "", usage(cmd, "read --limit: %d is not a number of series", q.limit)
	}
	ranged := q.times.since+q.times.from+q.times.to+q.step != ""
	if q.at != "" && (ranged || format == "plot") {
		return "", nil, "", usage(cmd, "--at is one moment: give it, or --since, --from, --to and --step")
	}
	v = url.Values{"query": {q.expr}}
	if !ranged && format != "plot" {
		at, err := parseTime(cmd, "--at", q.at, now, now.UnixMilli())
		if err != nil {
			return "", nil, "", err
		}
		v.Set("time", promTime(at))
		return "/prometheus/api/v1/query", v, stamp(at), nil
	}
	r, err := q.times.rangeOf(cmd, now)
	if err != nil {
		return "", nil, "", err
	}
	length := time.Duration(r.To-r.From) * time.Millisecond
	step := max(promMinStep, (length / promValues).Round(time.Second))
	if q.step != "" {
		if step, err = profiles.ParseDuration(q.step); err != nil {
			return "", nil, "", usage(cmd, "read --step: %w", err)
		}
		if step <= 0 {
			return "", nil, "", usage(cmd, "read --step: %s is not a time between two values", q.step)
		}
	}
	v.Set("start", promTime(r.From))
	v.Set("end", promTime(r.To))
	v.Set("step", strconv.FormatFloat(step.Seconds(), 'f', -1, 64))
	return "/prometheus/api/v1/query_range", v, stamp(r.From) + " to " + stamp(r.To) + " every " + step.String(), nil
}

func promTime(ms int64) string { return strconv.FormatFloat(float64(ms)/1000, 'f', 3, 64) }

// promAnswer is the answer of Prometheus' API to a query.
type promAnswer struct {
	Data     promData
	Warnings []string
	Infos    []string
}

type promData struct {
	ResultType string          `json:"resultType"` // vector, matrix, scalar or string
	Result     json.RawMessage `json:"result"`
}

// promSeries is one series of it.
type promSeries struct {
	labels map[string]string
	points []promPoint
}

type promPoint struct {
	t    int64 // Unix ms
	v    float64
	hist *promHistogram
	text string // of a string's answer
}

// promHistogram is a native histogram as Prometheus' API writes it.
type promHistogram struct {
	Count   string
	Sum     string
	Buckets [][]any // boundary rule, lower and upper bound, count
}

func (d *promData) series() ([]promSeries, error) {
	bad := func(err error) error { return fmt.Errorf("read answer of a query: %w", err) }
	switch d.ResultType {
	case "scalar", "string":
		p, err := readPoint(d.Result, d.ResultType == "string")
		if err != nil {
			return nil, bad(err)
		}
		return []promSeries{{points: []promPoint{p}}}, nil
	case "vector", "matrix":
	default:
		return nil, bad(fmt.Errorf("result type %.30q", d.ResultType))
	}
	var rows []struct {
		Metric     map[string]string
		Value      json.RawMessage
		Values     []json.RawMessage
		Histogram  json.RawMessage
		Histograms []json.RawMessage
	}
	if err := json.Unmarshal(d.Result, &rows); err != nil {
		return nil, bad(err)
	}
	out := make([]promSeries, len(rows))
	for i, row := range rows {
		out[i].labels = row.Metric
		if row.Value != nil {
			row.Values = append(row.Values, row.Value)
		}
		if row.Histogram != nil {
			row.Histograms = append(row.Histograms, row.Histogram)
		}
		for _, raw := range slices.Concat(row.Values, row.Histograms) {
			p, err := readPoint(raw, false)
			if err != nil {
				return nil, bad(err)
			}
			out[i].points = append(out[i].points, p)
		}
		if len(out[i].points) == 0 {
			return nil, bad(errors.New("a series without values"))
		}
		slices.SortStableFunc(out[i].points, func(a, b promPoint) int { return cmp.Compare(a.t, b.t) })
	}
	return out, nil
}

// readPoint reads [time, "value"] or [time, {histogram}].
func readPoint(raw json.RawMessage, text bool) (p promPoint, err error) {
	var pair [2]json.RawMessage
	if err := json.Unmarshal(raw, &pair); err != nil {
		return p, err
	}
	var at float64
	if err := json.Unmarshal(pair[0], &at); err != nil {
		return p, err
	}
	p.t = int64(math.Round(at * 1000))
	if len(pair[1]) > 0 && pair[1][0] == '{' {
		p.hist = &promHistogram{}
		return p, json.Unmarshal(pair[1], p.hist)
	}
	var s string
	if err := json.Unmarshal(pair[1], &s); err != nil {
		return p, err
	}
	if text {
		p.text = s
		return p, nil
	}
	p.v, err = strconv.ParseFloat(s, 64)
	return p, err
}
