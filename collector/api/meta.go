package api

import (
	"cmp"
	"context"
	"net/http"
	"slices"

	"github.com/sonde-io/sonde/collector/reply"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles"
)

type serviceJSON struct {
	Name      string   `json:"name"`
	Types     []string `json:"types"`
	First     int64    `json:"first"` // Unix ms
	Last      int64    `json:"last"`
	Profiles  int64    `json:"profiles"`
	Processes int      `json:"processes"`
	Versions  []string `json:"versions"`
}

func (h *Handler) services(ctx context.Context, r *http.Request) (any, error) {
	p := h.params(r, "from", "to")
	from, to := p.span("from", "now-1h", "to", "now")
	if p.err != nil {
		return nil, p.err
	}
	infos, err := h.cfg.Store.Services(ctx, from, to)
	if err != nil {
		return nil, err
	}
	counts, err := h.cfg.Catalog.Versions(ctx, from, to)
	if err != nil {
		return nil, err
	}
	count, versions := map[string]int{}, map[string][]string{}
	for _, c := range counts {
		count[c.Service] += c.Processes
		if c.Version != "" {
			versions[c.Service] = append(versions[c.Service], c.Version)
		}
	}
	out := make([]serviceJSON, len(infos))
	for i, s := range infos {
		out[i] = serviceJSON{Name: s.Name, Types: list(s.Types), First: s.MinStart, Last: s.MaxEnd, Profiles: s.Profiles, Processes: count[s.Name], Versions: list(versions[s.Name])}
	}
	slices.SortFunc(out, func(a, b serviceJSON) int { return cmp.Compare(a.Name, b.Name) })
	return map[string]any{"services": out}, nil
}

func (h *Handler) labels(ctx context.Context, r *http.Request) (any, error) {
	p := h.params(r, listing...)
	q := p.anyType()
	if p.err != nil {
		return nil, p.err
	}
	names, err := h.cfg.Store.LabelNames(ctx, q)
	if err != nil {
		return nil, err
	}
	return map[string]any{"labels": list(names)}, nil
}

func (h *Handler) labelValues(ctx context.Context, r *http.Request) (any, error) {
	p := h.params(r, listing...)
	q := p.anyType()
	if p.err != nil {
		return nil, p.err
	}
	values, err := h.cfg.Store.LabelValues(ctx, r.PathValue("name"), q)
	if err != nil {
		return nil, err
	}
	return map[string]any{"values": list(values)}, nil
}

type typeJSON struct {
	profiles.TypeDesc
	Default bool `json:"default"`
}

func (h *Handler) types(ctx context.Context, r *http.Request) (any, error) {
	p := h.params(r, listing...)
	q := p.anyType()
	if p.err != nil {
		return nil, p.err
	}
	infos, err := h.cfg.Store.Types(ctx, q)
	if err != nil {
		return nil, err
	}
	out := make([]typeJSON, 0, len(infos))
	for _, t := range infos {
		out = append(out, typeJSON{TypeDesc: t.Desc(), Default: t.IsDefault()})
	}
	slices.SortStableFunc(out, func(a, b typeJSON) int { return cmp.Compare(a.ID, b.ID) })
	out = slices.CompactFunc(out, func(a, b typeJSON) bool { return a.ID == b.ID })
	return map[string]any{"types": out}, nil
}

func (h *Handler) events(ctx context.Context, r *http.Request) (any, error) {
	p := h.params(r, "from", "to", "service", "kind")
	f := catalog.EventFilter{Service: p.str("service"), Kind: p.str("kind"), Limit: 1000}
	f.From, f.To = p.span("from", "now-1h", "to", "now")
	if p.err != nil {
		return nil, p.err
	}
	es, err := h.cfg.Catalog.Events(ctx, f)
	if err != nil {
		return nil, err
	}
	return map[string]any{"events": list(es)}, nil
}

type storageJSON struct {
	Segments int   `json:"segments"`
	Blocks   int   `json:"blocks"`
	Bytes    int64 `json:"bytes"`
	Profiles int64 `json:"profiles"`
	MaxBytes int64 `json:"max_bytes"`  // 0: no limit
	MaxAgeMs int64 `json:"max_age_ms"` // 0: no limit

	WaitingBytes int64 `json:"waiting_bytes"` // of segments that are not compacted
	BehindMs     int64 `json:"behind_ms"`     // how much longer the oldest of them has waited than it should; 0: compaction keeps up
}

type statusJSON struct {
	Version string      `json:"version"`
	Started int64       `json:"started"` // Unix ms
	Storage storageJSON `json:"storage"`
}

func (h *Handler) status(ctx context.Context, r *http.Request) (any, error) {
	if p := h.params(r); p.err != nil {
		return nil, p.err
	}
	u, err := h.cfg.Store.Usage(ctx)
	if err != nil {
		return nil, err
	}
	return statusJSON{Version: h.cfg.Version, Started: h.cfg.Started.UnixMilli(), Storage: storageJSON{Segments: u.Segments, Blocks: u.Blocks, Bytes: u.Bytes,
		Profiles: u.Profiles, MaxBytes: h.cfg.MaxBytes, MaxAgeMs: h.cfg.MaxAge.Milliseconds(), WaitingBytes: u.Backlog.Bytes, BehindMs: u.Backlog.Behind.Milliseconds()}}, nil
}

// list makes an empty list of none, because clients iterate over what JSON calls [] and fall over null.
func list[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// validBy checks the names of labels to group by.
func validBy(names []string) error {
	if len(names) > 8 {
		return &reply.Error{Status: http.StatusUnprocessableEntity, Message: "parameter by: too many labels", Limit: "max_by", Max: 8, Got: int64(len(names))}
	}
	for _, n := range names {
		if len(n) > 128 || n == "__rest__" {
			return reply.Errorf(http.StatusBadRequest, "parameter by: %.64q cannot name a label", n)
		}
	}
	return nil
}
