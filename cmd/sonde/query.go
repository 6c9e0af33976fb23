package main

import (
	"context"
	"maps"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sonde-io/sonde/profiles"
)

// queryFlags select profiles: whose, of which type, and when.
type queryFlags struct {
	service, query, typ   string
	sample, focus, ignore string
	since, from, to       string
}

func (q *queryFlags) register(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVarP(&q.service, "service", "s", "", "the service's name")
	fs.StringVarP(&q.query, "query", "q", "", `selector, such as {service_name="cart",service_version=~"v1.*"}`)
	fs.StringVarP(&q.typ, "type", "t", "cpu", "type of profile, or one of its columns: cpu, heap, allocs, goroutine, mutex, block, heap:alloc_objects")
	fs.StringVar(&q.sample, "sample", "", `selector on the samples' own labels, such as {account="A"} or {trace_id="…"}`)
	fs.StringVar(&q.focus, "focus", "", "only stacks with a function whose name matches this regular expression")
	fs.StringVar(&q.ignore, "ignore", "", "only stacks without a function whose name matches this regular expression")
	q.registerTimes(cmd)
}

func (q *queryFlags) registerTimes(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&q.since, "since", "", "how far back from now: 15m, 1h, 7d (default 1h)")
	fs.StringVar(&q.from, "from", "", "start of the range: now-1h, RFC 3339 or Unix")
	fs.StringVar(&q.to, "to", "", "end of the range, not included (default now)")
}

// timeRange is [From, To) in Unix milliseconds.
type timeRange struct{ From, To int64 }

// rangeOf reads the flags for times.
func (q *queryFlags) rangeOf(cmd *cobra.Command, now time.Time) (timeRange, error) {
	if q.since != "" && (q.from != "" || q.to != "") {
		return timeRange{}, usage(cmd, "--since ends now: give it, or --from and --to")
	}
	since := time.Hour
	if q.since != "" {
		d, err := profiles.ParseDuration(q.since)
		if err != nil {
			return timeRange{}, usage(cmd, "read --since: %w", err)
		}
		if d <= 0 {
			return timeRange{}, usage(cmd, "read --since: %s is not a time back from now", q.since)
		}
		since = d
	}
	to, err := parseTime(cmd, "--to", q.to, now, now.UnixMilli())
	if err != nil {
		return timeRange{}, err
	}
	from, err := parseTime(cmd, "--from", q.from, now, to-since.Milliseconds())
	if err != nil {
		return timeRange{}, err
	}
	r := timeRange{From: from, To: to}
	if r.From >= r.To {
		return timeRange{}, usage(cmd, "the range is empty: it starts at %s and ends at %s", stamp(r.From), stamp(r.To))
	}
	return r, nil
}

// parseTime reads the time that a flag names, in Unix milliseconds.
func parseTime(cmd *cobra.Command, flag, s string, now time.Time, otherwise int64) (int64, error) {
	if s == "" {
		return otherwise, nil
	}
	ms, err := profiles.ParseTime(s, now)
	if err != nil {
		return 0, usage(cmd, "read %s: %w", flag, err)
	}
	return ms, nil
}

// selector joins --service and --query.
func (q *queryFlags) selector(cmd *cobra.Command) (string, error) {
	return joinSelector(cmd, q.service, q.query)
}

func joinSelector(cmd *cobra.Command, service, query string) (string, error) {
	if query != "" {
		if _, err := profiles.ParseSelector(query); err != nil {
			return "", usage(cmd, "read --query: %w", err)
		}
	}
	if service == "" {
		return query, nil
	}
	match := "service_name=" + strconv.Quote(service)
	if query == "" {
		return "{" + match + "}", nil
	}
	inner, ok := strings.CutPrefix(strings.TrimSpace(query), "{")
	if !ok {
		return "", usage(cmd, "--service and --query both name a service")
	}
	if strings.TrimSpace(strings.TrimSuffix(inner, "}")) == "" {
		return "{" + match + "}", nil
	}
	return "{" + match + "," + inner, nil
}

// params are the parameters that all queries share.
func (q *queryFlags) params(cmd *cobra.Command, now time.Time) (url.Values, timeRange, error) {
	if _, err := profiles.ParseType(q.typ); err != nil {
		return nil, timeRange{}, usage(cmd, "read --type: %w", err)
	}
	r, err := q.rangeOf(cmd, now)
	if err != nil {
		return nil, timeRange{}, err
	}
	sel, err := q.selector(cmd)
	if err != nil {
		return nil, timeRange{}, err
	}
	v := url.Values{"type": {q.typ}, "from": {unixMs(r.From)}, "to": {unixMs(r.To)}}
	if sel != "" {
		v.Set("query", sel)
	}
	if err := q.filters(cmd, v); err != nil {
		return nil, timeRange{}, err
	}
	return v, r, nil
}

// filters adds what selects stacks.
func (q *queryFlags) filters(cmd *cobra.Command, v url.Values) error {
	if q.sample != "" {
		if _, err := profiles.ParseSelector(q.sample); err != nil {
			return usage(cmd, "read --sample: %w", err)
		}
		v.Set("sample", q.sample)
	}
	for name, pattern := range map[string]string{"focus": q.focus, "ignore": q.ignore} {
		if pattern == "" {
			continue
		}
		if _, err := regexp.Compile(pattern); err != nil {
			return usage(cmd, "read --%s: %w", name, err)
		}
		v.Set(name, pattern)
	}
	return nil
}

// framesFlag adds --frames to cmd.
func framesFlag(cmd *cobra.Command) *format {
	f := &format{value: string(profiles.FramesFunction), allowed: []string{string(profiles.FramesFunction), string(profiles.FramesLine), string(profiles.FramesAddress)}, what: "WHAT"}
	cmd.Flags().Var(f, "frames", "what a frame is: function, line or address")
	if err := cmd.RegisterFlagCompletionFunc("frames", cobra.FixedCompletions(f.allowed, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // only for a flag that does not exist
	}
	return f
}

func unixMs(ms int64) string { return strconv.FormatInt(ms, 10) }

// stamp prints a time as people at this machine read it, to the second.
func stamp(ms int64) string { return time.UnixMilli(ms).Format("2006-01-02 15:04:05") }

// view makes a view of a local file, where args name one, or asks the collector at path for it, with the parameters in more too; params are
// what it was asked, nil for a file.
func view[V any](a *app, cmd *cobra.Command, q *queryFlags, args []string, path string, more url.Values, local func(*profiles.Stacks) *V) (_ *V, params url.Values, _ error) {
	if len(args) == 1 {
		t, err := localType(cmd, q)
		if err != nil {
			return nil, nil, err
		}
		s, err := a.loadFile(args[0], t)
		if err != nil {
			return nil, nil, err
		}
		return local(s), nil, nil
	}
	params, _, err := q.params(cmd, a.now())
	if err != nil {
		return nil, nil, err
	}
	maps.Copy(params, more)
	v := new(V)
	if err := a.ask(cmd.Context(), path, params, v); err != nil {
		return nil, nil, err
	}
	return v, params, nil
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
