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
		Short: "List the processes: which are profiled, and why the others are not",
		Long: `List the processes that run: how each is profiled (agent, scrape, gops, push), or why it is not. The profiled ones come first,
then those that could be, then those that a rule or their nature keeps out.

With --dry-run no collector is asked: this machine is looked at from here, with the rights of this user, and the list shows
what sonde serve would send to each process. Nothing is sent. The settings for discovery (flags of sonde serve such as
--deny, SONDE_… variables, the file of --config) are read as serve reads them.`,
		Example: `  sonde ps
  sonde ps --service cart -o json
  sudo sonde ps --dry-run`,
		Args: cobra.NoArgs,
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVarP(&f.service, "service", "s", "", "only processes of this service")
	fs.BoolVarP(&f.all, "all", "a", false, "also those that ended or fell silent within --since")
	fs.StringVar(&f.since, "since", "", "how far back --all looks: 1h, 7d (default 1h)")
	fs.BoolVar(&dry, "dry-run", false, "show what sonde serve would touch on this machine, and touch nothing")
	out := outputFlag(cmd, "table", "json")
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
		if out.value == "json" {
			return writeJSON(a.stdout, ps)
		}
		return a.writeProcesses(ps, f.service)
	}
	return cmd
}

// psFlags select processes of the collector.
type psFlags struct {
	service, since string
	all            bool
}

func (a *app) processes(cmd *cobra.Command, f psFlags) (*client.Processes, error) {
	params := url.Values{"state": {"running"}}
	if f.all || f.since != "" {
		params.Set("state", "all")
	}
	if f.service != "" {
		params.Set("service", f.service)
	}
	if f.since != "" {
		d, err := profiles.ParseDuration(f.since)
		if err != nil {
			return nil, usage(cmd, "read --since: %w", err)
		}
		params.Set("since", unixMs(a.now().Add(-d).UnixMilli()))
	}
	var ps client.Processes
	if err := a.ask(cmd.Context(), "/api/v1/processes", params, &ps); err != nil {
		return nil, err
	}
	slices.SortStableFunc(ps.Processes, func(x, y client.Process) int {
		return cmp.Or(cmp.Compare(rank(x.State, x.Gatherer, x.Reason), rank(y.State, y.Gatherer, y.Reason)), cmp.Compare(x.Service, y.Service), cmp.Compare(x.PID, y.PID))
	})
	return &ps, nil
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

func (a *app) writeProcesses(ps *client.Processes, service string) error {
	if len(ps.Processes) == 0 {
		if service != "" {
			service = fmt.Sprintf(" of service %q", clean(service))
		}
		fmt.Fprintf(a.stderr, "this collector knows no process%s that runs; --all shows those that ended\n", service)
		return nil
	}
	tab := a.newTable(">PID", "SERVICE", "VERSION", "GO", "BUILD", "GATHERER", "STATE", "REASON")
	for _, p := range ps.Processes {
		pid := "-"
		if p.PID != 0 {
			pid = strconv.Itoa(p.PID)
		}
		tab.add(pid, dash(p.Service), dash(p.Version), dash(p.GoVersion), dash(shortBuild(p.Build)), dash(p.Gatherer), dash(p.State), dash(p.Reason))
	}
	if err := tab.write(a.stdout); err != nil {
		return err
	}
	// The summary is for people: standard error keeps it out of what a pipe reads.
	if ps.Summary != "" {
		fmt.Fprintln(a.stderr, clean(ps.Summary))
	}
	return nil
}

// shortBuild is as much of a build id as tells two apart.
func shortBuild(id string) string { return id[:min(len(id), 12)] }
