package main

import (
	"fmt"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sonde-io/sonde/cmd/sonde/internal/client"
	"github.com/sonde-io/sonde/profiles"
)

func (a *app) psCommand() *cobra.Command {
	var service, since string
	var dry bool
	cmd := &cobra.Command{
		Use:   "ps",
		Short: "List the processes: which are profiled, and why the others are not",
		Long: `List the processes that the collector knows: how each is profiled (agent, scrape, gops, push), or why it is not.

With --dry-run no collector is asked: this machine is looked at from here, with the rights of this user, and the list shows
what sonde serve would send to each process. Nothing is sent. The settings for discovery (flags of sonde serve such as
--deny-ports, SONDE_… variables, the file of --config) are read as serve reads them.`,
		Example: `  sonde ps
  sonde ps --service cart -o json
  sudo sonde ps --dry-run`,
		Args: cobra.NoArgs,
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVarP(&service, "service", "s", "", "only processes of this service")
	fs.StringVar(&since, "since", "", "also those last seen this long ago: 1h, 7d (default: the collector's)")
	fs.BoolVar(&dry, "dry-run", false, "show what sonde serve would touch on this machine, and touch nothing")
	out := outputFlag(cmd, "table", "json")
	settings := a.discoveryFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if dry {
			report, err := a.dryRun(cmd, service)
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
		ps, err := a.processes(cmd, service, since)
		if err != nil {
			return err
		}
		if out.value == "json" {
			return writeJSON(a.stdout, ps)
		}
		return a.writeProcesses(ps)
	}
	return cmd
}

func (a *app) processes(cmd *cobra.Command, service, since string) (*client.Processes, error) {
	params := url.Values{}
	if service != "" {
		params.Set("service", service)
	}
	if since != "" {
		d, err := profiles.ParseDuration(since)
		if err != nil {
			return nil, usage(cmd, "read --since: %w", err)
		}
		params.Set("since", unixMs(a.now().Add(-d).UnixMilli()))
	}
	var ps client.Processes
	if err := a.ask(cmd.Context(), "/api/v1/processes", params, &ps); err != nil {
		return nil, err
	}
	return &ps, nil
}

func (a *app) writeProcesses(ps *client.Processes) error {
	tab := newTable(">PID", "SERVICE", "VERSION", "GO", "BUILD", "GATHERER", "STATE", "REASON")
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
