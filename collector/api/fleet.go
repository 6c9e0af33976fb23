package api

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sonde-io/sonde/collector/coverage"
	"github.com/sonde-io/sonde/internal/catalog"
)

const (
	// maxFleet bounds the rows that a view of the fleet reads; of more, those last seen are shown, and the answer says so.
	maxFleet = 150_000
	// maxReports and maxReportBytes bound the nodes' reports that it reads.
	maxReports     = catalog.MaxNodes
	maxReportBytes = 64 << 20
	// fleetFresh is how long a view of the fleet may be old: the pages of one list are asked for one after the other. Then its memory is given back.
	fleetFresh = 2 * time.Second
	// nodeSilent is how long a node may say nothing: it reports once a minute.
	nodeSilent = 150 * time.Second
	// maxCrashes bounds the events that tell crashes from exits.
	maxCrashes = 10_000
)

// member is one process of the fleet, whoever sees it.
type member struct {
	catalog.FleetProcess          // of who knows it best
	gatherers            []string // all that gather from it, the best first
	instances            []string // all ids that it is known by, its own first
	here                 bool     // a node saw it in its last scan, which was just now
}

// fleet is what was known of all processes at one time. It is not changed any more.
type fleet struct {
	at      int64 // Unix ms
	members []member
	nodes   []node
	cut     bool // there are more than maxFleet
}

// node is what one node reports, and when it did so last.
type node struct {
	*coverage.Report
	reported int64 // Unix ms, by this collector's clock
}

// name is the node's as its processes have it.
func (n *node) name() string { return cmp.Or(n.Name, n.Node) }

func (n *node) silent(now int64) bool { return now-n.reported > nodeSilent.Milliseconds() }

// fleetCache holds the last view of the fleet while it is fresh.
type fleetCache struct {
	mu    sync.Mutex
	since string // the parameter that it was read with
	f     *fleet
}

// fleet returns the fleet as it is now, or was a moment ago. Requests at the same time read it once.
func (h *Handler) fleet(ctx context.Context, p *params) (*fleet, error) {
	since := p.time("since", "now-1h")
	if p.err != nil {
		return nil, p.err
	}
	c, now := &h.fleetNow, h.cfg.Now().UnixMilli()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.f != nil && c.since == p.str("since") && now >= c.f.at && now-c.f.at < fleetFresh.Milliseconds() {
		return c.f, nil
	}
	f, err := h.readFleet(ctx, since, now)
	if err != nil {
		return nil, err
	}
	c.since, c.f = p.str("since"), f
	time.AfterFunc(fleetFresh, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.f == f {
			c.f = nil
		}
	})
	return f, nil
}

func (h *Handler) readFleet(ctx context.Context, since, now int64) (*fleet, error) {
	known, err := h.cfg.Catalog.FleetProcesses(ctx, since, maxFleet+1)
	if err != nil {
		return nil, err
	}
	f := &fleet{at: now, cut: len(known) > maxFleet}
	if f.cut {
		h.cut.Inc()
	}
	known = known[:min(len(known), maxFleet)]
	if f.nodes, err = h.readNodes(ctx, since); err != nil {
		return nil, err
	}
	events, err := h.cfg.Catalog.Events(ctx, catalog.EventFilter{From: since, To: now + 1, Kind: "oom_kill", Limit: maxCrashes})
	if err != nil {
		return nil, err
	}
	crashed := make(map[string]string, len(events)) // by instance: why
	for _, e := range events {
		if id := e.Attrs["instance"]; id != "" {
			crashed[id] = e.Text
		}
	}
	var seen []catalog.Process
	if h.cfg.Discovery != nil {
		seen = h.cfg.Discovery.Processes()
	}
	f.members = gather(known, seen, f.nodes, now)
	scanned := scannedNamespaces(seen, f.nodes, now)
	for i := range f.members {
		f.members[i].judge(scanned, crashed, now)
	}
	return f, nil
}

func (h *Handler) readNodes(ctx context.Context, since int64) ([]node, error) {
	reports, err := h.cfg.Catalog.Expected(ctx, since, maxReports, maxReportBytes)
	if err != nil {
		return nil, err
	}
	nodes := make([]node, 0, len(reports))
	for _, e := range reports {
		r, err := coverage.Decode(e.Report)
		if err != nil { // of a newer version, say
			h.cfg.Logger.Debug("cannot read a node's report", "node", e.Node, "error", err)
			r = &coverage.Report{Node: e.Node}
		}
		if !r.Left {
			nodes = append(nodes, node{Report: r, reported: e.Reported})
		}
	}
	return nodes, nil
}

// namespace is a pid namespace of one boot of a machine.
type namespace struct {
	boot string
	ino  uint64
}

// scannedNamespaces returns when each pid namespace was last looked through: by this machine's discovery, or by a node that reports. Who sees one process of a namespace sees all of it.
func scannedNamespaces(seen []catalog.Process, nodes []node, now int64) map[namespace]int64 {
	m := map[namespace]int64{}
	for i := range nodes {
		if n := &nodes[i]; n.Boot != "" && n.More == 0 && !n.silent(now) {
			for _, ino := range n.Namespaces {
				m[namespace{n.Boot, ino}] = n.reported
			}
		}
	}
	for i := range seen {
		if seen[i].BootID != "" && seen[i].PIDNS != 0 {
			m[namespace{seen[i].BootID, seen[i].PIDNS}] = now
		}
	}
	return m
}

