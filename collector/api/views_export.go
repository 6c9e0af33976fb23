package api

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/sonde-io/sonde/collector/reply"
	"github.com/sonde-io/sonde/profiles"
	"github.com/sonde-io/sonde/profiles/store"
)

// profile answers with the merged profile itself, in the formats of other tools.
func (h *Handler) profile(ctx context.Context, r *http.Request) (any, error) {
	p := h.params(r, append(slices.Clone(common), "format")...)
	q := p.query()
	format := p.oneOf("format", "pprof", "folded", "speedscope", "pgo", "json")
	if p.err == nil && format == "pgo" && q.Type.Profile != "cpu" {
		p.fail("parameter format: pgo is made of type cpu, not %s", q.Type)
	}
	if p.err != nil {
		return nil, p.err
	}
	if format == "pgo" {
		return h.pgo(ctx, q)
	}
	s, own, err := h.merge(ctx, q)
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	f := file{contentType: "application/octet-stream", name: strings.ReplaceAll(q.Type.String(), ":", "-") + ".pb.gz"}
	switch format {
	case "json":
		return profiles.NewTop(s, nil, profiles.TopOptions{Limit: -1, OwnModule: own}), nil
	case "folded":
		f.contentType, f.name = "text/plain; charset=utf-8", ""
		err = profiles.WriteFolded(&buf, s)
	case "speedscope":
		f.contentType, f.name = "application/json", strings.ReplaceAll(q.Type.String(), ":", "-")+".speedscope.json"
		err = profiles.WriteSpeedscope(&buf, s)
	default:
		err = profiles.WritePprof(&buf, s)
	}
	if err != nil {
		return nil, err
	}
	f.data = buf.Bytes()
	return f, nil
}

// pgo answers with a profile for the compiler.
func (h *Handler) pgo(ctx context.Context, q store.Query) (any, error) {
	e, err := h.cfg.Store.Estimate(ctx, q)
	if err != nil {
		return nil, err
	}
	s, _, err := h.mergeEven(ctx, q, e)
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	err = profiles.WritePGO(&buf, s)
	if errors.Is(err, profiles.ErrNoPGO) {
		return nil, &reply.Error{Status: http.StatusUnprocessableEntity, Message: err.Error(), Hint: "a wider range, another selector, or a newer Go for the program", Cause: err}
	}
	if err != nil {
		return nil, err
	}
	return file{contentType: "application/octet-stream", name: "default.pgo", data: buf.Bytes()}, nil
}
