package main

import (
	"cmp"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/sonde-io/sonde/profiles"
)

// baseFlags select what a diff compares with.
type baseFlags struct {
	query, from, to, norm, sort string
	limit                       int
}

func (a *app) diffCommand() *cobra.Command {
	var q queryFlags
	var b baseFlags
	cmd := &cobra.Command{
		Use:   "diff [BASE-FILE FILE]",
		Short: "Compare two ranges, two selections, or two files",
		Long: `Compare two ranges of time, two selections, or two local pprof files, by function.

Without --base-from and --base-to the base is the range of the same length right before. --norm says how values of the base are
scaled before they are subtracted: rate by the time in which processes were profiled on either side, so that neither a scrape
of some seconds a minute nor a range without data counts as less (the default between ranges), share by the totals, none (the
default between files). -o json prints both sides as they are.`,
		Example: `  sonde diff --service cart --since 15m
  sonde diff --service cart --from 2026-11-20T14:00:00Z --to 2026-11-20T15:00:00Z \
             --base-from 2026-11-19T14:00:00Z --base-to 2026-11-19T15:00:00Z
  sonde diff --query '{service_version="v2"}' --base-query '{service_version="v1"}' --norm share
  sonde diff before.pb.gz after.pb.gz`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 0 && len(args) != 2 {
				return fmt.Errorf("want two files or none, got %d", len(args))
			}
			return nil
		},
	}
	q.register(cmd)
	fs := cmd.Flags()
	fs.StringVar(&b.from, "base-from", "", "start of the base's range")
	fs.StringVar(&b.to, "base-to", "", "end of the base's range, not included")
	fs.StringVar(&b.query, "base-query", "", "the base's selector (default: the same)")
	norm := &format{value: "", allowed: []string{"rate", "share", "none"}, what: "HOW"}
	fs.Var(norm, "norm", "scale the base by: rate, share or none")
	order := sortFlag(cmd, "total", "self")
	fs.IntVarP(&b.limit, "limit", "n", 30, "number of functions")
	out := outputFlag(cmd, "table", "json")
	a.clientFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if b.limit < 1 {
			return usage(cmd, "read --limit: %d is not a number of functions", b.limit)
		}
		b.norm, b.sort = norm.value, order.value
		t, scale, err := a.diff(cmd, &q, &b, args)
		if err != nil {
			return err
		}
		if out.value == "json" {
			return writeJSON(a.stdout, t)
		}
		return a.writeDiff(t, scale, &b)
	}
	return cmd
}

// manyRows is how many functions are asked for where the collector orders them by something else: enough that those wanted are among them.
const manyRows = 10_000

// diff returns both sides and the factor by which the base's values are to be scaled.
func (a *app) diff(cmd *cobra.Command, q *queryFlags, b *baseFlags, args []string) (*profiles.Top, float64, error) {
	if len(args) == 2 {
		t, err := a.diffFiles(cmd, q, args[0], args[1])
		if err != nil {
			return nil, 0, err
		}
		return t, factor(b.norm, t, 1), nil
	}
	now := a.now()
	params, r, err := q.params(cmd, now)
	if err != nil {
		return nil, 0, err
	}
	base, err := b.rangeOf(cmd, r, now)
	if err != nil {
		return nil, 0, err
	}
	if err := b.addTo(cmd, q, params, base); err != nil {
		return nil, 0, err
	}
	var t profiles.Top
	if err := a.ask(cmd.Context(), "/api/v1/diff", params, &t); err != nil {
		return nil, 0, err
	}
	if b.norm == "" {
		b.norm = "rate"
	}
	ratio := 1.0
	switch {
	case t.Type.Kind == "gauge": // a mean already: the length of its range does not matter
	case t.BaseStats != nil && t.BaseStats.CoveredMs > 0 && t.Stats.CoveredMs > 0:
		ratio = float64(t.Stats.CoveredMs) / float64(t.BaseStats.CoveredMs)
	default:
		ratio = float64(r.length()) / float64(base.length())
	}
	return &t, factor(b.norm, &t, ratio), nil
}

