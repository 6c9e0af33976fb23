package scrape

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/google/gops/signal"
	"github.com/prometheus/prometheus/model/labels"
)

var (
	// ErrNotServed says that a target does not serve what was asked for.
	ErrNotServed = errNotServed
	// ErrBusy says that a target answers somebody else, and nobody else meanwhile.
	ErrBusy = errors.New("the target answers somebody else")
)

// Endpoint is a target that is scraped, for whoever asks it for something else than profiles.
type Endpoint struct {
	Instance  string
	GoVersion string
	Labels    labels.Labels // of its process
	Metrics   string        // URL of its metrics, if it has any; "" of a gops agent without one

	l *loop
}

// Endpoints returns the targets that are scraped now, and the processes that have metrics only, each instance once, by instance.
func (m *Manager) Endpoints() []Endpoint {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]Endpoint, 0, len(m.loops)+len(m.measured))
	for _, ls := range []map[string]*loop{m.loops, m.measured} {
		for _, l := range ls {
			p := l.t.Process
			out = append(out, Endpoint{Instance: l.t.Instance, GoVersion: p.GoVersion, Labels: p.Labels, Metrics: l.metrics, l: l})
		}
	}
	slices.SortFunc(out, func(a, b Endpoint) int { return strings.Compare(a.Instance+a.Metrics, b.Instance+b.Metrics) })
	return slices.CompactFunc(out, func(a, b Endpoint) bool { return a.Instance == b.Instance })
}

// metricsURL is where a target's metrics are: where it says, or a scan found them, else beside its profiles.
func (t *Target) metricsURL() string {
	if t.MetricsURL != "" {
		return t.MetricsURL
	}
	u, err := url.Parse(t.URL)
	if err != nil || t.URL == "" {
		return ""
	}
	base, ok := strings.CutSuffix(u.Path, "/debug/pprof")
	if !ok {
		base = ""
	}
	u.Path, u.RawPath, u.RawQuery = base+"/metrics", "", ""
	return u.String()
}

// measure brings the loops up to date that do not run: they lead to the metrics of processes that have no profiles to be scraped. Which have some, scraped says by instance. m.mu is held.
func (m *Manager) measure(scraped map[string]bool) {
	now := map[string]*loop{}
	for _, t := range m.metered {
		if scraped[t.Instance] {
			continue // a listed target leads to it
		}
		key := t.key()
		l := m.measured[key]
		if l == nil {
			l = newLoop(m, t, false)
		}
		l.setMetrics(t.metricsURL())
		now[key] = l
	}
	for key, l := range m.measured {
		if now[key] == nil {
			l.t.access.close()
		}
	}
	m.measured = now
}

// Get asks for the metrics, in a form that accept names, and returns at most limit bytes of the answer with their content type.
func (e *Endpoint) Get(ctx context.Context, accept string, limit int64) (body []byte, contentType string, err error) {
	f := e.l.m.fetch
	ctx, cancel := context.WithTimeoutCause(ctx, f.timeout, fmt.Errorf("no whole answer within %v", f.timeout))
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, e.Metrics, nil)
	if err != nil {
		return nil, "", err
	}
	req.Header.Set("User-Agent", f.agent)
	req.Header.Set("Accept", accept)
	resp, err := f.do(&e.l.t, req)
	if err != nil {
		return nil, "", fmt.Errorf("%w: %w", errUnanswered, cause(ctx, err))
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, "", statusError(resp)
	}
	body, err = io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, "", cause(ctx, err)
	}
	if int64(len(body)) > limit {
		return nil, "", fmt.Errorf("answer is larger than %d bytes", limit)
	}
	return body, resp.Header.Get("Content-Type"), nil
}

// gopsNumbers are the commands of a gops agent that answer with numbers.
var gopsNumbers = map[string]byte{"memstats": signal.MemStats, "stats": signal.Stats}

// Gops asks a gops agent for memstats or stats. The agent serves one connection at a time: while it takes a CPU profile the error is ErrBusy.
func (e *Endpoint) Gops(ctx context.Context, what string) ([]byte, error) {
	if e.l.t.GopsAddr == "" || gopsNumbers[what] == 0 {
		return nil, errNotServed
	}
	select {
	case e.l.asking <- struct{}{}:
		defer func() { <-e.l.asking }()
	default:
		return nil, ErrBusy
	}
	return e.l.m.fetch.gops(ctx, &e.l.t, what)
}
