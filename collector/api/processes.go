package api

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"
)

type processJSON struct {
	Instance  string        `json:"instance"`
	Service   string        `json:"service"`
	Version   string        `json:"version"`
	GoVersion string        `json:"go_version"`
	Build     string        `json:"build"`
	Node      string        `json:"node"`
	Pod       string        `json:"pod"`
	Host      string        `json:"host"`
	PID       int           `json:"pid"`
	Exe       string        `json:"exe"`
	Gatherer  string        `json:"gatherer"`
	Gatherers []string      `json:"gatherers"`
	State     string        `json:"state"`
	Reason    string        `json:"reason"`
	Started   int64         `json:"started"` // Unix ms
	LastSeen  int64         `json:"last_seen"`
	Uptime    int64         `json:"uptime_ms"` // until it was last seen; 0: unknown
	Instances []string      `json:"instances,omitempty"`
	Labels    labels.Labels `json:"labels"`
}

const (
	defaultProcesses = 1000
	maxProcesses     = 10_000   // of one answer
	maxLabelsBytes   = 32 << 20 // of all listed processes together
	maxCursor        = 16 << 10 // bytes
	// silentAfter is how long a process that says it runs may say nothing: several windows and their retries.
	silentAfter = 5 * time.Minute
	// lingers is how long a process that was profiled is listed by default after its end, or after it was lost.
	lingers = 5 * time.Minute
	// goneAfter is how long a process that discovery would see, and does not, may say nothing: an agent may push from where /proc hides it.
	goneAfter = time.Minute
)

// What the parameter state asks for, besides one state.
const (
	stateRecent  = "recent" // what runs, and what was profiled and ended just now
	stateRunning = "running"
	stateAll     = "all"
)

// gathererNone selects processes that nothing gathers from.
const gathererNone = "none"

// processes lists the fleet: what the catalogue knows, what nodes report, and what this machine's discovery sees now.
func (h *Handler) processes(ctx context.Context, r *http.Request) (any, error) {
	p := h.params(r, "service", "node", "gatherer", "state", "version", "go_version", "search", "since", "sort", "limit", "cursor")
	want := p.oneOf("state", stateRecent, stateRunning, stateAll, "exited", "crashed", "lost")
	by := p.order()
	limit := p.number("limit", defaultProcesses, 1, maxProcesses)
	after := p.cursor(by)
	f, err := h.fleet(ctx, p)
	if err != nil {
		return nil, err
	}
	states, gatherers := map[string]int{}, map[string]int{}
	var found []*member
	for i := range f.members {
		m := &f.members[i]
		if !p.selects(m) {
			continue
		}
		if m.gatheredBy(p.str("gatherer")) {
			states[m.State]++
		}
		if !m.listed(want, f.at) {
			continue
		}
		gatherers[cmp.Or(m.Gatherer, gathererNone)]++
		if m.gatheredBy(p.str("gatherer")) {
			found = append(found, m)
		}
	}
	total := len(found)
	page, next := by.page(found, after, limit)
	out, err := h.describe(ctx, page, f.at)
	if err != nil {
		return nil, err
	}
	return map[string]any{"processes": out, "next": next, "total": total, "states": states, "gatherers": gatherers, "more": f.cut, "at": f.at, "summary": h.summary()}, nil
}

// describe adds the labels, which the view of the fleet does without, to one page of it.
func (h *Handler) describe(ctx context.Context, page []*member, now int64) ([]processJSON, error) {
	instances := make([]string, len(page))
	for i, m := range page {
		instances[i] = m.Instance
	}
	ls, err := h.cfg.Catalog.ProcessLabels(ctx, instances, maxLabelsBytes)
	if err != nil {
		return nil, err
	}
	out := make([]processJSON, len(page))
	for i, m := range page {
		j := processJSON{Instance: m.Instance, Service: m.Service, Version: m.Version, GoVersion: m.GoVersion, Build: m.BuildID, Node: m.Node, Pod: m.Pod, Host: m.Host,
			PID: m.PID, Exe: m.Exe, Gatherer: m.Gatherer, Gatherers: m.gatherers, State: m.State, Reason: m.Reason, Started: m.Started, LastSeen: m.LastSeen, Labels: m.Labels}
		if l, ok := ls[m.Instance]; ok {
			j.Labels = l
		}
		if j.Gatherers == nil {
			j.Gatherers = []string{}
		}
		if len(m.instances) > 1 {
			j.Instances = m.instances
		}
		if m.Started > 0 {
			end := m.LastSeen
			if m.State == "running" {
				end = now
			}
			j.Uptime = max(end-m.Started, 0)
		}
		out[i] = j
	}
	return out, nil
}

// selects reports whether the parameters besides state and gatherer select m.
func (p *params) selects(m *member) bool {
	for _, f := range [...]struct{ name, value string }{{"service", m.Service}, {"node", m.Node}, {"version", m.Version}, {"go_version", m.GoVersion}} {
		if want := p.str(f.name); want != "" && want != f.value {
			return false
		}
	}
	text := p.str("search")
	if text == "" {
		return true
	}
	for _, s := range [...]string{m.Service, m.Node, m.Pod, m.Host, m.Version, m.Exe, m.Instance, m.Reason} {
		if strings.Contains(s, text) {
			return true
		}
	}
	return false
}

