package main

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// tracePanel is one expression of a plot, drawn for each process on one scale.
type tracePanel struct {
	title string
	unit  promUnit
	// In expr SELECTOR stands for the selector, STEP for the step, SECONDS for that in seconds and PROCESS for the labels that tell processes apart.
	expr   string
	by     string      // the label that tells its lines apart, where it has several
	lines  []traceMark // these, in the order of the legend
	counts string      // the value of that label of what is counted in a row of its own; "": nothing
}

// traceMark is one line of a panel: the sum of the series with one of the values.
type traceMark struct {
	mark   rune
	name   string
	values []string
}

// legend says which letter is what.
func (p *tracePanel) legend() string {
	if len(p.lines) == 0 {
		return ""
	}
	var parts []string
	for _, l := range p.lines {
		parts = append(parts, string(l.mark)+" "+l.name)
	}
	return strings.Join(parts, ", ") + " (lines that meet take turns)"
}

// traceLabels tell processes apart, and their rows' first cells are made of them.
const traceLabels = "service_name, service_instance_id, k8s_node_name, host_name, k8s_pod_name, process_pid"

// plot draws the panels one after the other, each on its own scale.
// Of a range in which the lines, each of which makes a sample of the series of that name, begin late only the later part is drawn.
func (q *traceQuery) plot(each string, panels []tracePanel, limit int) error {
	if err := q.narrow(each); err != nil {
		return err
	}
	length := time.Duration(q.r.To-q.r.From) * time.Millisecond
	step := max(time.Second, (length / promValues).Round(time.Second))
	seconds := strconv.FormatFloat(step.Seconds(), 'f', -1, 64)
	fill := strings.NewReplacer("SELECTOR", q.selector, "STEP", fmt.Sprintf("%dms", step.Milliseconds()), "SECONDS", seconds, "PROCESS", traceLabels)
	found := false
	for i := range panels {
		var answer promAnswer
		params := url.Values{"start": {promTime(q.r.From)}, "end": {promTime(q.r.To)}, "step": {seconds}, "query": {fill.Replace(panels[i].expr)}}
		if err := q.a.ask(q.cmd.Context(), "/prometheus/api/v1/query_range", params, &answer); err != nil {
			return err
		}
		series, err := answer.Data.series()
		if err != nil {
			return err
		}
		if len(series) == 0 {
			continue
		}
		if found {
			fmt.Fprintln(q.a.stdout)
		}
		found = true
		if err := q.plotPanel(&panels[i], series, step, limit); err != nil {
			return err
		}
	}
	if !found {
		_, err := fmt.Fprintf(q.a.stdout, "nothing to draw%s\n", between(q.r.From, q.r.To))
		return err
	}
	return nil
}

// plotPanel draws one panel of every process, and of many of the first in order, which is the same one in all panels.
func (q *traceQuery) plotPanel(p *tracePanel, series []promSeries, step time.Duration, limit int) error {
	heads := []string{p.title}
	if legend := p.legend(); legend != "" {
		heads = append(heads, legend)
	}
	if _, err := fmt.Fprintln(q.a.stdout, strings.Join(heads, "\n")); err != nil {
		return err
	}
	groups, err := p.processes(series)
	if err != nil {
		return err
	}
	limit = min(limit, maxPanels)
	out := plot{from: q.r.From, to: q.r.To, step: step.Milliseconds(), columns: q.a.columns, show: p.unit.show}
	for _, g := range groups[:min(limit, len(groups))] {
		out.panels = append(out.panels, g.panel)
	}
	if err := out.write(q.a.stdout); err != nil {
		return err
	}
	if more := len(groups) - limit; more > 0 {
		_, err := fmt.Fprintf(q.a.stdout, "… and %s more, of which the table says all (--limit, %d at most; --service and --query take others)\n", group(int64(more)), maxPanels)
		return err
	}
	return nil
}

// tracePlot is the panel of a process.
type tracePlot struct {
	process traceProcess
	panel   plotPanel
}

// processes makes a panel of the series of each process, in the order of their names.
func (p *tracePanel) processes(series []promSeries) ([]*tracePlot, error) {
	var out []*tracePlot
	of := map[traceProcess]*tracePlot{}
	for _, s := range series {
		who := traceProcessOf(s.labels)
		g := of[who]
		if g == nil {
			g = &tracePlot{process: who}
			for _, l := range p.lines {
				g.panel.lines = append(g.panel.lines, plotLine{name: l.name, mark: l.mark})
			}
			of[who] = g
			out = append(out, g)
		}
		if err := p.add(&g.panel, s); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(out, func(a, b *tracePlot) int {
		return cmp.Or(cmp.Compare(a.process.Service, b.process.Service), cmp.Compare(a.process.Pod, b.process.Pod), cmp.Compare(a.process.Node, b.process.Node),
			cmp.Compare(a.process.Instance, b.process.Instance), cmp.Compare(a.process.PID, b.process.PID))
	})
	for _, g := range out {
		g.panel.title = strings.Join(g.process.cells(), " ")
		if n := g.panel.counts.sum(); n > 0 {
			g.panel.title += fmt.Sprintf(", %s %s", group(int64(n)), p.counts)
		}
	}
	return out, nil
}

// add adds the values of a series to the line of a panel that they are of.
func (p *tracePanel) add(panel *plotPanel, s promSeries) error {
	into, value := &panel.plotLine, s.labels[p.by]
	switch i := slices.IndexFunc(p.lines, func(l traceMark) bool { return slices.Contains(l.values, value) }); {
	case p.by == "":
	case i >= 0:
		into = &panel.lines[i]
	case p.counts != "" && value == p.counts:
		into = &panel.counts
		into.name = p.counts
	default:
		return nil // a value of a later release
	}
	for _, pt := range s.points {
		if pt.hist != nil {
			return errHistograms
		}
		into.sumUp(pt.t, pt.v)
	}
	return nil
}

// sumUp adds a value at a time to that which is there, if one is.
func (l *plotLine) sumUp(t int64, v float64) {
	i, found := slices.BinarySearch(l.t, t)
	if found {
		l.v[i] += v
		return
	}
	l.t, l.v = slices.Insert(l.t, i, t), slices.Insert(l.v, i, v)
}

func (l *plotLine) sum() (sum float64) {
	for _, v := range l.v {
		sum += v
	}
	return sum
}
