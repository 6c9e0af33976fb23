package api

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sonde-io/sonde/collector/coverage"
)

const (
	maxExamples   = 5     // processes named for each gap
	maxGapPlaces  = 20    // services and nodes named for each gap
	maxGapReasons = 200   // different reasons; the rest are counted together
	maxGroups     = 5_000 // services, and nodes, that are listed; those with most gaps first
)

// tally counts what should be watched and what is.
type tally struct {
	Expected int `json:"expected"`
	Watched  int `json:"watched"`
}

func (t *tally) add(watched bool) {
	t.Expected++
	if watched {
		t.Watched++
	}
}

type groupTally struct {
	Name string `json:"name"`
	tally
}

type nodeTally struct {
	groupTally
	Reports  bool   `json:"reports"` // it has something that reports what runs there
	Silent   bool   `json:"silent"`  // and that has said nothing for longer than it should
	Reported int64  `json:"reported"`
	Gatherer string `json:"gatherer"` // what reports
	More     int    `json:"more"`     // processes beyond what a report holds
	Unknown  int    `json:"unknown"`  // processes that may be Go programs, of which nothing can be read
}

// gap is why something is not watched, or lacks a type of profile.
type gap struct {
	Reason    string        `json:"reason"`
	Cure      string        `json:"cure"`
	Partial   bool          `json:"partial"` // they are watched, and lack something
	Processes int           `json:"processes"`
	Services  []string      `json:"services"`
	Nodes     []string      `json:"nodes"`
	Examples  []exampleJSON `json:"examples"`
}

type exampleJSON struct {
	Instance string `json:"instance"`
	Service  string `json:"service"`
	Node     string `json:"node"`
	Pod      string `json:"pod"`
	Unit     string `json:"unit"`
	PID      int    `json:"pid"`
	Exe      string `json:"exe"`
	Text     string `json:"text"` // the reason as it was given
}

// wanted is one process that should be watched.
type wanted struct {
	exampleJSON
	watched bool
	class   coverage.Class
	partial []string
}

// counted adds up what should be watched.
type counted struct {
	all, pods, units, nodeTally tally
	services                    map[string]*groupTally
	nodes                       map[string]*nodeTally
	gaps                        map[string]*gap
	places                      map[string]bool // pods and units: whether all of it is watched
}

// coverage compares what should be watched with what is.
func (h *Handler) coverage(ctx context.Context, r *http.Request) (any, error) {
	p := h.params(r, "service", "node", "since")
	f, err := h.fleet(ctx, p)
	if err != nil {
		return nil, err
	}
	c := counted{services: map[string]*groupTally{}, nodes: map[string]*nodeTally{}, gaps: map[string]*gap{}, places: map[string]bool{}}
	service, node := p.str("service"), p.str("node")
	for i := range f.nodes {
		if n := &f.nodes[i]; node == "" || n.name() == node {
			c.node(n, f.at, service == "")
		}
	}
	f.expect(func(w *wanted) {
		if (service == "" || w.Service == service) && (node == "" || w.Node == node) {
			c.add(w)
		}
	})
	for _, n := range c.nodes {
		if n.Reports {
			c.nodeTally.add(!n.Silent)
		}
	}
	for place, watched := range c.places {
		if strings.HasPrefix(place, "pod ") {
			c.pods.add(watched)
		} else {
			c.units.add(watched)
		}
	}
	return c.answer(f), nil
}

// node takes what is said of a node itself.
func (c *counted) node(n *node, now int64, all bool) {
	t := c.nodeOf(n.name())
	silent := n.silent(now)
	if !t.Reports || silent && !t.Silent || silent == t.Silent && n.reported < t.Reported { // of several sidecars in pods the one that is silent, or was heard of first
		t.Reported, t.Gatherer = n.reported, n.Gatherer
	}
	t.Reports, t.Silent, t.More, t.Unknown = true, t.Silent || silent, t.More+n.More, max(t.Unknown, n.Unknown)
	if silent && all && len(n.Items) == 0 {
		// Nothing ran there when it was heard of last; that nobody looks any more is a gap all the same.
		w := &wanted{exampleJSON: exampleJSON{Node: n.name()}, class: lostNode(n)}
		c.gap(w.class, false).take(w, w.class.Reason)
	}
}

