package api

import (
	"context"
	"net/http"
	"slices"

	"github.com/sonde-io/sonde/profiles"
	"github.com/sonde-io/sonde/profiles/store"
)

func (h *Handler) diff(ctx context.Context, r *http.Request) (any, error) {
	p := h.params(r, append(slices.Clone(compared), "view", "max_nodes", "limit", "frames")...)
	q := p.query()
	base := p.base(q)
	view := p.oneOf("view", "flame", "top")
	nodes := p.number("max_nodes", profiles.DefaultFlameNodes, 2, profiles.MaxFlameNodes)
	limit, frames := p.number("limit", 100, 1, 100_000), p.frames()
	normalize := p.normalization(profiles.NormalizeNone)
	if p.err != nil {
		return nil, p.err
	}
	s, b, own, err := h.mergeBoth(ctx, q, base)
	if err != nil {
		return nil, err
	}
	scale, err := h.scale(ctx, normalize, q, base, s, b)
	if err != nil {
		return nil, err
	}
	if view == "top" {
		return profiles.NewTop(s, b, profiles.TopOptions{Limit: limit, Frames: frames, Scale: scale, OwnModule: own}), nil
	}
	return profiles.NewFlame(s, b, profiles.FlameOptions{MaxNodes: nodes, Frames: frames, Scale: scale, OwnModule: own}), nil
}

// callers answers with who calls one function and what it calls, of one range or, where a base is given, of two.
func (h *Handler) callers(ctx context.Context, r *http.Request) (any, error) {
	p := h.params(r, append(slices.Clone(compared), "function", "max_nodes", "frames")...)
	q := p.query()
	opt := profiles.FlameOptions{MaxNodes: p.number("max_nodes", profiles.DefaultFlameNodes, 2, profiles.MaxFlameNodes), Frames: p.frames()}
	normalize := p.normalization(profiles.NormalizeNone)
	name := p.str("function")
	if name == "" {
		p.fail("parameter function is missing; /api/v1/top lists what there is")
	}
	if p.str("base_from")+p.str("base_to")+p.str("base_query")+p.str("normalize") == "" {
		if p.err != nil {
			return nil, p.err
		}
		s, own, err := h.merge(ctx, q)
		if err != nil {
			return nil, err
		}
		opt.OwnModule = own
		return profiles.NewCallers(s, nil, name, opt), nil
	}
	base := p.base(q)
	if p.err != nil {
		return nil, p.err
	}
	s, b, own, err := h.mergeBoth(ctx, q, base)
	if err != nil {
		return nil, err
	}
	opt.OwnModule = own
	if opt.Scale, err = h.scale(ctx, normalize, q, base, s, b); err != nil {
		return nil, err
	}
	return profiles.NewCallers(s, b, name, opt), nil
}

// sampleLabels answers with the labels that samples carry, and what each value of them stands for.
func (h *Handler) sampleLabels(ctx context.Context, r *http.Request) (any, error) {
	p := h.params(r, append(slices.Clone(common), "limit")...)
	q := p.query()
	limit := p.number("limit", 100, 1, 10_000)
	if p.err != nil {
		return nil, p.err
	}
	s, err := h.cfg.Store.Merge(ctx, q)
	if err != nil {
		return nil, err
	}
	return profiles.NewSampleLabels(s, limit), nil
}

// mergeBoth adds up both sides of a comparison.
func (h *Handler) mergeBoth(ctx context.Context, q, base store.Query) (s, b *profiles.Stacks, own string, err error) {
	s, own, err = h.merge(ctx, q)
	if err != nil {
		return nil, nil, "", err
	}
	b, baseOwn, err := h.merge(ctx, base)
	if err != nil {
		return nil, nil, "", err
	}
	return s, b, joinModules(own, baseOwn), nil
}

// joinModules joins the modules of the two sides of a comparison.
func joinModules(own, baseOwn string) string {
	if baseOwn == own {
		return own
	}
	return own + "," + baseOwn
}

// scale finds the factors by which n makes two merges comparable; nil where nothing is to be.
func (h *Handler) scale(ctx context.Context, n profiles.Normalization, q, base store.Query, s, b *profiles.Stacks) (*profiles.Scale, error) {
	if n == profiles.NormalizeNone {
		return nil, nil
	}
	now, was := profiles.Side{Stacks: s}, profiles.Side{Stacks: b}
	if n == profiles.NormalizeCPU {
		var err error
		if now.CPU, err = h.cpu(ctx, q); err != nil {
			return nil, err
		}
		if was.CPU, err = h.cpu(ctx, base); err != nil {
			return nil, err
		}
	}
	scale := profiles.NewScale(n, now, was)
	return &scale, nil
}

// cpu adds up what all that q selects used of the CPU: its processes and its range, whatever their stacks.
func (h *Handler) cpu(ctx context.Context, q store.Query) (*profiles.Stacks, error) {
	return h.cfg.Store.Merge(ctx, cpuOf(q))
}

func cpuOf(q store.Query) store.Query {
	return store.Query{Matchers: q.Matchers, Type: profiles.Type{Profile: "cpu", Sample: "cpu"}, From: q.From, To: q.To}
}
