package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/sonde-io/sonde/profiles"
)

func (a *app) topCommand() *cobra.Command {
	var q queryFlags
	var limit int
	cmd := &cobra.Command{
		Use:   "top [FILE]",
		Short: "List the functions that cost most",
		Long: `List the functions that cost most, by their own share.

The profiles that the selector, the type and the range select are merged: what was counted (cpu, allocs, mutex, block) is
added up, what was there at a moment (heap in use, goroutines) is averaged over the range. With a FILE (- is standard
input) that one pprof profile is read instead, and no collector is asked.`,
		Example: `  sonde top --service cart --since 15m
  sonde top --query '{service_name="cart",service_version="v2"}' --type allocs
  sonde top cpu.pb.gz`,
		Args: cobra.MaximumNArgs(1),
	}
	q.register(cmd)
	cmd.Flags().IntVarP(&limit, "limit", "n", 30, "number of functions")
	out := outputFlag(cmd, "table", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if limit < 1 {
			return usage(cmd, "read --limit: %d is not a number of functions", limit)
		}
		t, err := a.top(cmd, &q, args, limit)
		if err != nil {
			return err
		}
		if out.value == "json" {
			return writeJSON(a.stdout, t)
		}
		return writeTop(a.stdout, t)
	}
	return cmd
}

func (a *app) top(cmd *cobra.Command, q *queryFlags, args []string, limit int) (*profiles.Top, error) {
	if len(args) == 1 {
		t, err := localType(cmd, q)
		if err != nil {
			return nil, err
		}
		s, err := a.loadFile(args[0], t)
		if err != nil {
			return nil, err
		}
		return profiles.NewTop(s, nil, profiles.TopOptions{Limit: limit}), nil
	}
	params, _, err := q.params(cmd, a.now())
	if err != nil {
		return nil, err
	}
	params.Set("limit", strconv.Itoa(limit))
	var t profiles.Top
	if err := a.ask(cmd.Context(), "/api/v1/top", params, &t); err != nil {
		return nil, err
	}
	return &t, nil
}

// ask sends one query to the collector and decodes the answer into v.
func (a *app) ask(ctx context.Context, path string, params url.Values, v any) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := a.within(ctx)
	defer cancel()
	return c.GetJSON(ctx, path, params, v)
}

func writeTop(w io.Writer, t *profiles.Top) error {
	if len(t.Rows) == 0 {
		return writeNothing(w, t.Type, t.From, t.To)
	}
	if err := writeTitle(w, t.Type, t.From, t.To, t.Total, t.Stats); err != nil {
		return err
	}
	tab := newTable(">SELF", ">SELF%", ">SUM%", ">TOTAL", ">TOTAL%", "FUNCTION")
	sum := int64(0)
	for _, r := range t.Rows {
		sum += r.Self
		tab.add(formatValue(r.Self, t.Type.Unit), percent(r.Self, t.Total), percent(sum, t.Total),
			formatValue(r.Total, t.Type.Unit), percent(r.Total, t.Total), clean(r.Function))
	}
	return tab.write(w)
}

// writeTitle prints the line above a table: what, when, how much, of what.
func writeTitle(w io.Writer, t profiles.TypeDesc, from, to, total int64, st profiles.MergeStats) error {
	mean := ""
	if t.Kind == "gauge" && st.Profiles != 1 {
		mean = " on average"
	}
	_, err := fmt.Fprintf(w, "%s%s: %s%s in %s\n", t.ID, between(from, to), formatValue(total, t.Unit), mean, plural(int64(st.Profiles), "profile"))
	return err
}

// writeNothing says that a query found nothing, and what to try.
func writeNothing(w io.Writer, t profiles.TypeDesc, from, to int64) error {
	_, err := fmt.Fprintf(w, "%s%s: nothing found; `sonde ps` shows what is profiled, --since 7d looks further back\n", t.ID, between(from, to))
	return err
}

// between says when; a file need not know.
func between(from, to int64) string {
	if from == 0 {
		return ""
	}
	return " from " + stamp(from) + " to " + stamp(to)
}

func plural(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return group(n) + " " + noun + "s"
}
