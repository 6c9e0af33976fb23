package main

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sonde-io/sonde/cmd/sonde/internal/client"
	"github.com/sonde-io/sonde/profiles"
)

func (a *app) psCommand() *cobra.Command {
	var f psFlags
	var dry bool
	cmd := &cobra.Command{
		Use:   "ps",
		Short: "List the processes of the fleet: which are profiled, and why the others are not",
		Long: `List the processes of the fleet, on every node that reports to the collector: how each is profiled (agent, scrape, gops, perf, sdk,
otlp, push), or why it is not. The profiled ones come first, then those that could be, then those that a rule or their nature keeps
out; --sort asks for another order. A process that several see (its agent, a sidecar, perf) is one row. Its state is running, exited,
crashed, or lost: silent, and nobody who could tell saw it end.

With --dry-run no collector is asked: this machine is looked at from here, with the rights of this user, and the list shows
what sonde serve would send to each process. Nothing is sent. The settings for discovery (flags of sonde serve such as
--deny, SONDE_… variables, the file of --config) are read as serve reads them.`,
		Example: `  sonde ps
  sonde ps --service cart --node n7 -o wide
  sonde ps --gatherer none            what is not profiled, and why
  sonde ps --state lost --since 1d
  sonde ps --sort -started -o csv
  sudo sonde ps --dry-run`,
		Args: cobra.NoArgs,
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVarP(&f.service, "service", "s", "", "only processes of this service")
	fs.StringVar(&f.node, "node", "", "only processes on this node")
	fs.StringVar(&f.gatherer, "gatherer", "", "only processes gathered from in this way: agent, scrape, gops, perf, sdk, otlp, push, or none")
	fs.StringVar(&f.state, "state", "", "only processes in this state: running (default), exited, crashed, lost, recent (those that run, and those that ended just now), all")
	fs.StringVar(&f.version, "version", "", "only processes of this version of their service")
	fs.StringVar(&f.goVersion, "go-version", "", "only processes built with this version of Go, such as go1.26.8")
	fs.StringVar(&f.search, "search", "", "only processes with this text in service, version, node, pod, executable, instance or reason")
	fs.BoolVarP(&f.all, "all", "a", false, "also those that ended or were lost within --since: short for --state all")
	fs.StringVar(&f.since, "since", "", "how far back those are looked for that ended or were lost: 1h, 7d (default 1h)")
	fs.StringVar(&f.sort, "sort", "", "order by service, version, go_version, node, pod, gatherer, state, pid, started or last_seen; -COLUMN: descending (default: the profiled first)")
	fs.IntVar(&f.limit, "limit", 0, "at most so many rows; 0: all")
	fs.BoolVar(&dry, "dry-run", false, "show what sonde serve would touch on this machine, and touch nothing")
	out := outputFlag(cmd, "table", "wide", "csv", "json")
	settings := a.discoveryFlags(cmd)
	a.clientFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if dry {
			report, err := a.dryRun(cmd, f.service)
			if err != nil {
				return err
			}
			if out.value == "json" {
				return writeJSON(a.stdout, report)
			}
			return a.writeDryRun(report)
		}
		var err error
		settings.VisitAll(func(f *pflag.Flag) {
			if f.Changed && err == nil {
				err = usage(cmd, "--%s is for --dry-run: the collector has its own settings", f.Name)
			}
		})
		if err != nil {
			return err
		}
		ps, err := a.processes(cmd, f)
		if err != nil {
			return err
		}
		switch out.value {
		case "json":
			return writeJSON(a.stdout, ps)
		case "csv":
			return a.writeProcessesCSV(ps)
		}
		return a.writeProcesses(ps, f, out.value == "wide")
	}
	return cmd
}

// psFlags select processes of the collector.
type psFlags struct {
	service, node, gatherer, state, version, goVersion, search string
	since, sort                                                string
	all                                                        bool
	limit                                                      int
}

// psPage is how many rows one request asks for.
const psPage = 10_000

