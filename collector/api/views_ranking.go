package api

import (
	"context"
	"net/http"
	"slices"

	"github.com/sonde-io/sonde/collector/reply"
	"github.com/sonde-io/sonde/profiles"
	"github.com/sonde-io/sonde/profiles/store"
)

// Bounds of the windows of a ranking.
const (
	minRankWindow  = 60_000 // ms: the finest sums
	maxRankWindows = 1500   // a day by minutes
)

// ranking answers with the functions ordered by how sure it is that they changed between the base and the range.
func (h *Handler) ranking(ctx context.Context, r *http.Request) (any, error) {
	p := h.params(r, append(slices.Clone(compared), "value", "window", "limit")...)
	q := p.query()
	base := p.base(q)
	normalize := p.normalization(profiles.NormalizeInterval)
	opt := profiles.RankOptions{Value: p.oneOf("value", profiles.RankTotal, profiles.RankSelf), Limit: p.number("limit", 100, 1, 100_000)}
	width := p.window(q, base)
	if p.err != nil {
		return nil, p.err
	}
	own, err := h.ownModules(ctx, q.Matchers)
	if err != nil {
		return nil, err
	}
	baseOwn, err := h.ownModules(ctx, base.Matchers)
	if err != nil {
		return nil, err
	}
	opt.OwnModule = joinModules(own, baseOwn)
	ranker := profiles.NewRanker(opt)
	missing, err := h.rankSide(ctx, q, width, normalize, ranker.Add)
	if err != nil {
		return nil, err
	}
	baseMissing, err := h.rankSide(ctx, base, width, normalize, ranker.AddBase)
	if err != nil {
		return nil, err
	}
	out := ranker.Ranking()
	out.From, out.To, out.BaseFrom, out.BaseTo, out.Window, out.Normalize = q.From, q.To, base.From, base.To, width, normalize
	t := q.Type
	if out.Type.Unit == "" {
		out.Type = t.Desc()
	}
	out.Per = normalize.Per(t)
	for _, m := range []string{missing, baseMissing} {
		if out.Note == "" || m != "" && out.Windows*out.BaseWindows == 0 {
			out.Note = m
		}
	}
	return out, nil
}

// window reads the length of a ranking's windows, in ms.
func (p *params) window(q, base store.Query) int64 {
	width := profiles.RankWindow(q.To-q.From, base.To-base.From)
	if text := p.str("window"); text != "" {
		d, err := profiles.ParseDuration(text)
		if width = d.Milliseconds(); err != nil || width < minRankWindow {
			p.fail("parameter window: %.64q is not a duration of a minute or more, such as 5m", text)
			return minRankWindow
		}
	}
	if n := (q.To - q.From + base.To - base.From) / width; n > maxRankWindows && p.err == nil {
		p.err = &reply.Error{Status: http.StatusUnprocessableEntity, Message: "parameter window: too many windows in the ranges", Limit: "max_rank_windows", Max: maxRankWindows, Got: n, Hint: "a larger window"}
	}
	return width
}

// rankSide hands the windows of q to add, each with the factor that makes it comparable with the others. missing says why windows with data were left out.
func (h *Handler) rankSide(ctx context.Context, q store.Query, width int64, n profiles.Normalization, add func(*profiles.Stacks, float64)) (missing string, err error) {
	cpu := map[int64]*profiles.Stacks{}
	if n == profiles.NormalizeCPU {
		err := h.cfg.Store.EachWindow(ctx, cpuOf(q), width, func(w store.Window) error {
			cpu[w.Start] = &profiles.Stacks{Type: w.Stacks.Type, Stats: w.Stacks.Stats, Values: []int64{w.Stacks.Total()}} // all that a normalization looks at
			return nil
		})
		if err != nil {
			return "", err
		}
	}
	each := h.cfg.Store.EachWindow
	if n == profiles.NormalizeInstance && q.Type.Kind() == profiles.Interval {
		each = h.mergeWindows
	}
	err = each(ctx, q, width, func(w store.Window) error {
		if w.Profiles == 0 {
			return nil
		}
		factor, err := n.Factor(profiles.Side{Stacks: w.Stacks, CPU: cpu[w.Start]})
		if err != nil {
			missing = err.Error()
			return nil
		}
		add(w.Stacks, factor)
		return nil
	})
	return missing, err
}

// mergeWindows is EachWindow by one merge for each window: slower, but a merge also knows how many processes it is of.
func (h *Handler) mergeWindows(ctx context.Context, q store.Query, width int64, fn func(w store.Window) error) error {
	for start := q.From / width * width; start < q.To; start += width {
		part := q
		part.From, part.To = max(start, q.From), min(start+width, q.To)
		s, err := h.cfg.Store.Merge(ctx, part)
		if err != nil {
			return err
		}
		if err := fn(store.Window{Start: start, CoveredMs: s.Stats.CoveredMs, Profiles: s.Stats.Profiles, Stacks: s}); err != nil {
			return err
		}
	}
	return ctx.Err()
}
