package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sonde-io/sonde/cmd/sonde/internal/peer"
	"github.com/sonde-io/sonde/profiles"
)

// compareFlags say with whom.
type compareFlags struct {
	with, query, typ string
	headers          []string
	runs, limit      int
}

func (a *app) compareCommand() *cobra.Command {
	var q queryFlags
	var c compareFlags
	cmd := &cobra.Command{
		Use:   "compare --with pyroscope=URL|parca=URL",
		Short: "Ask Sonde and another profile store the same, and print what both say and what it cost",
		Long: `Ask Sonde and another profile store for the same selection, and print both totals, the functions that differ most, and how
long the answers took and how large they were: for the weeks in which a team runs both.

Of Pyroscope a flame graph is asked for, of Parca a merged pprof profile, and of Sonde the same. Labels and types may have
other names there: --with-query and --with-type say what they are. Shares are compared, since the totals are rarely of the
same processes and seconds. What is there at a moment (heap in use, goroutines) the others add up over captures, where
Sonde takes the mean over time.

SONDE_PEER_TOKEN, if it is set, is sent to the other store as a bearer token.`,
		Example: `  sonde compare --with pyroscope=http://pyroscope:4040 --service cart --since 1h
  sonde compare --with parca=http://parca:7070 --service cart --with-query '{job="cart"}'
  sonde compare --with pyroscope=https://profiles --with-header 'X-Scope-OrgID: team' --service cart --type heap -o json`,
		Args: cobra.NoArgs,
	}
	fs := cmd.Flags()
	fs.StringVar(&c.with, "with", "", "the other store: pyroscope=URL or parca=URL")
	q.register(cmd)
	fs.StringVar(&c.query, "with-query", "", "the selector there (default: the same)")
	fs.StringVar(&c.typ, "with-type", "", "the type there (default: what it calls --type)")
	fs.StringArrayVar(&c.headers, "with-header", nil, "a header for it, NAME: VALUE; may be given several times")
	fs.IntVar(&c.runs, "runs", 3, "how often both are asked: the first time and the fastest are printed")
	fs.IntVarP(&c.limit, "limit", "n", 20, "number of functions")
	out := outputFlag(cmd, "table", "json")
	a.clientFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		r, err := a.compare(cmd, &q, &c)
		if err != nil {
			return err
		}
		if out.value == "json" {
			return writeJSON(a.stdout, r)
		}
		return a.writeComparison(r)
	}
	return cmd
}

// comparison is what two stores say of the same.
type comparison struct {
	Type      string             `json:"type"`
	Unit      string             `json:"unit"`
	From      int64              `json:"from"` // Unix ms
	To        int64              `json:"to"`
	Sonde     side               `json:"sonde"`
	Other     side               `json:"other"`
	Overlap   float64            `json:"overlap"` // of the functions' shares: 1 where they are the same
	Functions []comparedFunction `json:"functions"`
}

// side is what one store says, and what that cost.
type side struct {
	Name      string  `json:"name"`
	Type      string  `json:"type"`
	Query     string  `json:"query"`
	Total     int64   `json:"total"`
	Functions int     `json:"functions"`
	Cut       bool    `json:"cut,omitempty"` // small functions were folded into others
	FirstMs   float64 `json:"first_ms"`
	FastestMs float64 `json:"fastest_ms"`
	Bytes     int64   `json:"bytes"`
}

type comparedFunction struct {
	Function string  `json:"function"`
	Sonde    float64 `json:"sonde"` // share of the total, itself
	Other    float64 `json:"other"`
}

func (a *app) compare(cmd *cobra.Command, q *queryFlags, c *compareFlags) (*comparison, error) {
	kind, base, ok := strings.Cut(c.with, "=")
	if !ok {
		return nil, usage(cmd, "read --with: %q is not pyroscope=URL or parca=URL", c.with)
	}
	if c.runs < 1 || c.limit < 1 {
		return nil, usage(cmd, "--runs and --limit are 1 at least")
	}
	if q.sample != "" || q.focus != "" || q.ignore != "" {
		return nil, usage(cmd, "--sample, --focus and --ignore select stacks, which the other store is not asked to")
	}
	header, err := a.peerHeader(cmd, c.headers)
	if err != nil {
		return nil, err
	}
	other, err := peer.Open(kind, base, header)
	if err != nil {
		return nil, usage(cmd, "read --with: %w", err)
	}
	params, span, err := q.params(cmd, a.now())
	if err != nil {
		return nil, err
	}
	t, err := profiles.ParseType(q.typ)
	if err != nil {
		return nil, usage(cmd, "read --type: %w", err)
	}
	ask := peer.Query{Type: cmp.Or(c.typ, other.Type(t.String())), Selector: cmp.Or(c.query, params.Get("query"), "{}"), From: time.UnixMilli(span.From), To: time.UnixMilli(span.To)}
	if ask.Type == "" {
		return nil, withHint(usage(cmd, "it is not known what %s calls %s", kind, t), "name it with --with-type, such as process_cpu:cpu:nanoseconds:cpu:nanoseconds")
	}
	r := &comparison{Type: t.String(), From: span.From, To: span.To, Sonde: side{Name: "sonde", Type: t.String(), Query: params.Get("query")}, Other: side{Name: kind, Type: ask.Type, Query: ask.Selector}}
	var mine, theirs *peer.Answer
	for range c.runs {
		if mine, err = r.Sonde.timed(cmd.Context(), a, func(ctx context.Context) (*peer.Answer, error) {
			return a.askSelf(ctx, kind, params, &r.Unit)
		}); err != nil {
			return nil, err
		}
		if theirs, err = r.Other.timed(cmd.Context(), a, func(ctx context.Context) (*peer.Answer, error) { return other.Ask(ctx, ask) }); err != nil {
			return nil, fmt.Errorf("compare with %s: %w", kind, err)
		}
	}
	r.functions(mine, theirs, c.limit)
	return r, nil
}