func (b *baseFlags) rangeOf(cmd *cobra.Command, r timeRange, now time.Time) (timeRange, error) {
	if (b.from == "") != (b.to == "") {
		return timeRange{}, usage(cmd, "--base-from and --base-to make a range together: one is missing")
	}
	if b.from == "" {
		if b.query != "" {
			return r, nil // two selections are compared over the same time
		}
		return timeRange{From: r.From - (r.To - r.From), To: r.From}, nil
	}
	from, err := parseTime(cmd, "--base-from", b.from, now, 0)
	if err != nil {
		return timeRange{}, err
	}
	to, err := parseTime(cmd, "--base-to", b.to, now, 0)
	if err != nil {
		return timeRange{}, err
	}
	base := timeRange{From: from, To: to}
	if base.From >= base.To {
		return timeRange{}, usage(cmd, "the base's range is empty: it starts at %s and ends at %s", stamp(base.From), stamp(base.To))
	}
	return base, nil
}

func (b *baseFlags) addTo(cmd *cobra.Command, q *queryFlags, params url.Values, base timeRange) error {
	params.Set("view", "top")
	params.Set("limit", strconv.Itoa(manyRows))
	params.Set("base_from", unixMs(base.From))
	params.Set("base_to", unixMs(base.To))
	if b.query == "" {
		return nil
	}
	sel, err := joinSelector(cmd, q.service, b.query)
	if err != nil {
		return err
	}
	params.Set("base_query", sel)
	return nil
}

// factor is what the base's values are multiplied with.
func factor(norm string, t *profiles.Top, ratio float64) float64 {
	switch {
	case norm == "share" && value(t.BaseTotal) != 0:
		return float64(t.Total) / float64(value(t.BaseTotal))
	case norm == "rate":
		return ratio
	}
	return 1
}

func (a *app) writeDiff(t *profiles.Top, scale float64, b *baseFlags) error {
	if len(t.Rows) == 0 {
		_, err := fmt.Fprintf(a.stdout, "%s%s: nothing found on either side; `sonde ps` shows what is profiled, --since 7d looks further back\n", t.Type.ID, between(t.From, t.To))
		return err
	}
	a.noteCoverage(t.Type, t.From, t.To, t.Stats)
	switch {
	case value(t.BaseTotal) == 0:
		fmt.Fprintln(a.stderr, "note: there is nothing in the base: all is new; --base-from and --base-to choose another")
	case t.Total == 0:
		fmt.Fprintln(a.stderr, "note: there is nothing in the range: all is gone")
	}
	unit := t.Type.Unit
	base := func(v *int64) int64 { return int64(math.Round(float64(value(v)) * scale)) }
	scaled := ""
	if scale != 1 {
		scaled = fmt.Sprintf(" (scaled by %.4g)", scale)
	}
	if _, err := fmt.Fprintf(a.stdout, "%s%s: %s, base %s%s, change %s (%s)\n", t.Type.ID, between(t.From, t.To), formatValue(t.Total, unit),
		formatValue(base(t.BaseTotal), unit), scaled, signed(t.Total-base(t.BaseTotal), unit), change(t.Total, base(t.BaseTotal))); err != nil {
		return err
	}
	rows := slices.Clone(t.Rows)
	self := func(r profiles.TopRow) int64 { return abs(r.Self - base(r.BaseSelf)) }
	total := func(r profiles.TopRow) int64 { return abs(r.Total - base(r.BaseTotal)) }
	first, second := total, self
	if b.sort == "self" {
		first, second = self, total
	}
	slices.SortStableFunc(rows, func(x, y profiles.TopRow) int {
		return cmp.Or(cmp.Compare(first(y), first(x)), cmp.Compare(second(y), second(x)))
	})
	tab := a.newTable(">BASE", ">SELF", ">CHANGE", ">BASE TOTAL", ">TOTAL", ">CHANGE", "FUNCTION")
	for _, r := range rows[:min(b.limit, len(rows))] {
		tab.add(formatValue(base(r.BaseSelf), unit), formatValue(r.Self, unit), signed(r.Self-base(r.BaseSelf), unit),
			formatValue(base(r.BaseTotal), unit), formatValue(r.Total, unit), signed(r.Total-base(r.BaseTotal), unit), clean(r.Function))
	}
	return tab.write(a.stdout)
}

// value is what v points to, 0 where the collector left it out.
func value(v *int64) int64 {
	if v == nil {
		return 0
	}
	return *v
}

func change(now, base int64) string {
	if base == 0 {
		return "new"
	}
	return fmt.Sprintf("%+.1f%%", 100*float64(now-base)/float64(base))
}

func abs(v int64) int64 {
	if v < 0 {
		return -v
	}
	return v
}