func (m *member) gatheredBy(gatherer string) bool {
	switch gatherer {
	case "":
		return true
	case gathererNone:
		return m.Gatherer == ""
	}
	return slices.Contains(m.gatherers, gatherer)
}

// listed reports whether a process in the state it is in is asked for by the parameter state.
func (m *member) listed(want string, now int64) bool {
	ago := now - m.LastSeen
	switch {
	case want == stateAll || m.State == want:
		return true
	case want != stateRecent:
		return false
	case m.State == "running":
		return true
	case m.Gatherer == "":
		return false
	case m.State == "lost":
		ago -= silentAfter.Milliseconds()
	}
	return ago < lingers.Milliseconds()
}

// sorting is the order of a list of processes: by one column, and what is equal in it by service, node and instance, so that there is one order.
type sorting struct {
	column string
	down   bool
	key    func(m *member) string
}

// number makes a key of n, 0 or more, that sorts as n does.
func number(n int64) string {
	const zeros = "0000000000000000000"
	text := strconv.FormatInt(max(n, 0), 10)
	return zeros[min(len(text), len(zeros)):] + text
}

var sortings = map[string]func(m *member) string{
	"service":    func(m *member) string { return m.Service },
	"version":    func(m *member) string { return m.Version },
	"go_version": func(m *member) string { return m.GoVersion },
	"node":       func(m *member) string { return m.Node },
	"pod":        func(m *member) string { return m.Pod },
	"gatherer":   func(m *member) string { return m.Gatherer },
	"state":      func(m *member) string { return m.State },
	"pid":        func(m *member) string { return number(int64(m.PID)) },
	"started":    func(m *member) string { return number(m.Started) },
	"last_seen":  func(m *member) string { return number(m.LastSeen) },
}

// order reads the parameter sort: a column, with a - before it from the end.
func (p *params) order() sorting {
	text := cmp.Or(p.str("sort"), "service")
	column, down := strings.CutPrefix(text, "-")
	key := sortings[column]
	if key == nil {
		names := make([]string, 0, len(sortings))
		for name := range sortings {
			names = append(names, name)
		}
		slices.Sort(names)
		p.fail("parameter sort: %.64q is none of %s (with a - before it: descending)", text, strings.Join(names, ", "))
		key = sortings["service"]
	}
	return sorting{column, down, key}
}

// position is where a page ends: the columns of its last row that the order goes by.
type position struct {
	Sort string    `json:"s"`
	Row  [4]string `json:"r"`
}

func (s sorting) name() string {
	if s.down {
		return "-" + s.column
	}
	return s.column
}

func (s sorting) row(m *member) [4]string {
	return [4]string{s.key(m), m.Service, m.Node, m.Instance}
}

func (s sorting) compare(a, b *[4]string) int {
	c := strings.Compare(a[0], b[0])
	if s.down {
		c = -c
	}
	return cmp.Or(c, strings.Compare(a[1], b[1]), strings.Compare(a[2], b[2]), strings.Compare(a[3], b[3]))
}

// cursor reads where the page before ended, nil for the first page.
func (p *params) cursor(by sorting) *[4]string {
	text := p.str("cursor")
	if text == "" {
		return nil
	}
	var at position
	data, err := base64.RawURLEncoding.DecodeString(text)
	if err == nil && len(text) <= maxCursor {
		err = json.Unmarshal(data, &at)
	}
	switch {
	case len(text) > maxCursor || err != nil:
		p.fail("parameter cursor: it is not what an earlier answer gave as next")
	case at.Sort != by.name():
		p.fail("parameter cursor: it belongs to a list sorted by %.64q, not by %q", at.Sort, by.name())
	}
	return &at.Row
}

// page returns at most limit of all, those after the given position in the order, and the cursor of the page that follows, "" for none.
func (s sorting) page(all []*member, after *[4]string, limit int) ([]*member, string) {
	rows := make([]ordered, 0, len(all))
	for _, m := range all {
		if row := s.row(m); after == nil || s.compare(&row, after) > 0 {
			rows = append(rows, ordered{row, m})
		}
	}
	slices.SortFunc(rows, func(a, b ordered) int { return s.compare(&a.row, &b.row) })
	next := ""
	if len(rows) > limit {
		rows = rows[:limit]
		data, err := json.Marshal(position{s.name(), rows[limit-1].row})
		if err == nil {
			next = base64.RawURLEncoding.EncodeToString(data)
		}
	}
	page := make([]*member, len(rows))
	for i := range rows {
		page[i] = rows[i].m
	}
	return page, next
}

type ordered struct {
	row [4]string
	m   *member
}

// summary says what this machine's discovery found, "" where there is none.
func (h *Handler) summary() string {
	if h.cfg.Discovery == nil {
		return ""
	}
	return h.cfg.Discovery.Summary()
}