// peerHeader is what the other store is sent besides the question.
func (a *app) peerHeader(cmd *cobra.Command, lines []string) (http.Header, error) {
	h := http.Header{"User-Agent": {"sonde/" + currentVersion().Version}}
	if token, ok := a.lookupEnv("SONDE_PEER_TOKEN"); ok && strings.TrimSpace(token) != "" {
		h.Set("Authorization", "Bearer "+strings.TrimSpace(token))
	}
	for _, line := range lines {
		name, value, ok := strings.Cut(line, ":")
		if !ok || strings.TrimSpace(name) == "" {
			return nil, usage(cmd, "read --with-header: want NAME: VALUE")
		}
		h.Set(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	return h, nil
}

// timed asks once more, within --timeout, and keeps the times.
func (s *side) timed(ctx context.Context, a *app, ask func(context.Context) (*peer.Answer, error)) (*peer.Answer, error) {
	ctx, cancel := a.within(ctx)
	defer cancel()
	answer, err := ask(ctx)
	if err != nil {
		return nil, err
	}
	ms := float64(answer.Took.Microseconds()) / 1000
	if s.FirstMs == 0 {
		s.FirstMs, s.FastestMs = ms, ms
	}
	s.FastestMs = min(s.FastestMs, ms)
	s.Total, s.Functions, s.Cut, s.Bytes = answer.Total, len(answer.Self), answer.Cut, answer.Bytes
	return answer, nil
}

// maxCompared bounds an answer of Sonde's that is compared, in bytes.
const maxCompared = 256 << 20

// askSelf asks Sonde for what the other store is asked for: a flame graph, or of Parca a profile.
func (a *app) askSelf(ctx context.Context, kind string, params url.Values, unit *string) (*peer.Answer, error) {
	c, err := a.client()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	v, path := maps.Clone(params), "/api/v1/flamegraph"
	if kind == "parca" {
		path = "/api/v1/profile"
		v.Set("format", "pprof")
	} else {
		v.Set("max_nodes", "65536")
	}
	began := time.Now()
	body, err := c.Get(ctx, path, v)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	data, err := io.ReadAll(io.LimitReader(body, maxCompared+1))
	took := time.Since(began)
	if err == nil && len(data) > maxCompared {
		err = fmt.Errorf("more than %d bytes", maxCompared)
	}
	var answer *peer.Answer
	if err == nil && kind == "parca" {
		answer, *unit, err = peer.OfPprof(data, params.Get("type"))
	} else if err == nil {
		answer, *unit, err = peer.OfFlame(data)
	}
	if err != nil {
		return nil, fmt.Errorf("read answer of %s: %w", path, err)
	}
	answer.Took, answer.Bytes = took, int64(len(data))
	return answer, nil
}

// functions compares shares.
func (r *comparison) functions(mine, theirs *peer.Answer, limit int) {
	share := func(a *peer.Answer, name string) float64 {
		if a.Total == 0 {
			return 0
		}
		return float64(a.Self[name]) / float64(a.Total)
	}
	names := slices.Collect(maps.Keys(mine.Self))
	for name := range theirs.Self {
		if _, ok := mine.Self[name]; !ok {
			names = append(names, name)
		}
	}
	all := make([]comparedFunction, 0, len(names))
	for _, name := range names {
		f := comparedFunction{name, share(mine, name), share(theirs, name)}
		r.Overlap += min(f.Sonde, f.Other)
		all = append(all, f)
	}
	slices.SortFunc(all, func(x, y comparedFunction) int {
		return cmp.Or(cmp.Compare(max(y.Sonde, y.Other), max(x.Sonde, x.Other)), strings.Compare(x.Function, y.Function))
	})
	r.Functions = all[:min(limit, len(all))]
}

func (a *app) writeComparison(r *comparison) error {
	fmt.Fprintf(a.stdout, "%s%s\n", r.Type, between(r.From, r.To))
	tab := a.newTable("", ">TOTAL", ">FUNCTIONS", ">FIRST", ">FASTEST", ">BYTES", "TYPE", "QUERY")
	for _, s := range []side{r.Sonde, r.Other} {
		count := group(int64(s.Functions))
		if s.Cut {
			count += "+"
		}
		tab.add(s.Name, formatValue(s.Total, r.Unit), count, milliseconds(s.FirstMs), milliseconds(s.FastestMs), formatValue(s.Bytes, "bytes"), clean(s.Type), clean(s.Query))
	}
	if err := tab.write(a.stdout); err != nil {
		return err
	}
	if r.Sonde.Total == 0 || r.Other.Total == 0 {
		_, err := fmt.Fprintln(a.stdout, "one of them has nothing: are labels and types called otherwise there? (--with-query, --with-type)")
		return err
	}
	fmt.Fprintf(a.stdout, "\nfunctions themselves, by share of the total; %.1f%% of it is the same\n", 100*r.Overlap)
	tab = a.newTable(">SONDE", ">"+strings.ToUpper(r.Other.Name), ">DIFFERENCE", "FUNCTION")
	for _, f := range r.Functions {
		tab.add(fmt.Sprintf("%.2f%%", 100*f.Sonde), fmt.Sprintf("%.2f%%", 100*f.Other), fmt.Sprintf("%+.2f", 100*(f.Other-f.Sonde)), clean(f.Function))
	}
	return tab.write(a.stdout)
}

func milliseconds(ms float64) string {
	return formatValue(int64(math.Round(ms*1e6)), "nanoseconds")
}
