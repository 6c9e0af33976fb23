package api

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"regexp"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-io/sonde/collector/reply"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles"
	"github.com/sonde-io/sonde/symbols/build"
)

// The limits of what is told of builds and events.
const (
	maxBuildBody  = build.MaxText + 1<<20 // bytes, JSON's escapes included
	maxGoBuildID  = 512
	maxEventBody  = 64 << 10
	maxEventText  = 2048
	maxEventAttrs = 32
	maxAttrName   = 128
	maxAttrValue  = 2048
	maxKind       = 32
	// ahead is how far (ms) an event may lie in the future: clocks differ.
	ahead = 10 * 60 * 1000
)

// body reads a JSON object of at most so many bytes into v. Fields that it does not have are errors.
func body(r *http.Request, limit string, most int64, v any) error {
	data, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, most))
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return &reply.Error{Status: http.StatusRequestEntityTooLarge, Message: "the body is too large", Limit: limit, Max: most}
	}
	if err != nil {
		return reply.Errorf(http.StatusBadRequest, "read body: %v", err)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return reply.Errorf(http.StatusBadRequest, "read body: %v", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return reply.Errorf(http.StatusBadRequest, "read body: more than one JSON object")
	}
	return nil
}

// toldBuild is what somebody tells of a binary.
type toldBuild struct {
	ID         string `json:"id"` // where neither of the next two is there; "": a hash of info
	GoBuildID  string `json:"go_build_id"`
	GNUBuildID string `json:"gnu_build_id"`
	Size       int64  `json:"size"`
	Stripped   string `json:"stripped"`
	Info       string `json:"info"` // debug.BuildInfo.String()
}

var hexID = regexp.MustCompile(`^[0-9a-f]{8,128}$`)

// addBuild stores what is told of a binary.
func (h *Handler) addBuild(ctx context.Context, r *http.Request) (any, error) {
	if p := h.params(r); p.err != nil {
		return nil, p.err
	}
	var t toldBuild
	if err := body(r, "max_build_bytes", maxBuildBody, &t); err != nil {
		return nil, err
	}
	b, err := t.build(h.cfg.Now().UnixMilli())
	if err != nil {
		return nil, err
	}
	if err := h.cfg.Catalog.PutBuilds(ctx, []catalog.Build{*b}); err != nil {
		return nil, err
	}
	return map[string]any{"status": "ok", "build": inventoryOf(b)}, nil
}

func (t *toldBuild) build(now int64) (*catalog.Build, error) {
	wrong := func(format string, args ...any) (*catalog.Build, error) {
		return nil, reply.Errorf(http.StatusUnprocessableEntity, format, args...)
	}
	for _, id := range []string{t.ID, t.GNUBuildID} {
		if id != "" && !hexID.MatchString(id) {
			return wrong("%.64q is not the id of a build: 8 to 128 hex digits", id)
		}
	}
	switch {
	case len(t.GoBuildID) > maxGoBuildID:
		return wrong("go_build_id has %d bytes, at most %d", len(t.GoBuildID), maxGoBuildID)
	case t.Size < 0:
		return wrong("size is %d", t.Size)
	case t.Stripped != "" && t.Stripped != "yes" && t.Stripped != "no":
		return wrong("stripped is %.32q: want yes, no or nothing", t.Stripped)
	}
	inv, err := build.OfText(t.Info)
	if err != nil {
		return wrong("info: %v", err)
	}
	if inv.GoVersion == "" && inv.Path == "" && inv.Main.Path == "" {
		return wrong("info says neither a version of Go nor a package: it is not that of a Go program")
	}
	key := build.Key(t.GNUBuildID, t.GoBuildID)
	if t.ID != "" && key != "" && t.ID != key {
		return wrong("id %s is not that of the build ids, %s", t.ID, key)
	}
	return &catalog.Build{ID: cmp.Or(key, t.ID, inv.ID), GoBuildID: t.GoBuildID, GNUBuildID: t.GNUBuildID, GoVersion: inv.GoVersion, Module: inv.Module(), Version: inv.Main.Version,
		Info: t.Info, FirstSeen: now, Size: t.Size, Stripped: t.Stripped}, nil
}

