package api

import (
	"context"
	"net/http"
	"slices"
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
	maxProcesses = 10_000
	// silentAfter is how long a process that says it runs may say nothing: several windows and their retries.
	silentAfter = 5 * time.Minute
)

// processes merges what the catalogue knows with what discovery sees now, which is fresher but knows only this machine.
func (h *Handler) processes(ctx context.Context, r *http.Request) (any, error) {
	p := h.params(r, "service", "since")
	f := catalog.ProcessFilter{Service: p.str("service"), Since: p.time("since", "now-1h"), Limit: maxProcesses}
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
	for _, p := range mergeProcesses(known, seen) {
		if p.State == "running" && now-p.LastSeen > silentAfter.Milliseconds() {
			p.State = "silent"
		}
		out = append(out, processJSON{Instance: p.Instance, Service: p.Service, Version: p.Version, GoVersion: p.GoVersion, Build: p.BuildID, Host: p.Host,
			PID: p.PID, Exe: p.Exe, Gatherer: p.Gatherer, State: p.State, Reason: p.Reason, Started: p.Started, LastSeen: p.LastSeen, Labels: p.Labels})
	}
	return map[string]any{"processes": out, "summary": summary}, nil
}

// mergeProcesses adds to known what only discovery has seen. Of a process in both, the row of the catalogue stays, with
// discovery's fresher state; one that its agent reports under an instance of its own is recognised by boot, start and pid.
func mergeProcesses(known, seen []catalog.Process) []catalog.Process {
	out := slices.Clone(known)
	byInstance := make(map[string]int, len(known))
	agents := make(map[identity][]int)
	for i, p := range known {
		byInstance[p.Instance] = i
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
	for _, s := range seen {
		if i := agentOf(s); i >= 0 {
			out[i].LastSeen = max(out[i].LastSeen, s.LastSeen)
			continue
		}
		if i, ok := byInstance[s.Instance]; ok {
			// A gatherer that took profiles knows better who it was than one that only looks.
			if s.Gatherer == "" {
				s.Gatherer = out[i].Gatherer
			}
			out[i].State, out[i].Reason, out[i].Gatherer = s.State, s.Reason, s.Gatherer
			out[i].LastSeen = max(out[i].LastSeen, s.LastSeen)
			continue
		}
		out = append(out, s)
	}
	// A row that discovery wrote for a process before its agent reported it is the same process.
	return slices.DeleteFunc(out, func(p catalog.Process) bool { return p.LabelsHash == "" && agentOf(p) >= 0 })
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
