package forward

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/discover"
	"github.com/sonde-io/sonde/collector/forward/spool"
	"github.com/sonde-io/sonde/collector/receive"
	"github.com/sonde-io/sonde/collector/reply"
	"github.com/sonde-io/sonde/collector/wire"
	"github.com/sonde-io/sonde/internal/catalog"
)

// Knows implements receive.Relay.
func (f *Forwarder) Knows(instance, hash string) bool { return f.spool.Knows(instance, hash) }

// Keep implements receive.Relay.
func (f *Forwarder) Keep(ctx context.Context, r *receive.Relayed) error {
	m := r.Meta
	order := m.Instance
	if order == "" {
		order = m.Key + m.Idempotency
	}
	p := &spool.Push{Lane: laneOf(order), Start: m.Start, End: m.End, Instance: m.Instance, Hash: m.ProcessHash, Process: r.Process, Meta: r.Raw, Profiles: r.Parts}
	if m.Instance == "" && len(m.Profiles) == 0 {
		p.Hash = ""
	}
	if r.Process != nil {
		var object wire.Process
		if err := json.Unmarshal(r.Process, &object); err != nil {
			return reply.Errorf(http.StatusBadRequest, "read meta.process: %v", err)
		}
		p.Service = object.Labels[serviceLabel]
	}
	err := f.keep(ctx, p)
	switch {
	case errors.Is(err, spool.ErrUnknownProcess):
		return &reply.Error{Status: http.StatusPreconditionRequired, Message: "the process is not known here any more", Hint: "send the window again with the process object"}
	case errors.Is(err, spool.ErrTooLarge):
		return &reply.Error{Status: http.StatusRequestEntityTooLarge, Message: "the push is too large for the spool", Limit: "spool_bytes", Max: f.cfg.SpoolBytes / 4, Cause: err}
	case err == nil && m.Instance != "":
		f.agents.seen(f.spool, m.Instance, m.ProcessHash, f.cfg.Now())
	}
	return err
}

// Settings implements receive.Relay.
func (f *Forwarder) Settings(instance string) json.RawMessage { return f.agents.settings(instance) }

// Agents returns the instances of the agents that sent something within the last minutes.
func (f *Forwarder) Agents() []string { return f.agents.instances(f.cfg.Now()) }

// AgentOf returns the row of a process, as discovery identifies it, that sends to this sidecar by an agent of its own.
func (f *Forwarder) AgentOf(id discover.Identity) (catalog.Process, bool) {
	return f.agents.of(id, f.cfg.Now())
}

// agents is what is known of the agents that send to this sidecar. It is a cache: an agent's next push fills it again.
type agents struct {
	mu sync.Mutex
	m  map[string]*agent
}

type agent struct {
	hash     string
	identity discover.Identity
	row      catalog.Process
	process  bool // the two are known, or cannot be
	last     time.Time
	settings json.RawMessage // nil: none
}

const (
	maxAgents    = 16 << 10
	agentsRecent = 5 * time.Minute // one that said nothing for longer does not count
	maxSettings  = 64 << 10        // bytes that are remembered for one agent
)

// at returns what is known of an instance; a.mu is held.
func (a *agents) at(instance string) *agent {
	g := a.m[instance]
	if g != nil {
		return g
	}
	if a.m == nil {
		a.m = map[string]*agent{}
	}
	for victim := range a.m { // any one
		if len(a.m) < maxAgents {
			break
		}
		delete(a.m, victim)
	}
	g = new(agent)
	a.m[instance] = g
	return g
}

// seen notes a push of an agent, and who that is.
func (a *agents) seen(s *spool.Spool, instance, hash string, now time.Time) {
	a.mu.Lock()
	g := a.at(instance)
	g.last = now
	known := g.process && g.hash == hash
	a.mu.Unlock()
	if known {
		return
	}
	var object wire.Process
	if p := s.Process(instance, hash); p != nil {
		if raw, err := p.Raw(); err == nil {
			_ = json.Unmarshal(raw, &object) // it was checked when it came
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	g.hash, g.process = hash, true
	if object.Gatherer != "" && object.Gatherer != "agent" {
		g.last = time.Time{}
	}
	g.identity = discover.Identity{BootID: object.BootID, PIDNS: object.PIDNS, StartTicks: object.StartTicks, PIDs: object.NSPIDs}
	if len(g.identity.PIDs) == 0 {
		g.identity.PIDs = []int{object.PID}
	}
	ls := labels.NewBuilder(labels.FromMap(object.Labels)).Set(instanceLabel, instance).Labels()
	g.row = catalog.Process{Instance: instance, Service: ls.Get(serviceLabel), Labels: ls, LabelsHash: hash, Version: ls.Get("service_version"), GoVersion: object.GoVersion,
		BuildID: cmp.Or(object.GNUBuildID, object.Build), Exe: object.Exe, PID: object.PID, BootID: object.BootID, PIDNS: object.PIDNS, StartTicks: object.StartTicks, NSPIDs: object.NSPIDs,
		Host: ls.Get("host_name"), Gatherer: "agent", State: "running", Started: object.Started}
}

func (a *agents) of(want discover.Identity, now time.Time) (catalog.Process, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, g := range a.m {
		if g.process && now.Sub(g.last) < agentsRecent && g.identity.Same(want) {
			row := g.row
			row.LastSeen = g.last.UnixMilli()
			return row, true
		}
	}
	return catalog.Process{}, false
}

func (a *agents) instances(now time.Time) (out []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for instance, g := range a.m {
		if now.Sub(g.last) < agentsRecent {
			out = append(out, instance)
		}
	}
	return out
}

func (a *agents) settings(instance string) json.RawMessage {
	a.mu.Lock()
	defer a.mu.Unlock()
	if g := a.m[instance]; g != nil {
		return g.settings
	}
	return nil
}

// tell remembers what the upstream wants of agents.
func (a *agents) tell(settings map[string]json.RawMessage) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for instance, raw := range settings {
		if string(raw) == "null" || len(raw) > maxSettings {
			raw = nil
		}
		a.at(instance).settings = raw
	}
}
