package main

import (
	"fmt"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"
)

// deleted is the collector's answer to a deletion.
type deleted struct {
	Tombstone string `json:"tombstone"`
	Profiles  int64  `json:"profiles"`
	Blocks    int64  `json:"blocks"`
	Rewritten int64  `json:"rewritten"`
	Bytes     int64  `json:"bytes"`
	Processes int64  `json:"processes"`
	Keys      int64  `json:"keys"`
	Events    int64  `json:"events"`
}

func (a *app) deleteCommand() *cobra.Command {
	var service, instance, from, to string
	var force bool
	cmd := &cobra.Command{
		Use:   "delete",
		Short: "Delete a service or an instance",
		Long: `Delete all that is stored of a service or of an instance, or what is in a range of it: profiles, time series, captures, lines,
and where no range is given processes that do not run any more, what was known of their pushes, and the service's events.

Queries do not find it any more when the command is done; the bytes are gone from the disk a minute or so later, those of time
series of the last hours some hours later. What metrics.remote_write sent on is to be deleted where it went. What is pinned is
refused unless --force says so. Where the command is interrupted the collector carries it to its end. A program that is
still running goes on pushing: stop it first.`,
		Example: `  sonde delete --service cart
  sonde delete --instance 9f86d081884c7d659a2feaa0c55ad015
  sonde delete --service cart --from 2026-11-21T03:00:00Z --to 2026-11-21T04:00:00Z --force`,
		Args: cobra.NoArgs,
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVarP(&service, "service", "s", "", "the service's name")
	fs.StringVar(&instance, "instance", "", "id of the process: its service_instance_id")
	fs.StringVar(&from, "from", "", "start of the range: now-1h, RFC 3339 or Unix (default: the beginning)")
	fs.StringVar(&to, "to", "", "end of the range, not included (default: none)")
	fs.BoolVar(&force, "force", false, "delete what is pinned too")
	out := outputFlag(cmd, "table", "json")
	a.serverFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		v := url.Values{}
		if service == "" && instance == "" {
			return usage(cmd, "name what to delete: --service or --instance")
		}
		for name, value := range map[string]string{"service": service, "instance": instance} {
			if value != "" {
				v.Set(name, value)
			}
		}
		now := a.now()
		for _, t := range []struct{ name, value string }{{"from", from}, {"to", to}} {
			if t.value == "" {
				continue
			}
			at, err := parseTime(cmd, "--"+t.name, t.value, now, 0)
			if err != nil {
				return err
			}
			v.Set(t.name, unixMs(at))
		}
		if force {
			v.Set("force", "true")
		}
		c, err := a.client()
		if err != nil {
			return err
		}
		defer c.Close()
		var d deleted
		if err := c.Change(cmd.Context(), http.MethodDelete, "/api/v1/profiles", v, &d); err != nil {
			return err
		}
		if out.value == "json" {
			return writeJSON(a.stdout, d)
		}
		_, err = fmt.Fprintf(a.stdout, "deleted %s (%d bytes), %d processes, %s\n", plural(d.Profiles, "profile"), d.Bytes, d.Processes, plural(d.Events, "event"))
		return err
	}
	return cmd
}
