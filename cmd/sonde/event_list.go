package main

import (
	"fmt"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/sonde-io/sonde/profiles"
)

// toldEvent is an event as the collector answers it. Time is Unix ms.
type toldEvent struct {
	ID      int64             `json:"id"`
	Time    int64             `json:"time"`
	Kind    string            `json:"kind"`
	Service string            `json:"service"`
	Text    string            `json:"text"`
	Attrs   map[string]string `json:"attrs,omitempty"`
}

// maxListed is how many events the collector answers at most.
const maxListed = 1000

func (a *app) eventListCommand() *cobra.Command {
	var service, kind, since string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List what happened: deploys, restarts, changes, ends, and what people told",
		Long: `List what happened, the newest first: what Sonde finds out itself (deploy, restart, change, exit, oom_kill, crash, capture)
and what people and pipelines told it of (sonde event TEXT). Those of no service are about all: --service leaves them out.`,
		Example: `  sonde event list
  sonde event list --service cart --since 7d
  sonde event list --kind deploy -o json`,
		Args: cobra.NoArgs,
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVarP(&service, "service", "s", "", "only events of this service")
	fs.StringVar(&kind, "kind", "", "only events of this kind")
	fs.StringVar(&since, "since", "1d", "how far back: 1h, 7d")
	out := outputFlag(cmd, "table", "json")
	a.clientFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		a.started = true
		d, err := profiles.ParseDuration(since)
		if err != nil {
			return usage(cmd, "read --since: %w", err)
		}
		params := url.Values{"from": {unixMs(a.now().Add(-d).UnixMilli())}, "to": {"now"}}
		for name, value := range map[string]string{"service": service, "kind": kind} {
			if value != "" {
				params.Set(name, value)
			}
		}
		var answer struct {
			Events []toldEvent `json:"events"`
		}
		if err := a.ask(cmd.Context(), "/api/v1/events", params, &answer); err != nil {
			return err
		}
		if out.value == "json" {
			return writeJSON(a.stdout, answer)
		}
		return a.writeEvents(answer.Events)
	}
	return cmd
}

func (a *app) writeEvents(es []toldEvent) error {
	if len(es) == 0 {
		_, err := fmt.Fprintln(a.stderr, "nothing happened that this collector knows of; --since looks further back")
		return err
	}
	tab := a.newTable("TIME", "KIND", "SERVICE", "EVENT")
	for _, e := range es {
		tab.add(stamp(e.Time), clean(e.Kind), dash(e.Service), dash(e.Text))
	}
	if err := tab.write(a.stdout); err != nil {
		return err
	}
	if len(es) >= maxListed {
		fmt.Fprintf(a.stderr, "the newest %d; --service, --kind or a shorter --since shows the rest\n", maxListed)
	}
	return nil
}