// judge finds out the state of m. Where it lives among processes that were looked through and was not among them it has ended, told or not: while the collector was down, nobody was there to tell.
// Elsewhere silence is all there is to go by, and then nobody can tell.
func (m *member) judge(scanned map[namespace]int64, crashed map[string]string, now int64) {
	for _, id := range m.instances {
		if why, ok := crashed[id]; ok && !m.here {
			m.State, m.Reason = "crashed", why
			return
		}
	}
	ago := time.Duration(now-m.LastSeen) * time.Millisecond
	looked, ok := scanned[namespace{m.BootID, m.PIDNS}]
	switch {
	case m.here || m.State != "running":
	case ok && looked-m.LastSeen > goneAfter.Milliseconds():
		m.State, m.Reason = "exited", "" // why it was not profiled has an answer of its own now
	case ago > silentAfter:
		m.State, m.Reason = "lost", fmt.Sprintf("silent since %s, and nobody who can tell saw it end", time.UnixMilli(m.LastSeen).UTC().Format("15:04:05 UTC"))
	}
}

// standing orders the rows of one process by how well they know it: its own agent best. Row of discovery for a process that an agent reports know least.
func standing(p *catalog.FleetProcess) int {
	if p.LabelsHash != "" {
		return 0
	}
	if i := slices.Index(standings, p.Gatherer); i >= 0 {
		return i
	}
	return len(standings)
}

var standings = []string{"agent with its own words", "sdk", "otlp", "push", "scrape", "gops", "perf"}

// gathers reports whether p's row says that profiles are taken by its gatherer. The row of discovery for a process that an agent reports does not, nor that of who only
// started it.
func gathers(p *catalog.FleetProcess) bool {
	return p.Gatherer != "" && p.Gatherer != catalog.GathererRun && (p.Gatherer != "agent" || p.LabelsHash != "" || p.Reason == "")
}

// merge makes one member of the rows of one process; here says of each whether a node saw it just now.
func merge(rows []catalog.FleetProcess, here []bool) member {
	order := make([]int, len(rows))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(standing(&rows[a]), standing(&rows[b])), cmp.Compare(rows[b].LastSeen, rows[a].LastSeen))
	})
	m := member{FleetProcess: rows[order[0]]}
	latest := m.LastSeen
	for _, i := range order {
		latest = max(latest, rows[i].LastSeen)
	}
	var ended *catalog.FleetProcess
	outside := ""
	for _, i := range order {
		r := &rows[i]
		m.here = m.here || here[i]
		m.instances = append(m.instances, r.Instance)
		if gathers(r) && latest-r.LastSeen < silentAfter.Milliseconds() && !slices.Contains(m.gatherers, r.Gatherer) {
			m.gatherers = append(m.gatherers, r.Gatherer)
		}
		if r.State != "running" && (ended == nil || r.State == "crashed") {
			ended = r
		}
		if r.LabelsHash == "" && outside == "" {
			outside = r.Node // as it is seen from outside: in a pod a process takes its pod's name for that of its host
		}
		m.fill(r)
	}
	m.LastSeen, m.Node = latest, cmp.Or(outside, m.Node)
	m.Gatherer = ""
	if len(m.gatherers) > 0 {
		m.Gatherer = m.gatherers[0]
	}
	switch {
	case ended != nil && !m.here && latest-ended.LastSeen <= goneAfter.Milliseconds():
		m.State, m.Reason = ended.State, ended.Reason
	case ended != nil:
		m.State = "running" // others have heard of it since
	}
	if m.Gatherer == "" && m.Reason == "" && m.State == "running" && slices.ContainsFunc(rows, func(r catalog.FleetProcess) bool { return r.Gatherer == catalog.GathererRun }) {
		m.Reason = coverage.OnlyRun
	}
	return m
}

// fill takes from r what the better rows do not know.
func (m *member) fill(r *catalog.FleetProcess) {
	for _, f := range []struct {
		to   *string
		from string
	}{{&m.Service, r.Service}, {&m.Version, r.Version}, {&m.GoVersion, r.GoVersion}, {&m.BuildID, r.BuildID}, {&m.Exe, r.Exe}, {&m.Host, r.Host}, {&m.Node, r.Node},
		{&m.Pod, r.Pod}, {&m.Container, r.Container}, {&m.BootID, r.BootID}} {
		if *f.to == "" {
			*f.to = f.from
		}
	}
	m.PID, m.PIDNS, m.StartTicks, m.Started = cmp.Or(m.PID, r.PID), cmp.Or(m.PIDNS, r.PIDNS), cmp.Or(m.StartTicks, r.StartTicks), cmp.Or(m.Started, r.Started)
}

// watched reports whether profiles are taken of m.
func (m *member) watched() bool {
	return m.State == "running" && m.Gatherer != "" && !strings.HasPrefix(m.Reason, "denied")
}