// processes asks for all pages that f wants.
func (a *app) processes(cmd *cobra.Command, f psFlags) (*client.Processes, error) {
	params := url.Values{"state": {"running"}}
	if f.all || f.since != "" && f.state == "" {
		params.Set("state", "all")
	}
	for name, value := range map[string]string{"service": f.service, "node": f.node, "gatherer": f.gatherer, "state": f.state, "version": f.version, "go_version": f.goVersion, "search": f.search, "sort": f.sort} {
		if value != "" {
			params.Set(name, value)
		}
	}
	if f.since != "" {
		d, err := profiles.ParseDuration(f.since)
		if err != nil {
			return nil, usage(cmd, "read --since: %w", err)
		}
		params.Set("since", unixMs(a.now().Add(-d).UnixMilli()))
	}
	if f.limit < 0 {
		return nil, usage(cmd, "read --limit: %d is less than 0", f.limit)
	}
	var all client.Processes
	for {
		var ps client.Processes
		page := psPage
		if f.limit > 0 && f.sort != "" { // in the default order the rows are known when all are there
			page = min(page, f.limit-len(all.Processes))
		}
		params.Set("limit", strconv.Itoa(page))
		if err := a.ask(cmd.Context(), "/api/v1/processes", params, &ps); err != nil {
			return nil, err
		}
		all.Total, all.More, all.Summary, all.Processes = ps.Total, ps.More, ps.Summary, append(all.Processes, ps.Processes...)
		if ps.Next == "" || ps.Next == params.Get("cursor") || f.limit > 0 && f.sort != "" && len(all.Processes) >= f.limit {
			break
		}
		params.Set("cursor", ps.Next)
	}
	if all.Processes == nil {
		all.Processes = []client.Process{}
	}
	if f.sort == "" {
		slices.SortStableFunc(all.Processes, func(x, y client.Process) int {
			return cmp.Or(cmp.Compare(rank(x.State, x.Gatherer, x.Reason), rank(y.State, y.Gatherer, y.Reason)), cmp.Compare(x.Service, y.Service), cmp.Compare(x.Node, y.Node), cmp.Compare(x.PID, y.PID))
		})
	}
	if f.limit > 0 && len(all.Processes) > f.limit {
		all.Processes = all.Processes[:f.limit]
	}
	return &all, nil
}

// rank orders processes by how much they are a reader's business: profiled, could be, kept out, gone.
func rank(state, gatherer, reason string) int {
	switch {
	case state != "running":
		return 4
	case gatherer != "" && reason == "":
		return 0
	case gatherer != "": // it was profiled and something is in the way
		return 1
	case strings.HasPrefix(reason, "denied"), strings.Contains(reason, "Sonde itself"):
		return 3
	}
	return 2
}

func (a *app) writeProcesses(ps *client.Processes, f psFlags, wide bool) error {
	if len(ps.Processes) == 0 {
		service := f.service
		if service != "" {
			service = fmt.Sprintf(" of service %q", clean(service))
		}
		if f != (psFlags{service: f.service}) {
			fmt.Fprintf(a.stderr, "this collector knows no process%s that these flags select\n", service)
			return nil
		}
		fmt.Fprintf(a.stderr, "this collector knows no process%s that runs; --all shows those that ended\n", service)
		return nil
	}
	columns := a.psColumns(ps.Processes, wide)
	header := make([]string, len(columns))
	for i, c := range columns {
		header[i] = c.header
	}
	tab := a.newTable(header...)
	for i := range ps.Processes {
		row := make([]string, len(columns))
		for k, c := range columns {
			row[k] = dash(c.cell(&ps.Processes[i]))
		}
		tab.add(row...)
	}
	if err := tab.write(a.stdout); err != nil {
		return err
	}
	// What follows is for people: standard error keeps it out of what a pipe reads.
	if len(ps.Processes) < ps.Total {
		fmt.Fprintf(a.stderr, "%d of %d processes; --limit 0 shows all\n", len(ps.Processes), ps.Total)
	}
	if ps.More {
		fmt.Fprintln(a.stderr, "the collector knows more than it looks at at once: a shorter --since leaves out those that ended")
	}
	if ps.Summary != "" {
		fmt.Fprintln(a.stderr, clean(ps.Summary))
	}
	return nil
}
