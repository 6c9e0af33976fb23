package main

import (
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// errHistograms is what a format that wants one number for each time says to histograms.
var errHistograms = withHint(errors.New("the answer has histograms, which are not one number each"), "take a quantile, histogram_quantile(0.99, …), or histogram_count(…), or -o json")

// writePromTable prints one row a series of the answer to expr: the value, or of a range the last one with what it moved between.
func (a *app) writePromTable(expr string, series []promSeries, when string, ranged bool, limit int) error {
	common, names := commonLabels(series)
	title := fmt.Sprintf("%s: %d series", when, len(series))
	if common != "" {
		title += ", all of " + common
	}
	if _, err := fmt.Fprintln(a.stdout, title); err != nil {
		return err
	}
	header := []string{">VALUE", "SERIES"}
	if ranged {
		header = []string{">LAST", ">MIN", ">MEAN", ">MAX", "SERIES"}
	}
	tab := a.newTable(header...)
	units := promUnits(expr, series)
	for i, s := range series[:min(limit, len(series))] {
		last := s.points[len(s.points)-1]
		show := units[i].show
		cells := []string{show(last.v)}
		switch {
		case last.hist != nil:
			cells[0] = last.hist.String()
		case last.text != "":
			cells[0] = clean(last.text)
		}
		if ranged {
			low, mean, high := s.span()
			cells = append(cells, show(low), show(mean), show(high))
		}
		tab.add(append(cells, s.name(names))...)
	}
	if err := tab.write(a.stdout); err != nil {
		return err
	}
	if more := len(series) - limit; more > 0 {
		_, err := fmt.Fprintf(a.stdout, "… and %d more (--limit; topk(%d, …) takes the largest)\n", more, limit)
		return err
	}
	return nil
}

// span returns the least, the mean and the greatest of the numbers of s.
func (s *promSeries) span() (low, mean, high float64) {
	low, high = math.NaN(), math.NaN()
	n := 0
	for _, p := range s.points {
		if p.hist != nil || math.IsNaN(p.v) {
			continue
		}
		if n++; n == 1 {
			low, high = p.v, p.v
		}
		low, high = min(low, p.v), max(high, p.v)
		mean += (p.v - mean) / float64(n)
	}
	if n == 0 {
		mean = math.NaN()
	}
	return low, mean, high
}

// commonLabels returns the labels that all series have with the same value, as a selector, and the names of the others, in order.
func commonLabels(series []promSeries) (common string, names []string) {
	all := map[string]bool{}
	for _, s := range series {
		for name := range s.labels {
			all[name] = true
		}
	}
	shared := map[string]string{}
	for _, name := range slices.SortedFunc(maps.Keys(all), byTelling) {
		first := series[0].labels[name]
		same := !slices.ContainsFunc(series, func(s promSeries) bool { return s.labels[name] != first })
		switch {
		case same && len(series) > 1 && name != "__name__":
			shared[name] = first
		default:
			names = append(names, name)
		}
	}
	if len(shared) == 0 {
		return "", names
	}
	return selectorOf(shared, slices.Sorted(maps.Keys(shared))), names
}

// byTelling puts the service first and what only a machine tells processes by last: a legend may be cut.
func byTelling(a, b string) int {
	rank := func(name string) int {
		switch name {
		case "service_name":
			return 0
		case "container_id", "host_name", "instance", "job", "process_pid", "service_instance_id":
			return 2
		}
		return 1
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b))
}

// name writes the labels of s that are in names as PromQL does.
func (s *promSeries) name(names []string) string {
	metric := clean(s.labels["__name__"])
	ls := selectorOf(s.labels, names)
	if metric != "" && ls == "{}" {
		return metric
	}
	return metric + ls
}

func selectorOf(ls map[string]string, names []string) string {
	var parts []string
	for _, name := range names {
		if v, ok := ls[name]; ok && name != "__name__" && !repeats(name, ls) {
			parts = append(parts, clean(name)+"="+strconv.Quote(clean(v)))
		}
	}
	return "{" + strings.Join(parts, ",") + "}"
}

// repeats reports whether a label says again what another does: job and instance, which Prometheus' users look for, mostly do.
func repeats(name string, ls map[string]string) bool {
	switch name {
	case "job":
		service := ls["service_name"]
		return service != "" && (ls["job"] == service || strings.HasSuffix(ls["job"], "/"+service))
	case "instance":
		return ls["instance"] == ls["service_instance_id"]
	}
	return false
}

