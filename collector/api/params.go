package api

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/reply"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles"
	"github.com/sonde-io/sonde/profiles/store"
)

// params reads the parameters of one request and keeps the first error, so that endpoints check once.
type params struct {
	v        url.Values
	now      time.Time
	err      error
	relative bool // the start of the range was given relative to now

	ctx     context.Context
	catalog Catalog
}

// listing are the parameters that select profiles, and common those and the ones that select stacks in them.
var (
	listing = []string{"query", "type", "from", "to", "build"}
	common  = append(slices.Clone(listing), "sample", "focus", "ignore")
)

// params reads r's parameters, of which those named in known (and no others) may be given, once each.
func (h *Handler) params(r *http.Request, known ...string) *params {
	p := &params{now: h.cfg.Now(), ctx: r.Context(), catalog: h.cfg.Catalog}
	var err error
	if p.v, err = url.ParseQuery(r.URL.RawQuery); err != nil {
		p.fail("read parameters: %v", err)
	}
	for name, values := range p.v {
		switch {
		case !slices.Contains(known, name) && len(known) == 0:
			p.fail("unknown parameter %.64q: there are none", name)
		case !slices.Contains(known, name):
			p.fail("unknown parameter %.64q: want %s", name, strings.Join(known, ", "))
		case len(values) > 1:
			p.fail("parameter %s is given %d times", name, len(values))
		}
	}
	return p
}

func (p *params) fail(format string, args ...any) {
	if p.err == nil {
		p.err = reply.Errorf(http.StatusBadRequest, format, args...)
	}
}

func (p *params) str(name string) string { return p.v.Get(name) }

// time reads a time; def is a time too, such as now-1h, or "" for a parameter that must be given.
func (p *params) time(name, def string) int64 {
	text := p.v.Get(name)
	if text == "" {
		if def == "" {
			p.fail("parameter %s is missing", name)
			return 0
		}
		text = def
	}
	t, err := profiles.ParseTime(text, p.now)
	if err != nil {
		p.fail("parameter %s: %v", name, err)
		return 0
	}
	return t
}

// minSnapped is the shortest range relative to now whose start is taken at a whole minute.
const minSnapped = 5 * time.Minute

// span reads [from, to). A start relative to now is taken at the whole minute, so that windows of sums answer what lies behind it; explicit times are taken as they are.
func (p *params) span(from, fromDef, to, toDef string) (lo, hi int64) {
	lo, hi = p.time(from, fromDef), p.time(to, toDef)
	if text := cmp.Or(p.v.Get(from), fromDef); strings.HasPrefix(text, "now-") && hi-lo >= minSnapped.Milliseconds() {
		lo = floor(lo, time.Minute.Milliseconds())
		p.relative = true
	}
	if p.err == nil && hi <= lo {
		p.fail("parameter %s (%d) is not after %s (%d)", to, hi, from, lo)
	}
	return lo, hi
}

// floor returns the last multiple of size up to t.
func floor(t, size int64) int64 { return t - ((t%size)+size)%size }

// selector reads a selector, or a bare service name, which may hold anything but the selector's own signs.
func (p *params) selector(name string) []*labels.Matcher {
	text := strings.TrimSpace(p.v.Get(name))
	if text == "" {
		return nil
	}
	ms, err := profiles.ParseSelector(text)
	if err != nil {
		p.fail("parameter %s: %v", name, err)
	}
	return ms
}

// typ reads the type; it is required.
func (p *params) typ() profiles.Type {
	text := p.v.Get("type")
	if text == "" {
		p.fail("parameter type is missing; /api/v1/types lists what there is")
		return profiles.Type{}
	}
	t, err := profiles.ParseType(text)
	if err != nil {
		p.fail("parameter type: %v", err)
	}
	return t
}

// query reads the common parameters; type is required.
func (p *params) query() store.Query {
	q := p.anyType()
	q.Type = p.typ()
	return q
}

// anyType reads the common parameters; type is optional, and zero in the result where it is not given.
func (p *params) anyType() store.Query {
	q := store.Query{Matchers: p.selector("query")}
	if p.v.Get("type") != "" {
		q.Type = p.typ()
	}
	q.From, q.To = p.span("from", "now-1h", "to", "now")
	p.stacks(&q)
	if id := p.v.Get("build"); id != "" && p.err == nil {
		q.Matchers = append(q.Matchers, p.build(id, q.From)...)
	}
	return q
}

