package main

import (
	"encoding/csv"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sonde-io/sonde/cmd/sonde/internal/client"
)

// psColumn is one column of a list of processes.
type psColumn struct {
	header string // as newTable has it
	cell   func(p *client.Process) string
}

// psColumns are the columns of a table: in the usual one only those that tell its rows apart, so that one machine's list is as narrow as it needs to be.
func (a *app) psColumns(ps []client.Process, wide bool) []psColumn {
	nodes, pods := map[string]bool{}, false
	for i := range ps {
		nodes[ps[i].Node] = true
		pods = pods || ps[i].Pod != ""
	}
	now := a.now().UnixMilli()
	columns := []psColumn{
		{">PID", func(p *client.Process) string { return number(p.PID) }},
		{"SERVICE", func(p *client.Process) string { return p.Service }},
		{"VERSION", func(p *client.Process) string { return p.Version }},
		{"GO", func(p *client.Process) string { return p.GoVersion }},
	}
	if wide || len(nodes) > 1 {
		columns = append(columns, psColumn{"NODE", func(p *client.Process) string { return p.Node }})
	}
	if wide || pods {
		columns = append(columns, psColumn{"POD", func(p *client.Process) string { return p.Pod }})
	}
	if wide {
		columns = append(columns, psColumn{"BUILD", func(p *client.Process) string { return shortBuild(p.Build) }}, psColumn{"EXE", func(p *client.Process) string { return p.Exe }},
			psColumn{"INSTANCE", func(p *client.Process) string { return p.Instance }})
	}
	return append(columns,
		psColumn{">UPTIME", func(p *client.Process) string { return span(p.Uptime) }},
		psColumn{"GATHERER", gatherers},
		psColumn{">SEEN", func(p *client.Process) string {
			if p.LastSeen == 0 {
				return ""
			}
			return span(max(now-p.LastSeen, 1)) + " ago"
		}},
		psColumn{"STATE", func(p *client.Process) string { return p.State }},
		psColumn{"REASON", func(p *client.Process) string { return p.Reason }})
}

func gatherers(p *client.Process) string {
	if len(p.Gatherers) > 0 {
		return strings.Join(p.Gatherers, "+")
	}
	return p.Gatherer
}

func number(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

// span is a time in ms in its two largest units, as people say it: 3d4h, 12m5s; "" for none.
func span(ms int64) string {
	d := time.Duration(ms) * time.Millisecond
	days, hours, minutes, seconds := int64(d/(24*time.Hour)), int64(d/time.Hour)%24, int64(d/time.Minute)%60, int64(d/time.Second)%60
	switch {
	case ms <= 0:
		return ""
	case days > 0:
		return fmt.Sprintf("%dd%dh", days, hours)
	case hours > 0:
		return fmt.Sprintf("%dh%dm", hours, minutes)
	case minutes > 0:
		return fmt.Sprintf("%dm%ds", minutes, seconds)
	}
	return fmt.Sprintf("%ds", seconds)
}

// writeProcessesCSV prints every column, times in RFC 3339 and UTC, spans in seconds.
func (a *app) writeProcessesCSV(ps *client.Processes) error {
	w := csv.NewWriter(a.stdout)
	at := func(ms int64) string {
		if ms == 0 {
			return ""
		}
		return time.UnixMilli(ms).UTC().Format(time.RFC3339)
	}
	rows := [][]string{{"instance", "service", "version", "go_version", "build", "node", "pod", "host", "pid", "exe", "gatherers", "state", "reason", "started", "last_seen", "uptime_s"}}
	for i := range ps.Processes {
		p := &ps.Processes[i]
		rows = append(rows, []string{p.Instance, p.Service, p.Version, p.GoVersion, p.Build, p.Node, p.Pod, p.Host, number(p.PID), p.Exe, gatherers(p), p.State, p.Reason,
			at(p.Started), at(p.LastSeen), strconv.FormatInt(p.Uptime/1000, 10)})
	}
	for _, row := range rows {
		for i, cell := range row { // a cell that begins so is a formula to a spreadsheet
			if cell != "" && strings.ContainsRune("=+-@\t\r", rune(cell[0])) {
				row[i] = "'" + cell
			}
		}
	}
	if err := w.WriteAll(rows); err != nil {
		return fmt.Errorf("write CSV: %w", err)
	}
	return nil
}

// shortBuild is as much of a build id as tells two apart.
func shortBuild(id string) string { return id[:min(len(id), 12)] }
