package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) eventCommand() *cobra.Command {
	var service, kind, at string
	var attrs map[string]string
	cmd := &cobra.Command{
		Use:   "event TEXT",
		Short: "Tell of something that people or pipelines did",
		Long: `Tell of something that people or pipelines did: a feature switched on, a migration, a failover, a load test. It stands on the
time line of the service, or of all where none is named, beside the deploys, restarts and changes that Sonde finds out itself.
sonde event list lists them all.`,
		Example: `  sonde event "feature x on" --service cart
  sonde event "failover to eu-2" --kind failover --time now-10m
  sonde event "release 1.4" --service cart --attr by=pipeline --attr commit=3f2a1b9c
  sonde event list --service cart`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return withHint(usage(cmd, "name the event"), "`sonde event list` lists those that are there")
			}
			return cobra.ExactArgs(1)(cmd, args)
		},
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVarP(&service, "service", "s", "", "the service that it is about (default: all)")
	fs.StringVar(&kind, "kind", "", "what kind of event it is, in a word (default note)")
	fs.StringVar(&at, "time", "", "when it happened: now-10m, RFC 3339 or Unix (default now)")
	fs.StringToStringVar(&attrs, "attr", nil, "what else is to be known, NAME=VALUE; may be repeated")
	out := outputFlag(cmd, "table", "json")
	a.clientFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		when, err := parseTime(cmd, "--time", at, a.now(), a.now().UnixMilli())
		if err != nil {
			return err
		}
		body, err := json.Marshal(map[string]any{"time": when, "kind": kind, "service": service, "text": args[0], "attrs": attrs})
		if err != nil {
			return err
		}
		c, err := a.client()
		if err != nil {
			return err
		}
		defer c.Close()
		ctx, cancel := a.within(cmd.Context())
		defer cancel()
		var answer struct {
			Event struct {
				Time    int64             `json:"time"`
				Kind    string            `json:"kind"`
				Service string            `json:"service"`
				Text    string            `json:"text"`
				Attrs   map[string]string `json:"attrs,omitempty"`
			} `json:"event"`
		}
		if err := c.Post(ctx, "/api/v1/events", body, &answer); err != nil {
			return err
		}
		e := answer.Event
		if out.value == "json" {
			return writeJSON(a.stdout, e)
		}
		_, err = fmt.Fprintf(a.stdout, "%s  %s  %s  %s\n", stamp(e.Time), clean(e.Kind), dash(e.Service), clean(e.Text))
		return err
	}
	cmd.AddCommand(a.eventListCommand())
	return cmd
}
