package api

import (
	"context"
	"net/http"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/internal/catalog"
)

type processJSON struct {
	Instance  string        `json:"instance"`
	Service   string        `json:"service"`
	Version   string        `json:"version"`
	GoVersion string        `json:"go_version"`
	Build     string        `json:"build"`
	Host      string        `json:"host"`
	PID       int           `json:"pid"`
	Exe       string        `json:"exe"`
	Gatherer  string        `json:"gatherer"`
	State     string        `json:"state"`
	Reason    string        `json:"reason"`
	Started   int64         `json:"started"` // Unix ms
	LastSeen  int64         `json:"last_seen"`
	Labels    labels.Labels `json:"labels"`
}

const (
	maxProcesses   = 10_000
	maxLabelsBytes = 32 << 20 // of all listed processes together
	// silentAfter is how long a process that says it runs may say nothing: several windows and their retries.
	silentAfter = 5 * time.Minute
	// lingers is how long a process that was profiled is listed by default after its end, or after it has become silent.
	lingers = 5 * time.Minute
	// goneAfter is how long a process that discovery would see, and does not, may say nothing: an agent may push from where /proc hides it.
	goneAfter = time.Minute
)

// What the parameter state asks for.
const (
	stateRecent  = "recent" // what runs, and what was profiled and ended just now
	stateRunning = "running"
	stateAll     = "all"
)

// processes merges what the catalogue knows with what discovery sees now, which is fresher but knows only this machine.
func (h *Handler) processes(ctx context.Context, r *http.Request) (any, error) {
	p := h.params(r, "service", "since", "state")
	want := p.oneOf("state", stateRecent, stateRunning, stateAll)
	f := catalog.ProcessFilter{Service: p.str("service"), Since: p.time("since", "now-1h"), Limit: maxProcesses, MaxBytes: maxLabelsBytes}
	if p.err != nil {
		return nil, p.err
	}
	known, err := h.cfg.Catalog.Processes(ctx, f)
	if err != nil {
		return nil, err
	}
	var seen []catalog.Process
	summary := ""
	if h.cfg.Discovery != nil {
		summary = h.cfg.Discovery.Summary()
		for _, s := range h.cfg.Discovery.Processes() {
			if f.Service == "" || s.Service == f.Service {
				seen = append(seen, s)
			}
		}
	}
	now := h.cfg.Now().UnixMilli()
	out := make([]processJSON, 0, len(known)+len(seen))
	merged, here := mergeProcesses(known, seen)
	scanned := namespacesOf(seen)
	for i, p := range merged {
		if !here[i] {
			if st := stateOf(&p, scanned, now); st != p.State {
				p.State, p.Reason = st, "" // why it was not profiled has an answer of its own now
			}
		}
		if !listed(&p, want, now) {
			continue
		}
		out = append(out, processJSON{Instance: p.Instance, Service: p.Service, Version: p.Version, GoVersion: p.GoVersion, Build: p.BuildID, Host: p.Host,
			PID: p.PID, Exe: p.Exe, Gatherer: p.Gatherer, State: p.State, Reason: p.Reason, Started: p.Started, LastSeen: p.LastSeen, Labels: p.Labels})
	}
	return map[string]any{"processes": out, "summary": summary}, nil
}

// listed reports whether a process in the state it is in is asked for by the parameter state.
func listed(p *catalog.Process, want string, now int64) bool {
	ago := now - p.LastSeen
	switch {
	case want == stateAll || p.State == "running":
		return true
	case want == stateRunning || p.Gatherer == "":
		return false
	case p.State == "silent":
		ago -= silentAfter.Milliseconds()
	}
	return ago < lingers.Milliseconds()
}

// stateOf judges a process that the catalogue knows and the last scan did not see. Where it lives among processes that were seen it has
// ended, told or not: while the collector was down, nobody was there to tell. Elsewhere silence is all there is to go by.
func stateOf(p *catalog.Process, scanned map[namespace]bool, now int64) string {
	ago := time.Duration(now-p.LastSeen) * time.Millisecond
	switch {
	case p.State != "running":
		return p.State
	case ago > goneAfter && scanned[namespace{p.BootID, p.PIDNS}]:
		return "exited"
	case ago > silentAfter:
		return "silent"
	}
	return p.State
}

// namespace is a pid namespace of one boot of a machine.
type namespace struct {
	boot string
	ino  uint64
}

// namespacesOf returns the pid namespaces that seen comes from. Who sees one process of a namespace sees all of it.
func namespacesOf(seen []catalog.Process) map[namespace]bool {
	m := map[namespace]bool{}
	for i := range seen {
		if seen[i].BootID != "" && seen[i].PIDNS != 0 {
			m[namespace{seen[i].BootID, seen[i].PIDNS}] = true
		}
	}
	return m
}

// mergeProcesses adds to known what only discovery has seen, and reports of each row whether it did. Of a process in both, the row of the
// catalogue stays, with discovery's fresher state; one that its agent reports under an instance of its own is recognised by boot, start and pid.
func mergeProcesses(known, seen []catalog.Process) ([]catalog.Process, []bool) {
	agents := make(map[identity][]int)
	for i, p := range known {
		if id, ok := identityOf(p); ok && p.LabelsHash != "" {
			agents[id] = append(agents[id], i)
		}
	}
	// agentOf returns the row of the agent in p, -1 for none.
	agentOf := func(p catalog.Process) int {
		if id, ok := identityOf(p); ok {
			for _, i := range agents[id] {
				if known[i].PIDNS == p.PIDNS || known[i].PIDNS == 0 || p.PIDNS == 0 {
					return i
				}
			}
		}
		return -1
	}
	var out []catalog.Process
	var here []bool
	at := make(map[string]int, len(known)) // by instance, in out
	for _, p := range known {
		// A row that discovery wrote for a process before its agent reported it is the same process.
		if p.LabelsHash == "" && agentOf(p) >= 0 {
			continue
		}
		at[p.Instance] = len(out)
		out, here = append(out, p), append(here, false)
	}
	for _, s := range seen {
		i, ok := at[s.Instance]
		if a := agentOf(s); a >= 0 {
			i = at[known[a].Instance]
			out[i].State, out[i].Reason = "running", ""
		} else if ok {
			// A gatherer that took profiles knows better who it was than one that only looks.
			if s.Gatherer == "" {
				s.Gatherer = out[i].Gatherer
			}
			out[i].State, out[i].Reason, out[i].Gatherer = s.State, s.Reason, s.Gatherer
		} else {
			out, here = append(out, s), append(here, true)
			continue
		}
		out[i].LastSeen = max(out[i].LastSeen, s.LastSeen)
		here[i] = true
	}
	return out, here
}

// identity names a process whoever looks at it: its own pid is the innermost that the kernel lists. Two with the same identity in
// pid namespaces that are known and differ are not the same.
type identity struct {
	boot  string
	ticks uint64
	pid   int
}

func identityOf(p catalog.Process) (identity, bool) {
	id := identity{p.BootID, p.StartTicks, p.PID}
	if n := len(p.NSPIDs); n > 0 {
		id.pid = p.NSPIDs[n-1]
	}
	return id, id.boot != "" && id.ticks != 0
}
