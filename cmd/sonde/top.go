package main

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"slices"
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
		Long: `List the functions that cost most, by what they cost themselves or (--sort total) with what they call.

The profiles that the selector, the type and the range select are merged: what was counted (cpu, allocs, mutex, block) is
added up, what was there at a moment (heap in use, goroutines) is averaged over the range. With a FILE (- is standard
input) that one pprof profile is read instead, and no collector is asked.`,
		Example: `  sonde top --service cart --since 15m
  sonde top --query '{service_name="cart",service_version="v2"}' --type allocs
  sonde top --service cart --sample '{account="A"}' --focus encoding/json --frames line
  sonde top cpu.pb.gz`,
		Args: cobra.MaximumNArgs(1),
	}
	q.register(cmd)
	order := sortFlag(cmd, "self", "total")
	cmd.Flags().IntVarP(&limit, "limit", "n", 30, "number of functions")
	frames := framesFlag(cmd)
	out := outputFlag(cmd, "table", "json")
	a.clientFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if limit < 1 {
			return usage(cmd, "read --limit: %d is not a number of functions", limit)
		}
		rows := limit
		if order.value == "total" {
			rows = max(limit, manyRows)
		}
		t, params, err := a.top(cmd, &q, args, rows, profiles.Frames(frames.value))
		if err != nil {
			return err
		}
		if order.value == "total" {
			slices.SortStableFunc(t.Rows, func(x, y profiles.TopRow) int { return cmp.Compare(y.Total, x.Total) })
			t.Rows = t.Rows[:min(limit, len(t.Rows))]
		}
		if out.value == "json" {
			return writeJSON(a.stdout, t)
		}
		return a.writeTop(cmd.Context(), t, params)
	}
	return cmd
}

// top reads a file or asks the collector; params are what it was asked, nil for a file.
func (a *app) top(cmd *cobra.Command, q *queryFlags, args []string, limit int, frames profiles.Frames) (*profiles.Top, url.Values, error) {
	more := url.Values{"limit": {strconv.Itoa(limit)}, "frames": {string(frames)}}
	return view(a, cmd, q, args, "/api/v1/top", more, func(s *profiles.Stacks) *profiles.Top {
		return profiles.NewTop(s, nil, profiles.TopOptions{Limit: limit, Frames: frames})
	})
}

func (a *app) writeTop(ctx context.Context, t *profiles.Top, params url.Values) error {
	if len(t.Rows) == 0 {
		return a.writeNothing(ctx, t.Type, t.From, t.To, t.Stats, params)
	}
	if err := a.writeTitle(t.Type, t.From, t.To, t.Total, t.Stats); err != nil {
		return err
	}
	tab := a.newTable(">SELF", ">SELF%", ">SUM%", ">TOTAL", ">TOTAL%", "FUNCTION")
	sum := int64(0)
	for _, r := range t.Rows {
		sum += r.Self
		tab.add(formatValue(r.Self, t.Type.Unit), percent(r.Self, t.Total), percent(sum, t.Total),
			formatValue(r.Total, t.Type.Unit), percent(r.Total, t.Total), clean(r.Function))
	}
	return tab.write(a.stdout)
}

// writeTitle prints the line above a table: what, when, how much, of what.
func (a *app) writeTitle(t profiles.TypeDesc, from, to, total int64, st profiles.MergeStats) error {
	a.noteCoverage(t, from, to, st)
	mean := ""
	if t.Kind == "gauge" && st.Profiles != 1 {
		mean = " on average"
	}
	_, err := fmt.Fprintf(a.stdout, "%s%s: %s%s in %s%s\n", t.ID, between(from, to), formatValue(total, t.Unit), mean, plural(int64(st.Profiles), "profile"),
		whileProfiled(t, total, st))
	return err
}

// writeNothing says that a query found nothing, and what to try. A mean over a range that is mostly without data may be nothing too.
func (a *app) writeNothing(ctx context.Context, t profiles.TypeDesc, from, to int64, st profiles.MergeStats, params url.Values) error {
	if st.Profiles > 0 {
		a.noteCoverage(t, from, to, st)
		_, err := fmt.Fprintf(a.stdout, "%s%s: 0 in %s\n", t.ID, between(from, to), plural(int64(st.Profiles), "profile"))
		return err
	}
	_, err := fmt.Fprintf(a.stdout, "%s%s: nothing found: %s\n", t.ID, between(from, to), a.why(ctx, params))
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
