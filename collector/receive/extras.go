package receive

import (
	"context"
	"fmt"
	"net/http"
	"unicode/utf8"

	"github.com/sonde-io/sonde/collector/reply"
	"github.com/sonde-io/sonde/collector/wire"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles"
)

// The bounds of one event; text beyond its bound is cut.
const (
	maxEventText  = 64 << 10
	maxEventAttrs = 64
	maxAttrBytes  = 4 << 10
)

// events checks the events of a push.
func (h *Handler) events(m *wire.Meta) ([]catalog.Event, error) {
	if len(m.Events) == 0 {
		return nil, nil
	}
	out := make([]catalog.Event, len(m.Events))
	for i, e := range m.Events {
		switch {
		case !profiles.ValidName(e.Kind) || len(e.Kind) > 64:
			return nil, wrongMeta("events[%d]: %.64q cannot name a kind", i, e.Kind)
		case e.Time <= 0 || e.Time > h.cfg.Now().Add(maxSkew).UnixMilli():
			return nil, wrongMeta("events[%d]: time %d is not one, or more than %v in the future", i, e.Time, maxSkew)
		case len(e.Service) > h.cfg.Limits.LabelValueBytes:
			return nil, wrongMeta("events[%d]: the service's name is too long", i)
		case len(e.Attrs) > maxEventAttrs:
			return nil, tooManyIn(fmt.Sprintf("attributes in events[%d]", i), "max_event_attrs", maxEventAttrs, len(e.Attrs))
		}
		for name, value := range e.Attrs {
			if len(name) > h.cfg.Limits.LabelNameBytes || len(value) > maxAttrBytes {
				return nil, wrongMeta("events[%d]: attribute %.64q is too long", i, name)
			}
		}
		out[i] = catalog.Event{Time: e.Time, Kind: e.Kind, Service: e.Service, Text: clip(e.Text, maxEventText), Attrs: e.Attrs}
	}
	return out, nil
}

// putSeen keeps what m tells of processes that it has no profiles of. It is done before the push is stored: doing it twice changes nothing.
func (h *Handler) putSeen(ctx context.Context, m *wire.Meta) error {
	if len(m.Seen) == 0 || h.cfg.Seen == nil {
		return nil
	}
	now := h.cfg.Now().UnixMilli()
	rows := make([]catalog.Process, len(m.Seen))
	for i := range m.Seen {
		s := &m.Seen[i]
		if s.Instance == "" || len(s.Instance) > maxKeyBytes || !utf8.ValidString(s.Instance) {
			return wrongMeta("seen[%d].instance: want UTF-8 of 1 to %d bytes", i, maxKeyBytes)
		}
		at := s.LastSeen
		if at <= 0 || at > now {
			at = now
		}
		row, b, err := h.row(&s.Process, s.Instance, at)
		if err != nil {
			return err
		}
		if s.BuildInfo != "" {
			row.Build = b
		}
		rows[i] = *row
	}
	if err := h.cfg.Seen(ctx, rows); err != nil {
		return &reply.Error{Status: http.StatusServiceUnavailable, Message: "cannot store what was seen now", RetryAfter: 5, Cause: err}
	}
	return nil
}
