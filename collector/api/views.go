package api

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/profiles"
	"github.com/sonde-io/sonde/profiles/store"
)

type seriesJSON struct {
	Labels labels.Labels `json:"labels"`
	Total  float64       `json:"total"`
	Values []float64     `json:"values"`
}

type seriesAnswer struct {
	Type   profiles.TypeDesc `json:"type"`
	From   int64             `json:"from"` // Unix ms
	To     int64             `json:"to"`
	Step   int64             `json:"step"` // ms
	Series []seriesJSON      `json:"series"`

	Unreadable int `json:"unreadable,omitempty"` // segments and blocks that could not be read and are left out
}

func (h *Handler) series(ctx context.Context, r *http.Request) (any, error) {
	p := h.params(r, append(slices.Clone(common), "by", "step", "top")...)
	q := store.SeriesQuery{Query: p.query(), By: p.list("by"), Top: p.number("top", 10, 0, 1000)}
	q.Step, q.From = p.step(q.From, q.To)
	if p.err == nil {
		p.err = validBy(q.By)
	}
	if p.err != nil {
		return nil, p.err
	}
	var stats profiles.MergeStats
	q.Stats = &stats
	all, err := h.cfg.Store.Series(ctx, q)
	if err != nil {
		return nil, err
	}
	out := seriesAnswer{Unreadable: stats.Unreadable, Type: q.Type.Desc(), From: q.From, To: q.To, Step: q.Step, Series: make([]seriesJSON, len(all))}
	for i, s := range all {
		out.Series[i] = seriesJSON{Labels: s.Labels, Total: s.Total, Values: list(s.Values)}
	}
	infos, err := h.cfg.Store.Types(ctx, q.Query)
	if err != nil {
		return nil, err
	}
	for _, t := range infos { // the unit is in the data, not in the id
		if t.String() == q.Type.String() && t.Unit != "" {
			out.Type = t.Desc()
			break
		}
	}
	return out, nil
}

func (h *Handler) flamegraph(ctx context.Context, r *http.Request) (any, error) {
	p := h.params(r, append(slices.Clone(common), "max_nodes", "frames")...)
	q := p.query()
	nodes, frames := p.number("max_nodes", profiles.DefaultFlameNodes, 2, profiles.MaxFlameNodes), p.frames()
	if p.err != nil {
		return nil, p.err
	}
	s, own, err := h.merge(ctx, q)
	if err != nil {
		return nil, err
	}
	return profiles.NewFlame(s, nil, profiles.FlameOptions{MaxNodes: nodes, Frames: frames, OwnModule: own}), nil
}

func (h *Handler) top(ctx context.Context, r *http.Request) (any, error) {
	p := h.params(r, append(slices.Clone(common), "limit", "frames")...)
	q := p.query()
	limit, frames := p.number("limit", 100, 1, 100_000), p.frames()
	if p.err != nil {
		return nil, p.err
	}
	s, own, err := h.merge(ctx, q)
	if err != nil {
		return nil, err
	}
	return profiles.NewTop(s, nil, profiles.TopOptions{Limit: limit, Frames: frames, OwnModule: own}), nil
}

// merge adds up what q selects and finds the modules whose functions are the services' own.
func (h *Handler) merge(ctx context.Context, q store.Query) (*profiles.Stacks, string, error) {
	return h.merged(ctx, q, func() (*profiles.Stacks, error) { return h.cfg.Store.Merge(ctx, q) })
}

// mergeEven is merge for a compiler, for which a process counts by what it did, whoever profiled it and for how much of the time.
func (h *Handler) mergeEven(ctx context.Context, q store.Query, e *store.Estimate) (*profiles.Stacks, string, error) {
	return h.merged(ctx, q, func() (*profiles.Stacks, error) { return h.cfg.Store.MergeEven(ctx, q, e) })
}

func (h *Handler) merged(ctx context.Context, q store.Query, merge func() (*profiles.Stacks, error)) (*profiles.Stacks, string, error) {
	own, err := h.ownModules(ctx, q.Matchers)
	if err != nil {
		return nil, "", err
	}
	s, err := merge()
	if err != nil {
		return nil, "", err
	}
	if err := ctx.Err(); err != nil {
		return nil, "", err
	}
	return s, own, nil
}

// moduleCache keeps what ownModules found: builds change with deploys, queries come by the dozen.
type moduleCache struct {
	mu sync.Mutex
	m  map[string]moduleEntry
}

type moduleEntry struct {
	modules string
	at      time.Time
}

const (
	modulesFresh = 10 * time.Second
	maxModules   = 4096 // services in the cache
	maxOwn       = 256  // modules of one service, or of all
)

// ownModules returns the main modules, separated by commas, of the builds of the service that ms name, or of all where they name none.
func (h *Handler) ownModules(ctx context.Context, ms []*labels.Matcher) (string, error) {
	service := ""
	for _, m := range ms {
		if m.Name == "service_name" && m.Type == labels.MatchEqual {
			service = m.Value
		}
	}
	c, now := &h.modules, h.cfg.Now()
	c.mu.Lock()
	e, ok := c.m[service]
	c.mu.Unlock()
	if ok && now.Sub(e.at) < modulesFresh {
		return e.modules, nil
	}
	modules, err := h.cfg.Catalog.Modules(ctx, service, maxOwn)
	if err != nil {
		return "", err
	}
	modules = slices.DeleteFunc(modules, func(m string) bool { return m == "command-line-arguments" })
	e = moduleEntry{strings.Join(modules, ","), now}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil || len(c.m) >= maxModules {
		c.m = map[string]moduleEntry{}
	}
	c.m[service] = e
	return e.modules, nil
}
