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
		err := h.eachWindow(ctx, cpuOf(q), width, func(start int64, s *profiles.Stacks) {
			cpu[start] = &profiles.Stacks{Type: s.Type, Stats: s.Stats, Values: []int64{s.Total()}} // all that a normalization looks at
		})
		if err != nil {
			return "", err
		}
	}
	err = h.eachWindow(ctx, q, width, func(start int64, s *profiles.Stacks) {
		factor, err := n.Factor(profiles.Side{Stacks: s, CPU: cpu[start]})
		if err != nil {
			missing = err.Error()
			return
		}
		add(s, factor)
	})
	return missing, err
}

// eachWindow calls fn for the windows of q that hold profiles, in order; windows begin at whole multiples of width since 1970.
func (h *Handler) eachWindow(ctx context.Context, q store.Query, width int64, fn func(start int64, s *profiles.Stacks)) error {
	for start := q.From / width * width; start < q.To; start += width {
		w := q
		w.From, w.To = max(start, q.From), min(start+width, q.To)
		s, err := h.cfg.Store.Merge(ctx, w)
		if err != nil {
			return err
		}
		if s.Stats.Profiles > 0 {
			fn(start, s)
		}
	}
	return ctx.Err()
}
