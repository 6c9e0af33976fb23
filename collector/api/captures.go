package api

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/capture"
	"github.com/sonde-io/sonde/collector/reply"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles"
)

// Capturer takes and keeps captures; *capture.Broker is one.
type Capturer interface {
	Ask(ctx context.Context, r capture.Request) (*capture.Asked, error)
	Cancel(ctx context.Context, id string) error
	List(ctx context.Context, f catalog.CaptureFilter) ([]catalog.Capture, error)
	Data(ctx context.Context, id string) (catalog.Capture, []byte, error)
}

// capturing answers what is about captures.
type capturing struct {
	*Handler
	capturer Capturer
	drawing  chan struct{} // one flame graph at a time: what a capture may hold, decoded, is several times what a push may
}

// RegisterCaptures adds the endpoints for those who ask for captures to mux; those of executors are capture.Register's.
func (h *Handler) RegisterCaptures(mux *http.ServeMux, c Capturer) {
	k := &capturing{h, c, make(chan struct{}, 1)}
	for _, e := range []struct {
		pattern, name string
		serve         endpoint
	}{
		{"POST /api/v1/captures", "captures", k.ask},
		{"GET /api/v1/captures", "captures", k.list},
		{"GET /api/v1/captures/{id}", "captures", k.get},
		{"DELETE /api/v1/captures/{id}", "captures", k.cancel},
		{"GET /api/v1/captures/{id}/result", "captures/result", k.result},
		{"GET /api/v1/captures/{id}/flamegraph", "captures/flamegraph", k.flamegraph},
	} {
		mux.Handle(e.pattern, h.handle(e.name, func(ctx context.Context, r *http.Request) (any, error) {
			answer, err := e.serve(ctx, r)
			if err != nil && ctx.Err() == nil {
				err = capture.Refusal(err)
			}
			return answer, err
		}))
	}
}

// captureJSON is a capture and, once it is done, where it can be had.
type captureJSON struct {
	catalog.Capture
	File   string `json:"file,omitempty"`   // the name under which it is saved
	Result string `json:"result,omitempty"` // path of its bytes
	Flame  string `json:"flamegraph,omitempty"`
}

func captureOf(c catalog.Capture) captureJSON {
	out := captureJSON{Capture: c}
	if c.State != catalog.CaptureDone {
		return out
	}
	out.File = capture.FileName(c.Service, c.Kind, c.ID)
	out.Result = "/api/v1/captures/" + c.ID + "/result"
	if capture.IsProfile(c.Kind) {
		out.Flame = "/api/v1/captures/" + c.ID + "/flamegraph"
	}
	return out
}

func capturesOf(cs []catalog.Capture) []captureJSON {
	out := make([]captureJSON, len(cs))
	for i, c := range cs {
		out[i] = captureOf(c)
	}
	return out
}

type askedJSON struct {
	Request  string        `json:"request"`
	Known    int           `json:"known"`   // running processes that are selected
	Reached  int           `json:"reached"` // of them, that can be asked
	Captures []captureJSON `json:"captures"`
}

// ask queues a capture of one process, or of all, of those that the parameters select.
func (k *capturing) ask(ctx context.Context, r *http.Request) (any, error) {
	p := k.params(r, "query", "service", "instance", "kind", "duration", "spread", "shadow", "note")
	q := capture.Request{Service: p.str("service"), Instance: p.str("instance"), Matchers: p.selector("query"), Kind: p.str("kind"), Reason: p.str("note"),
		All: p.oneOf("spread", "one", "all") == "all", Shadow: p.oneOf("shadow", "false", "true") == "true"}
	if q.Service == "" && q.Instance == "" && len(q.Matchers) == 0 && p.str("query") != "{}" {
		p.fail("parameter service, instance or query must say of which processes")
	}
	if len(q.Reason) > maxNote {
		p.fail("parameter note has %d bytes, at most %d", len(q.Reason), maxNote)
	}
	if text := p.str("duration"); text != "" {
		d, err := profiles.ParseDuration(text)
		if err != nil || d <= 0 {
			p.fail("parameter duration: %.64q is not a duration such as 30s, nor a number of seconds", text)
		}
		q.Duration = d
	}
	if p.err != nil {
		return nil, p.err
	}
	a, err := k.capturer.Ask(ctx, q)
	if err != nil {
		return nil, err
	}
	return askedJSON{a.Request, a.Known, a.Reached, capturesOf(a.Captures)}, nil
}

// maxCaptures bounds the captures of one list.
const maxCaptures = 20_000

func (k *capturing) list(ctx context.Context, r *http.Request) (any, error) {
	p := k.params(r, "request", "service", "instance", "kind", "trigger", "state", "from", "to", "limit")
	f := catalog.CaptureFilter{Request: p.str("request"), Service: p.str("service"), Instance: p.str("instance"), Kind: p.str("kind"), Trigger: p.str("trigger"),
		States: p.list("state"), Limit: p.number("limit", 100, 1, maxCaptures)}
	if p.str("from") != "" {
		f.From = p.time("from", "")
	}
	if p.str("to") != "" {
		f.To = p.time("to", "")
	}
	if len(f.States) > 8 {
		p.fail("parameter state: %d states, there are six", len(f.States))
	}
	if p.err != nil {
		return nil, p.err
	}
	cs, err := k.capturer.List(ctx, f)
	if err != nil {
		return nil, err
	}
	return map[string]any{"captures": capturesOf(cs)}, nil
}

