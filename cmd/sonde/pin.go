package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sonde-io/sonde/profiles"
)

// pinned is a pin as the collector answers it.
type pinned struct {
	ID      int64  `json:"id"`
	Query   string `json:"query"`
	Type    string `json:"type"`
	From    int64  `json:"from"` // Unix ms, as To and Created
	To      int64  `json:"to"`
	Note    string `json:"note"`
	Created int64  `json:"created"`
	Link    string `json:"link"`
}

// serverFlags adds what says which collector is asked, for verbs that wait for it as long as it takes.
func (a *app) serverFlags(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&a.server, "server", "", "the collector's URL (SONDE_URL; default "+defaultServer+")")
	fs.StringVar(&a.tokenFile, "token-file", "", "file with the token that the collector wants (SONDE_TOKEN holds the token itself)")
}

func (a *app) pinCommand() *cobra.Command {
	var q queryFlags
	var typ, note string
	cmd := &cobra.Command{
		Use:   "pin [SELECTOR]",
		Short: "Keep a selection for good, whatever the retention",
		Long: `Keep the profiles of a selection for good, whatever the retention: the evidence of an incident.

The times are made absolute when the pin is made, and so are those of the link that is printed: who follows it in a year sees
the same. What retention has added up already is kept as it is by then. sonde pin ls lists the pins, sonde pin rm takes one back.`,
		Example: `  sonde pin '{service_name="cart"}' --from 2026-11-21T03:00:00Z --to 2026-11-21T04:30:00Z --note "incident 42"
  sonde pin checkout --since 15m --type heap
  sonde pin ls
  sonde pin rm 3`,
		Args: cobra.MaximumNArgs(1),
	}
	q.registerTimes(cmd)
	cmd.Flags().StringVarP(&typ, "type", "t", "", "type of profile: cpu, heap, goroutine, … (default all)")
	cmd.Flags().StringVar(&note, "note", "", "why: who reads the list in a year wants to know")
	out := outputFlag(cmd, "table", "json")
	a.clientFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return withHint(usage(cmd, "name a service or a selector to pin"), "'{}' pins all services; `sonde pin ls` lists the pins")
		}
		if _, err := profiles.ParseSelector(args[0]); err != nil {
			return usage(cmd, "read selector: %w", err)
		}
		r, err := q.rangeOf(cmd, a.now())
		if err != nil {
			return err
		}
		v := url.Values{"query": {args[0]}, "from": {unixMs(r.From)}, "to": {unixMs(r.To)}}
		if typ != "" {
			v.Set("type", typ)
		}
		if note != "" {
			v.Set("note", note)
		}
		return a.pin(cmd, v, out.value)
	}
	cmd.AddCommand(a.pinListCommand(), a.pinRemoveCommand())
	return cmd
}

func (a *app) pin(cmd *cobra.Command, v url.Values, format string) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := a.within(cmd.Context())
	defer cancel()
	var answer struct {
		Pin      pinned   `json:"pin"`
		Services []string `json:"services"`
	}
	if err := c.Change(ctx, http.MethodPost, "/api/v1/pins", v, &answer); err != nil {
		return err
	}
	p := answer.Pin
	p.Link = strings.TrimSuffix(c.URL("/", nil), "/") + p.Link
	if len(answer.Services) == 0 {
		fmt.Fprintln(a.stderr, "note: nothing is stored there now; what comes will be kept")
	}
	if format == "json" {
		return writeJSON(a.stdout, p)
	}
	_, err = fmt.Fprintf(a.stdout, "pin %d keeps %s from %s to %s\n%s\n", p.ID, clean(p.Query), stamp(p.From), stamp(p.To), p.Link)
	return err
}

func (a *app) pinListCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List the pins",
		Long:  "List the pins, each with the selection that it keeps, its range, and why it was made.",
		Args:  cobra.NoArgs,
	}
	out := outputFlag(cmd, "table", "json")
	a.clientFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		a.started = true
		var answer struct {
			Pins []pinned `json:"pins"`
		}
		if err := a.ask(cmd.Context(), "/api/v1/pins", nil, &answer); err != nil {
			return err
		}
		if out.value == "json" {
			return writeJSON(a.stdout, answer.Pins)
		}
		if len(answer.Pins) == 0 {
			_, err := fmt.Fprintln(a.stdout, `nothing is pinned; sonde pin SELECTOR --from … --to … --note "…" does it`)
			return err
		}
		tab := a.newTable("ID", "SELECTION", "TYPE", "FROM", "TO", "MADE", "NOTE")
		for _, p := range answer.Pins {
			tab.add(strconv.FormatInt(p.ID, 10), clean(p.Query), dash(p.Type), stamp(p.From), stamp(p.To), stamp(p.Created), clean(p.Note))
		}
		return tab.write(a.stdout)
	}
	return cmd
}

func (a *app) pinRemoveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rm ID",
		Short: "Take a pin back",
		Long:  "Take a pin back: what is older than the retention and not pinned otherwise is deleted within minutes.",
		Args:  cobra.ExactArgs(1),
	}
	a.clientFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		a.started = true
		id, err := strconv.ParseInt(args[0], 10, 64)
		if err != nil || id <= 0 {
			return withHint(usage(cmd, "%q is not the id of a pin", args[0]), "`sonde pin ls` lists them")
		}
		c, err := a.client()
		if err != nil {
			return err
		}
		defer c.Close()
		ctx, cancel := a.within(cmd.Context())
		defer cancel()
		var answer struct{}
		if err := c.Change(ctx, http.MethodDelete, "/api/v1/pins/"+args[0], nil, &answer); err != nil {
			return err
		}
		_, err = fmt.Fprintf(a.stdout, "pin %d is gone\n", id)
		return err
	}
	return cmd
}