// stacks reads which stacks count.
func (p *params) stacks(q *store.Query) {
	if text := strings.TrimSpace(p.v.Get("sample")); text != "" {
		if !strings.HasPrefix(text, "{") {
			p.fail("parameter sample: %.64q is not a selector of sample labels, such as {account=\"A\"}", text)
		}
		q.Samples = p.selector("sample")
	}
	q.Focus, q.Ignore = p.regexp("focus"), p.regexp("ignore")
}

// maxRegexp bounds a regular expression on function names, in bytes.
const maxRegexp = 4096

// regexp reads a regular expression, nil where none is given.
func (p *params) regexp(name string) *regexp.Regexp {
	text := p.v.Get(name)
	if text == "" {
		return nil
	}
	if len(text) > maxRegexp {
		p.fail("parameter %s: %d bytes, at most %d are accepted", name, len(text), maxRegexp)
		return nil
	}
	re, err := regexp.Compile(text)
	if err != nil {
		p.fail("parameter %s: %.200q is no regular expression: %v", name, text, err)
	}
	return re
}

// maxBuildProcesses bounds the processes that a build may stand for.
const maxBuildProcesses = 10_000

// build finds the processes of a build that were there from since on. A build is no label of the profiles: two builds may have one version.
func (p *params) build(id string, since int64) []*labels.Matcher {
	ps, err := p.catalog.Processes(p.ctx, catalog.ProcessFilter{Build: id, Since: since, Limit: maxBuildProcesses + 1})
	switch {
	case err != nil:
		p.err = err
	case len(ps) == 0:
		p.err = reply.Errorf(http.StatusNotFound, "parameter build: no process of build %.128q is known in the range", id)
	case len(ps) > maxBuildProcesses:
		p.err = &reply.Error{Status: http.StatusUnprocessableEntity, Message: "parameter build: too many processes in the range", Limit: "max_build_processes", Max: maxBuildProcesses, Hint: "a shorter range"}
	}
	if p.err != nil {
		return nil
	}
	instances := make([]string, len(ps))
	for i := range ps {
		instances[i] = regexp.QuoteMeta(ps[i].Instance)
	}
	m, err := labels.NewMatcher(labels.MatchRegexp, "service_instance_id", strings.Join(instances, "|"))
	if err != nil {
		p.err = err
		return nil
	}
	return []*labels.Matcher{m}
}

// number reads a whole number in [lo, hi].
func (p *params) number(name string, def, lo, hi int) int {
	text := p.v.Get(name)
	if text == "" {
		return def
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < lo || n > hi {
		p.fail("parameter %s: %.64q is not a whole number from %d to %d", name, text, lo, hi)
	}
	return n
}

// oneOf reads a word out of a list; the first is the default.
func (p *params) oneOf(name string, words ...string) string {
	text := p.v.Get(name)
	if text == "" {
		return words[0]
	}
	if !slices.Contains(words, text) {
		p.fail("parameter %s: %.64q is none of %s", name, text, strings.Join(words, ", "))
	}
	return text
}

// list reads a comma-separated list.
func (p *params) list(name string) []string {
	var out []string
	for s := range strings.SplitSeq(p.v.Get(name), ",") {
		if s = strings.TrimSpace(s); s != "" && !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// steps are the steps of series that are chosen where none is given: those from a minute on are windows of sums, or a whole number of them.
var steps = []time.Duration{5 * time.Second, 10 * time.Second, 15 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute,
	20 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour}

const (
	defaultSteps = 100    // at least, where the range is long enough
	maxSteps     = 11_000 // more points than any screen has pixels
)

// step reads the step in ms of a series over [from, to), and returns where the range starts: of a range relative to now at a multiple of the step, so that the points of two answers are at the same times.
func (p *params) step(from, to int64) (step, start int64) {
	text := p.v.Get("step")
	if p.err != nil {
		return 1, from
	}
	if text == "" {
		for _, s := range steps {
			if ms := s.Milliseconds(); step == 0 || ms <= (to-from)/defaultSteps {
				step = ms
			}
		}
	} else {
		d, err := profiles.ParseDuration(text)
		if err != nil || d < time.Millisecond {
			p.fail("parameter step: %.64q is not a duration such as 15s, nor a number of seconds", text)
			return 1, from
		}
		step = d.Milliseconds()
	}
	if n := (to - from + step - 1) / step; n > maxSteps {
		p.err = &reply.Error{Status: http.StatusUnprocessableEntity, Message: "parameter step: too many steps in the range", Limit: "max_steps", Max: maxSteps, Got: n, Hint: "a larger step"}
	}
	if p.relative && step >= time.Minute.Milliseconds() && step <= 24*time.Hour.Milliseconds() {
		from = floor(from, step)
	}
	return step, from
}