func lostNode(n *node) coverage.Class {
	what := cmp.Or(n.Gatherer, "sidecar")
	return coverage.Class{Reason: what + " lost since " + time.UnixMilli(n.reported).UTC().Format("2006-01-02 15:04 UTC"),
		Cure: "look at " + what + " on the node: is it running, and does it reach the collector? A node that is gone for good is forgotten after an hour"}
}

func (c *counted) nodeOf(name string) *nodeTally {
	t := c.nodes[name]
	if t == nil {
		t = &nodeTally{groupTally: groupTally{Name: name}}
		c.nodes[name] = t
	}
	return t
}

func (c *counted) gap(class coverage.Class, partial bool) *gap {
	key := strconv.FormatBool(partial) + class.Reason
	g := c.gaps[key]
	if g == nil && len(c.gaps) >= maxGapReasons {
		class = coverage.Class{Reason: "other reasons"}
		key = strconv.FormatBool(partial) + class.Reason
		g = c.gaps[key]
	}
	if g == nil {
		g = &gap{Reason: class.Reason, Cure: class.Cure, Partial: partial, Services: []string{}, Nodes: []string{}, Examples: []exampleJSON{}}
		c.gaps[key] = g
	}
	return g
}

func (g *gap) take(w *wanted, text string) {
	if w.Instance != "" {
		g.Processes++
	}
	for _, to := range []struct {
		list *[]string
		name string
	}{{&g.Services, w.Service}, {&g.Nodes, w.Node}} {
		if to.name != "" && len(*to.list) < maxGapPlaces && !slices.Contains(*to.list, to.name) {
			*to.list = append(*to.list, to.name)
		}
	}
	if w.Instance != "" && len(g.Examples) < maxExamples {
		e := w.exampleJSON
		e.Text = text
		g.Examples = append(g.Examples, e)
	}
}

func (c *counted) add(w *wanted) {
	c.all.add(w.watched)
	s := c.services[w.Service]
	if s == nil {
		s = &groupTally{Name: w.Service}
		c.services[w.Service] = s
	}
	s.add(w.watched)
	c.nodeOf(w.Node).add(w.watched)
	for _, place := range [...]struct{ kind, name string }{{"pod ", w.Pod}, {"unit ", w.Unit}} {
		if place.name != "" {
			key := place.kind + w.Node + "/" + place.name
			if place.kind == "pod " {
				key = place.kind + place.name
			}
			was, ok := c.places[key]
			c.places[key] = w.watched && (was || !ok)
		}
	}
	if !w.watched {
		c.gap(w.class, false).take(w, w.Text)
		return
	}
	for _, text := range w.partial {
		if class := coverage.Classify(text); !class.Chosen {
			c.gap(class, true).take(w, text)
		}
	}
}

// answer is what was counted, numbers first, then the gaps, the largest first.
func (c *counted) answer(f *fleet) map[string]any {
	services, nodes, gaps := make([]groupTally, 0, len(c.services)), make([]nodeTally, 0, len(c.nodes)), make([]gap, 0, len(c.gaps))
	for _, s := range c.services {
		services = append(services, *s)
	}
	for _, n := range c.nodes {
		nodes = append(nodes, *n)
	}
	for _, g := range c.gaps {
		slices.Sort(g.Services)
		slices.Sort(g.Nodes)
		gaps = append(gaps, *g)
	}
	missing := func(t *tally) int { return t.Expected - t.Watched }
	slices.SortFunc(services, func(a, b groupTally) int {
		return cmp.Or(cmp.Compare(missing(&b.tally), missing(&a.tally)), strings.Compare(a.Name, b.Name))
	})
	slices.SortFunc(nodes, func(a, b nodeTally) int {
		return cmp.Or(cmp.Compare(missing(&b.tally), missing(&a.tally)), strings.Compare(a.Name, b.Name))
	})
	slices.SortFunc(gaps, func(a, b gap) int {
		partial := func(g *gap) int {
			if g.Partial {
				return 1
			}
			return 0
		}
		return cmp.Or(partial(&a)-partial(&b), cmp.Compare(b.Processes, a.Processes), strings.Compare(a.Reason, b.Reason))
	})
	return map[string]any{"at": f.at, "processes": c.all, "pods": c.pods, "units": c.units, "nodes": c.nodeTally, "gaps": gaps,
		"by_service": services[:min(len(services), maxGroups)], "by_node": nodes[:min(len(nodes), maxGroups)], "more": f.cut}
}