// one returns the capture that the path names, and its bytes.
func (k *capturing) one(ctx context.Context, r *http.Request) (catalog.Capture, []byte, error) {
	c, data, err := k.capturer.Data(ctx, r.PathValue("id"))
	if err != nil {
		return c, nil, err
	}
	switch c.State {
	case catalog.CaptureDone:
		return c, data, nil
	case catalog.CaptureAsked, catalog.CaptureRunning:
		return c, nil, &reply.Error{Status: http.StatusConflict, Message: "the capture is not there yet: it is " + c.State, RetryAfter: 1}
	}
	return c, nil, &reply.Error{Status: http.StatusNotFound, Message: "there is nothing of this capture: it is " + c.State + ": " + c.Error}
}

func (k *capturing) get(ctx context.Context, r *http.Request) (any, error) {
	if p := k.params(r); p.err != nil {
		return nil, p.err
	}
	c, _, err := k.capturer.Data(ctx, r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	return captureOf(c), nil
}

func (k *capturing) cancel(ctx context.Context, r *http.Request) (any, error) {
	if p := k.params(r); p.err != nil {
		return nil, p.err
	}
	return map[string]string{"status": "ok"}, k.capturer.Cancel(ctx, r.PathValue("id"))
}

func (k *capturing) result(ctx context.Context, r *http.Request) (any, error) {
	if p := k.params(r); p.err != nil {
		return nil, p.err
	}
	c, data, err := k.one(ctx, r)
	if err != nil {
		return nil, err
	}
	if data == nil {
		return k.profile(ctx, k.amongProfiles(r, c, url.Values{}))
	}
	return file{contentType: c.ContentType, name: capture.FileName(c.Service, c.Kind, c.ID), data: data}, nil
}

// amongProfiles makes the request for a capture that is stored among its process's profiles.
func (k *capturing) amongProfiles(r *http.Request, c catalog.Capture, more url.Values) *http.Request {
	v := url.Values{"query": {`{service_instance_id=` + strconv.Quote(c.Instance) + `}`}, "type": {typeOf(c.Kind, "")}, "from": {strconv.FormatInt(c.From, 10)}, "to": {strconv.FormatInt(c.To, 10)}}
	for name, value := range more {
		v[name] = value
	}
	q := r.Clone(r.Context())
	q.URL.RawQuery = v.Encode()
	return q
}

// typeOf names the type of profile of a kind of capture, or the one that was asked for.
func typeOf(kind, asked string) string {
	switch {
	case asked != "":
		return asked
	case kind == capture.Allocs:
		return "heap:alloc_space"
	}
	return kind
}

// flamegraph draws a capture as /api/v1/flamegraph draws what was merged.
func (k *capturing) flamegraph(ctx context.Context, r *http.Request) (any, error) {
	p := k.params(r, "type", "max_nodes", "frames")
	nodes, frames := p.number("max_nodes", profiles.DefaultFlameNodes, 2, profiles.MaxFlameNodes), p.frames()
	if p.err != nil {
		return nil, p.err
	}
	c, data, err := k.one(ctx, r)
	switch {
	case err != nil:
		return nil, err
	case !capture.IsProfile(c.Kind):
		return nil, &reply.Error{Status: http.StatusUnprocessableEntity, Message: "a capture of kind " + c.Kind + " is no profile", Hint: "`sonde capture get " + c.ID + "` saves it, and says what opens it"}
	case data == nil:
		more := url.Values{}
		for _, name := range []string{"type", "max_nodes", "frames"} {
			if v := p.str(name); v != "" {
				more.Set(name, v)
			}
		}
		return k.Handler.flamegraph(ctx, k.amongProfiles(r, c, more))
	}
	t, err := profiles.ParseType(typeOf(c.Kind, p.str("type")))
	if err != nil {
		return nil, reply.Errorf(http.StatusBadRequest, "parameter type: %v", err)
	}
	select {
	case k.drawing <- struct{}{}:
		defer func() { <-k.drawing }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	s, err := stacksOf(c, t, p.str("type") != "", data)
	if err != nil {
		return nil, err
	}
	own, err := k.ownModules(ctx, []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "service_name", c.Service)})
	if err != nil {
		return nil, err
	}
	return profiles.NewFlame(s, nil, profiles.FlameOptions{MaxNodes: nodes, Frames: frames, OwnModule: own}), nil
}

// stacksOf decodes a capture's profile into the stacks of one of its columns: the one of t, or where that was not asked for and is not there its last.
func stacksOf(c catalog.Capture, t profiles.Type, asked bool, data []byte) (*profiles.Stacks, error) {
	p, err := profiles.Parse(data, capture.Limits)
	if err != nil {
		return nil, err
	}
	column := p.Column(t.Sample)
	if column < 0 && asked {
		var has []string
		for _, st := range p.SampleTypes {
			has = append(has, st.Type)
		}
		return nil, reply.Errorf(http.StatusUnprocessableEntity, "parameter type: the capture has no column %.64q: it has %s", t.Sample, strings.Join(has, ", "))
	}
	if column < 0 {
		column = p.Columns() - 1
		t.Sample = p.SampleTypes[column].Type
	}
	t.Unit = p.SampleTypes[column].Unit
	ms := max(c.To-c.From, p.DurationNanos/int64(time.Millisecond), 1) // a gauge stands for the whole of it
	b := profiles.NewBuilder(t, c.From, c.From+ms)
	if err := b.Add(p, column, ms); err != nil {
		return nil, err
	}
	return b.Stacks(), nil
}
