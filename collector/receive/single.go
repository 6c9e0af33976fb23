package receive

import (
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sonde-io/sonde/collector/reply"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles"
	"github.com/sonde-io/sonde/profiles/store"
)

// defaultSpan is the interval of a profile that does not tell its own.
const defaultSpan = 10 * time.Second

type profileAnswer struct {
	Status   string `json:"status"`
	Profiles int    `json:"profiles"`
	Samples  int    `json:"samples"`
}

// bodyTypes are the content types a single profile may have; application/x-www-form-urlencoded is what curl --data-binary says.
var bodyTypes = map[string]bool{
	"": true, "application/octet-stream": true, "application/gzip": true, "application/x-gzip": true, "application/x-protobuf": true,
	"application/protobuf": true, "application/vnd.google.protobuf": true, "application/x-www-form-urlencoded": true,
}

// profile answers POST /api/v1/profiles.
func (h *Handler) profile(q *request) (any, error) {
	if ct := q.r.Header.Get("Content-Type"); ct != "" {
		if mt, _, err := mime.ParseMediaType(ct); err != nil || !bodyTypes[mt] {
			return nil, &reply.Error{Status: http.StatusUnsupportedMediaType, Message: fmt.Sprintf("content type %.100q, want application/octet-stream", ct),
				Hint: "the body is one pprof profile, gzipped or not"}
		}
	}
	if ce := q.r.Header.Get("Content-Encoding"); ce != "" && ce != "gzip" && ce != "identity" {
		return nil, reply.Errorf(http.StatusUnsupportedMediaType, "content encoding %.100q, want gzip or none", ce)
	}
	s, err := h.readSingle(q)
	if err != nil {
		return nil, err
	}
	raw, err := q.readAll("body", q.body, 1)
	if err != nil {
		return nil, err
	}
	if err := q.startWork(); err != nil {
		return nil, err
	}
	p, err := q.decode("profile", raw)
	if err != nil {
		return nil, err
	}
	a := profileAnswer{Status: "ok", Profiles: 1, Samples: len(p.Samples)}
	start, end := s.interval(p, h.cfg.Now())
	if err := h.checkInterval("profile", start, end); err != nil {
		return nil, err
	}
	if h.cfg.Relay != nil {
		return a, h.relaySingle(q, s, raw, start, end)
	}
	s.push.Profiles = []store.Profile{{Labels: s.push.Process.Labels, Type: s.typ, Start: start, End: end, Data: p}}
	if s.push.Process.Instance == "" {
		s.push.Process = nil // nobody to remember
	}
	s.push.Taken = q.release
	duplicate, err := h.append(q.r.Context(), s.push)
	if err != nil {
		return nil, err
	}
	if duplicate {
		a.Status = "duplicate"
	}
	return a, nil
}

// single is what the parameters and headers of a request say.
type single struct {
	push       store.Push
	typ        string
	start, end int64 // Unix ms, 0: not given
}

func (h *Handler) readSingle(q *request) (*single, error) {
	bad := func(format string, args ...any) (*single, error) {
		return nil, reply.Errorf(http.StatusBadRequest, format, args...)
	}
	v, err := url.ParseQuery(q.r.URL.RawQuery)
	if err != nil {
		return bad("read parameters: %v", err)
	}
	s := &single{typ: v.Get("type")}
	in := map[string]string{"service_name": v.Get("service")}
	for name, values := range v {
		if len(values) != 1 {
			return bad("parameter %.64q is given %d times", name, len(values))
		}
		label, ok := strings.CutPrefix(name, "label.")
		switch {
		case ok && label == "service_name":
			return bad("parameter label.service_name: use service")
		case ok:
			in[label] = values[0]
		case name != "service" && name != "type" && name != "start" && name != "end" && name != "instance":
			return bad("unknown parameter %.64q; want service, type, start, end, instance or label.NAME", name)
		}
	}
	switch {
	case in["service_name"] == "":
		return bad("parameter service is missing")
	case s.typ == "":
		return bad("parameter type is missing")
	case !profiles.ValidName(s.typ):
		return bad("parameter type: %.64q cannot name a type of profile; want cpu, heap, goroutine, …", s.typ)
	}
	now := h.cfg.Now()
	for name, t := range map[string]*int64{"start": &s.start, "end": &s.end} {
		if text := v.Get(name); text != "" {
			if *t, err = profiles.ParseTime(text, now); err != nil {
				return bad("parameter %s: %v", name, err)
			}
		}
	}
	instance := v.Get("instance")
	if len(instance) > 128 || !utf8.ValidString(instance) {
		return bad("parameter instance: want UTF-8 of at most 128 bytes")
	}
	ls, err := h.labels(in, instance)
	if err != nil {
		return nil, err
	}
	if s.push.Key.Idempotency = q.r.Header.Get("Idempotency-Key"); len(s.push.Key.Idempotency) > 256 {
		return bad("Idempotency-Key of %d bytes, at most 256", len(s.push.Key.Idempotency))
	}
	s.push.Process = &catalog.Process{Instance: instance, Service: in["service_name"], Labels: ls, Version: ls.Get("service_version"), Host: ls.Get("host_name"),
		Gatherer: "push", State: "running", FirstSeen: now.UnixMilli(), LastSeen: now.UnixMilli()}
	return s, nil
}

// interval returns the profile's interval in Unix ms: as given, else the profile's own time and duration, else the 10 s before now.
func (s *single) interval(p *profiles.Profile, now time.Time) (start, end int64) {
	span := defaultSpan.Milliseconds()
	if p.DurationNanos > 0 {
		span = max(p.DurationNanos/int64(time.Millisecond), 1)
	}
	start, end = s.start, s.end
	switch {
	case start == 0 && end == 0 && p.TimeNanos > 0 && p.DurationNanos > 0:
		start = p.TimeNanos / int64(time.Millisecond)
		end = start + span
	case start == 0 && end == 0 && p.TimeNanos > 0: // a snapshot: it stands for the time before it
		end = p.TimeNanos / int64(time.Millisecond)
		start = end - span
	case start == 0 && end == 0:
		end = now.UnixMilli()
		start = end - span
	case start == 0:
		start = end - span
	case end == 0:
		end = start + span
	}
	return start, end
}