// expect calls fn for every process that should be watched: those that nodes reported, and those that report themselves from where no node does. A process that has ended is expected no more.
func (f *fleet) expect(fn func(w *wanted)) {
	at := make(map[string]*member, len(f.members))
	for i := range f.members {
		for _, id := range f.members[i].instances {
			at[id] = &f.members[i]
		}
	}
	j := f.index()
	told := make(map[*member]bool)
	for i := range f.nodes {
		n := &f.nodes[i]
		for k := range n.Items {
			it := &n.Items[k]
			m := at[it.Instance]
			if m == nil {
				m = j[identityOfItem(n, it)]
			}
			if m != nil {
				if told[m] {
					continue
				}
				told[m] = true
			}
			if w := want(n, it, m, f.at); w != nil {
				fn(w)
			}
		}
	}
	for i := range f.members {
		m := &f.members[i]
		if itself := m.Gatherer == "" && strings.Contains(m.Reason, "Sonde itself"); !told[m] && !itself && (m.State == "running" || m.State == "lost") {
			w := &wanted{exampleJSON: m.example(), watched: m.watched()}
			w.explain(m, m.Reason)
			fn(w)
		}
	}
}

// index finds members by identity: the instance that a node gives a process is its own only where an agent does not report it.
func (f *fleet) index() map[identity]*member {
	out := make(map[identity]*member, len(f.members))
	for i := range f.members {
		if id, ok := identityOf(&f.members[i].Process); ok {
			out[id] = &f.members[i]
		}
	}
	return out
}

func identityOfItem(n *node, it *coverage.Item) identity {
	return identity{n.Boot, it.Ticks, cmp.Or(it.Inner, it.PID)}
}

func (m *member) example() exampleJSON {
	return exampleJSON{Instance: m.Instance, Service: m.Service, Node: m.Node, Pod: m.Pod, PID: m.PID, Exe: m.Exe}
}

// want judges one process that node n reported, which is known as m, or not yet known where m is nil; nil where it has ended.
func want(n *node, it *coverage.Item, m *member, now int64) *wanted {
	w := &wanted{exampleJSON: exampleJSON{Instance: it.Instance, Service: it.Service, Node: n.name(), Pod: it.Pod, Unit: it.Unit, PID: it.PID, Exe: it.Exe}, partial: it.Partial}
	if m != nil {
		w.Instance, w.Service, w.Pod = m.Instance, cmp.Or(m.Service, it.Service), cmp.Or(m.Pod, it.Pod)
		if m.State == "exited" || m.State == "crashed" {
			return nil
		}
	}
	if n.silent(now) {
		// Its own agent may go on without the node's sidecar.
		if m != nil && m.watched() && now-m.LastSeen <= silentAfter.Milliseconds() {
			w.watched = true
			return w
		}
		w.class = lostNode(n)
		w.Text = w.class.Reason
		return w
	}
	if w.watched = it.Watched() || m != nil && m.watched(); !w.watched {
		w.explain(m, it.Reason)
	}
	return w
}

// explain sets why w is not watched.
func (w *wanted) explain(m *member, reason string) {
	switch {
	case w.watched:
	case m != nil && m.State == "lost":
		w.class = coverage.Class{Reason: "lost: silent, and nobody who can tell saw it end", Cure: "a sidecar on its node can tell; is the node up, and does the process reach the collector?"}
		w.Text = m.Reason
	case reason == "":
		w.class, w.Text = coverage.Class{Reason: "nothing gathers from it"}, "nothing gathers from it"
	default:
		w.class, w.Text = coverage.Classify(reason), reason
	}
}