// BinaryTold returns the binaries.Config.Told of a collector: a binary that somebody puts is a build that is known.
func BinaryTold(put func(ctx context.Context, bs []catalog.Build) error) func(ctx context.Context, info *build.Info) error {
	return func(ctx context.Context, info *build.Info) error {
		if info.Key() == "" {
			return nil // nobody can ask for it
		}
		return put(ctx, []catalog.Build{{ID: info.Key(), GoBuildID: info.GoBuildID, GNUBuildID: info.GNUBuildID, GoVersion: info.GoVersion, Module: info.Module(), Version: info.Version(),
			Info: info.Mod.String(), Size: info.Size, Stripped: info.Stripped}})
	}
}

// toldEvent is what people and pipelines tell of.
type toldEvent struct {
	Time    json.RawMessage   `json:"time"` // as in parameters, a number or a text; none: now
	Kind    string            `json:"kind"` // none: note
	Service string            `json:"service"`
	Text    string            `json:"text"`
	Attrs   map[string]string `json:"attrs"`
}

// ownKinds are those that Sonde finds out itself.
var ownKinds = map[string]bool{"deploy": true, "restart": true, "change": true, "start": true, "exit": true, "crash": true, "oom_kill": true, "capture": true, "gap": true, "silent": true}

// addEvent stores an event.
func (h *Handler) addEvent(ctx context.Context, r *http.Request) (any, error) {
	p := h.params(r)
	if p.err != nil {
		return nil, p.err
	}
	var t toldEvent
	if err := body(r, "max_event_bytes", maxEventBody, &t); err != nil {
		h.told.WithLabelValues("refused").Inc()
		return nil, err
	}
	e, err := t.event(p.now)
	if err != nil {
		h.told.WithLabelValues("refused").Inc()
		return nil, err
	}
	if err := h.cfg.Catalog.AddEvents(ctx, []catalog.Event{*e}); err != nil {
		return nil, err
	}
	h.told.WithLabelValues("stored").Inc()
	return map[string]any{"status": "ok", "event": e}, nil
}

func (t *toldEvent) event(now time.Time) (*catalog.Event, error) {
	wrong := func(format string, args ...any) (*catalog.Event, error) {
		return nil, reply.Errorf(http.StatusUnprocessableEntity, format, args...)
	}
	limit := func(what, name string, most, got int) (*catalog.Event, error) {
		return nil, &reply.Error{Status: http.StatusUnprocessableEntity, Message: what, Limit: name, Max: int64(most), Got: int64(got)}
	}
	e := &catalog.Event{Time: now.UnixMilli(), Kind: cmp.Or(t.Kind, "note"), Service: t.Service, Text: t.Text, Attrs: t.Attrs}
	switch {
	case len(e.Kind) > maxKind || !profiles.ValidName(e.Kind):
		return wrong("%.64q cannot name a kind of event", e.Kind)
	case ownKinds[e.Kind]:
		return nil, &reply.Error{Status: http.StatusUnprocessableEntity, Message: "events of the kind " + e.Kind + " are found out by Sonde itself", Hint: "another kind, such as note, or release"}
	case t.Text == "":
		return wrong("text is missing: what happened, in a line")
	case len(t.Text) > maxEventText:
		return limit("text is too long", "max_event_text", maxEventText, len(t.Text))
	case len(t.Service) > maxAttrValue:
		return limit("service is too long", "max_event_attr", maxAttrValue, len(t.Service))
	case len(t.Attrs) > maxEventAttrs:
		return limit("too many attrs", "max_event_attrs", maxEventAttrs, len(t.Attrs))
	}
	for name, value := range t.Attrs {
		if name == "" || len(name) > maxAttrName {
			return wrong("attrs: %.64q is no name of at most %d bytes", name, maxAttrName)
		}
		if len(value) > maxAttrValue {
			return limit("attr "+name+" is too long", "max_event_attr", maxAttrValue, len(value))
		}
	}
	if len(t.Time) > 0 && string(t.Time) != "null" {
		text := string(t.Time)
		if text[0] == '"' {
			if err := json.Unmarshal(t.Time, &text); err != nil {
				return wrong("time: %v", err)
			}
		}
		at, err := profiles.ParseTime(text, now)
		if err != nil {
			return wrong("time: %v", err)
		}
		if e.Time = at; at <= 0 || at > now.UnixMilli()+ahead {
			return wrong("time: %s is not in the past", time.UnixMilli(at).UTC().Format(time.RFC3339))
		}
	}
	return e, nil
}

// newEventCounter counts the events that people and pipelines tell of.
func newEventCounter() *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sonde_told_events_total", Help: "Events that people and pipelines told of, by result: stored or refused."}, []string{"result"})
}
