package main

import (
	"cmp"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sonde-io/sonde/profiles"
)

// baseFlags select what a diff compares with.
type baseFlags struct {
	query, from, to, normalize, sort, window string
	limit                                    int
	frames                                   profiles.Frames
}

func (a *app) diffCommand() *cobra.Command {
	var q queryFlags
	var b baseFlags
	cmd := &cobra.Command{
		Use:   "diff [BASE-FILE FILE]",
		Short: "Compare two ranges, two selections, or two files",
		Long: `Compare two ranges of time, two selections, or two local pprof files, by function.

Without --base-from and --base-to the base is the range of the same length right before. --normalize says how values of the base
are scaled before they are subtracted: interval by the time in which processes were profiled on either side, so that neither a
scrape of some seconds a minute nor a range without data counts as less (the default between ranges of what is counted),
instance by the number of processes, cpu by the CPU time that they used, share by the totals, none (the default for what is
there at a moment, and between files). -o json prints both sides as they are, with the factors.

--rank cuts both ranges into windows and orders the functions by how sure it is that they changed, rather than by how much: by
Welch's test of the values in the windows of either side. Q is the chance that a function stands there by accident, with all
functions tested at once taken into account.`,
		Example: `  sonde diff --service cart --since 15m
  sonde diff --service cart --from 2026-11-20T14:00:00Z --to 2026-11-20T15:00:00Z \
             --base-from 2026-11-19T14:00:00Z --base-to 2026-11-19T15:00:00Z
  sonde diff --query '{service_version="v2"}' --base-query '{service_version="v1"}' --normalize share
  sonde diff --service cart --type allocs --since 1h --rank --normalize cpu
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
	norm := normalizeFlag(cmd)
	order := sortFlag(cmd, "total", "self")
	fs.IntVarP(&b.limit, "limit", "n", 30, "number of functions")
	frames := framesFlag(cmd)
	rank := fs.Bool("rank", false, "order by how sure it is that a function changed")
	fs.StringVar(&b.window, "window", "", "with --rank: length of the windows, 1m at least (default: about twenty of them)")
	out := outputFlag(cmd, "table", "json")
	a.clientFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if b.limit < 1 {
			return usage(cmd, "read --limit: %d is not a number of functions", b.limit)
		}
		b.normalize, b.sort, b.frames = norm.value, order.value, profiles.Frames(frames.value)
		if *rank {
			if len(args) == 2 {
				return usage(cmd, "--rank needs many profiles on either side: it is for the collector, and two FILEs are given")
			}
			return a.rank(cmd, &q, &b, out.value == "json")
		}
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
		t, err := a.diffFiles(cmd, q, b, args[0], args[1])
		if err != nil {
			return nil, 0, err
		}
		return t, a.baseFactor(t.Scale), nil
	}
	params, err := a.compareParams(cmd, q, b)
	if err != nil {
		return nil, 0, err
	}
	params.Set("view", "top")
	params.Set("limit", strconv.Itoa(manyRows))
	params.Set("frames", string(b.frames))
	var t profiles.Top
	if err := a.ask(cmd.Context(), "/api/v1/diff", params, &t); err != nil {
		return nil, 0, err
	}
	return &t, a.baseFactor(t.Scale), nil
}

// compareParams are the parameters of a comparison.
func (a *app) compareParams(cmd *cobra.Command, q *queryFlags, b *baseFlags) (url.Values, error) {
	now := a.now()
	params, r, err := q.params(cmd, now)
	if err != nil {
		return nil, err
	}
	base, err := b.rangeOf(cmd, r, now)
	if err != nil {
		return nil, err
	}
	params.Set("base_from", unixMs(base.From))
	params.Set("base_to", unixMs(base.To))
	if b.query != "" {
		sel, err := joinSelector(cmd, q.service, b.query)
		if err != nil {
			return nil, err
		}
		params.Set("base_query", sel)
	}
	if b.normalize == "" {
		b.normalize = string(profiles.NormalizeInterval)
		if t, err := profiles.ParseType(q.typ); err == nil && t.Kind() == profiles.Gauge {
			b.normalize = string(profiles.NormalizeNone) // a mean already: the length of its range does not matter
		}
	}
	params.Set("normalize", b.normalize)
	return params, nil
}

// normalizeFlag adds --normalize to cmd; --norm rate is how it was once written.
func normalizeFlag(cmd *cobra.Command) *format {
	f := &format{what: "HOW", old: map[string]string{"rate": string(profiles.NormalizeInterval)}}
	var words []string
	for _, n := range profiles.Normalizations {
		words = append(words, string(n))
	}
	f.allowed = words
	fs := cmd.Flags()
	fs.Var(f, "normalize", "scale the base by: "+strings.Join(words, ", "))
	fs.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if name == "norm" {
			name = "normalize"
		}
		return pflag.NormalizedName(name)
	})
	if err := cmd.RegisterFlagCompletionFunc("normalize", cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // only for a flag that does not exist
	}
	return f
}

// baseFactor is what the base's values are multiplied with; where they could not be normalized as asked it says so.
func (a *app) baseFactor(s *profiles.Scale) float64 {
	switch {
	case s == nil || s.Now == 0:
		return 1
	case s.Missing != "":
		fmt.Fprintf(a.stderr, "note: not normalized: %s\n", clean(s.Missing))
	}
	return s.Base / s.Now
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