// String says how many, how much in all, and two quantiles.
func (h *promHistogram) String() string {
	out := "count " + h.Count
	if sum, err := strconv.ParseFloat(h.Sum, 64); err == nil {
		out += ", sum " + formatNumber(sum, "")
	}
	for _, q := range []float64{0.5, 0.99} {
		if v, ok := h.quantile(q); ok {
			out += fmt.Sprintf(", p%g %s", 100*q, formatNumber(v, ""))
		}
	}
	return out
}

// quantile interpolates within the bucket that q falls in, as histogram_quantile does.
func (h *promHistogram) quantile(q float64) (float64, bool) {
	type bucket struct{ low, high, n float64 }
	var bs []bucket
	total := 0.0
	for _, raw := range h.Buckets {
		if len(raw) != 4 {
			return 0, false
		}
		var f [3]float64
		for i := range f {
			text, _ := raw[i+1].(string)
			v, err := strconv.ParseFloat(text, 64)
			if err != nil {
				return 0, false
			}
			f[i] = v
		}
		bs = append(bs, bucket{f[0], f[1], f[2]})
		total += f[2]
	}
	rank := q * total
	for _, b := range bs {
		if rank > b.n {
			rank -= b.n
			continue
		}
		switch {
		case b.n == 0 || math.IsInf(b.high, 1):
			return b.low, true
		case math.IsInf(b.low, -1):
			return b.high, true
		}
		return b.low + (b.high-b.low)*rank/b.n, true
	}
	return 0, false
}

// writePromCSV prints one line a value: time, labels, value.
func writePromCSV(w io.Writer, series []promSeries) error {
	all := map[string]bool{}
	for _, s := range series {
		for name := range s.labels {
			all[name] = true
		}
	}
	names := slices.Sorted(maps.Keys(all))
	out := csv.NewWriter(w)
	if err := out.Write(slices.Concat([]string{"time"}, names, []string{"value"})); err != nil {
		return fmt.Errorf("write CSV: %w", err)
	}
	for _, s := range series {
		for _, p := range s.points {
			if p.hist != nil {
				return errHistograms
			}
			row := []string{time.UnixMilli(p.t).UTC().Format("2006-01-02T15:04:05.999Z07:00")}
			for _, name := range names {
				row = append(row, s.labels[name])
			}
			value := p.text
			if value == "" {
				value = strconv.FormatFloat(p.v, 'g', -1, 64)
			}
			if err := out.Write(append(row, value)); err != nil {
				return fmt.Errorf("write CSV: %w", err)
			}
		}
	}
	if out.Flush(); out.Error() != nil {
		return fmt.Errorf("write CSV: %w", out.Error())
	}
	return nil
}

// plotProm draws each series, all on one scale, which has a unit if it is that of all.
func (a *app) plotProm(series []promSeries, params url.Values, limit int) error {
	from, _ := strconv.ParseFloat(params.Get("start"), 64) // both are ours
	to, _ := strconv.ParseFloat(params.Get("end"), 64)
	common, names := commonLabels(series)
	if common != "" {
		if _, err := fmt.Fprintln(a.stdout, "all of "+common); err != nil {
			return err
		}
	}
	limit = min(limit, maxPanels)
	shown := series[:min(limit, len(series))]
	units := promUnits(params.Get("query"), shown)
	unit := units[0]
	if slices.ContainsFunc(units, func(u promUnit) bool { return u != unit }) {
		unit = promNumber
	}
	p := plot{from: int64(from * 1000), to: int64(to * 1000), columns: a.columns, show: unit.show}
	if step, err := strconv.ParseFloat(params.Get("step"), 64); err == nil {
		p.step = int64(step * 1000)
	}
	for _, s := range shown {
		var panel plotPanel
		panel.title = strings.TrimPrefix(s.name(names), "{}")
		for _, pt := range s.points {
			if pt.hist != nil {
				return errHistograms
			}
			panel.t = append(panel.t, pt.t)
			panel.v = append(panel.v, pt.v)
		}
		p.panels = append(p.panels, panel)
	}
	if err := p.write(a.stdout); err != nil {
		return err
	}
	if more := len(series) - len(shown); more > 0 {
		_, err := fmt.Fprintf(a.stdout, "… and %d more (--limit, %d at most; topk(%d, …) takes the largest)\n", more, maxPanels, limit)
		return err
	}
	return nil
}
