package api

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/reply"
	"github.com/sonde-io/sonde/profiles"
	"github.com/sonde-io/sonde/profiles/store"
)

// params reads the parameters of one request and keeps the first error, so that endpoints check once.
type params struct {
	v   url.Values
	now time.Time
	err error
}

// common are the parameters that select profiles.
var common = []string{"query", "type", "from", "to"}

// params reads r's parameters, of which those named in known (and no others) may be given, once each.
func (h *Handler) params(r *http.Request, known ...string) *params {
	p := &params{now: h.cfg.Now()}
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

// span reads [from, to).
func (p *params) span(from, fromDef, to, toDef string) (lo, hi int64) {
	lo, hi = p.time(from, fromDef), p.time(to, toDef)
	if p.err == nil && hi <= lo {
		p.fail("parameter %s (%d) is not after %s (%d)", to, hi, from, lo)
	}
	return lo, hi
}

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
	return q
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

const (
	minStep      = 5 * time.Second
	defaultSteps = 120
	maxSteps     = 11_000 // more points than any screen has pixels
)

// step reads the step of a series over [from, to) in ms.
func (p *params) step(from, to int64) int64 {
	text := p.v.Get("step")
	if p.err != nil {
		return 1
	}
	var step int64
	if text == "" {
		step = max((to-from)/defaultSteps, minStep.Milliseconds())
		// A whole number of seconds reads better on an axis.
		step = (step + 999) / 1000 * 1000
	} else {
		d, err := profiles.ParseDuration(text)
		if err != nil || d < time.Millisecond {
			p.fail("parameter step: %.64q is not a duration such as 15s, nor a number of seconds", text)
			return 1
		}
		step = d.Milliseconds()
	}
	if n := (to - from + step - 1) / step; n > maxSteps {
		p.err = &reply.Error{Status: http.StatusUnprocessableEntity, Message: "parameter step: too many steps in the range", Limit: "max_steps", Max: maxSteps, Got: n, Hint: "a larger step"}
	}
	return step
}
