package collector

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/discover"
	"github.com/sonde-io/sonde/collector/godebug"
	"github.com/sonde-io/sonde/collector/inspect"
	"github.com/sonde-io/sonde/collector/perf"
	"github.com/sonde-io/sonde/collector/procstat"
	"github.com/sonde-io/sonde/collector/scrape"
	"github.com/sonde-io/sonde/collector/trigger"
	"github.com/sonde-io/sonde/symbols/binaries"
)

// agentSeen reports whether an agent reports the process.
func (g *gatherers) agentSeen(bootID string, pidns, startTicks uint64, pids []int) bool {
	_, ok := g.out.agentOf(discover.Identity{BootID: bootID, PIDNS: pidns, StartTicks: startTicks, PIDs: pids})
	return ok
}

// sampled says who profiles a process that has neither agent nor endpoint, or why nobody can.
func (g *gatherers) sampled(p *discover.Process) (gatherer, reason string) {
	var reasons []string
	ask := func(name string, can func(discover.Process) (bool, string)) bool {
		ok, why := can(*p)
		if !ok {
			reasons = append(reasons, name+": "+why)
		}
		return ok
	}
	if g.perf != nil && ask("perf", g.perf.Can) {
		gatherer = GatherPerf
	}
	if g.memory != nil && ask("memory", g.memory.Can) {
		gatherer = GatherPerf
	}
	if gatherer != "" {
		return gatherer, ""
	}
	return "", strings.Join(reasons, "; ")
}

// report hands on what a scan found.
func (g *gatherers) report(ctx context.Context, r discover.Report) {
	var sampled []perf.Target
	var read []inspect.Target
	g.tellBinaries(ctx, r.Processes)
	for _, p := range r.Processes {
		if p.PID == os.Getpid() {
			own := scrape.ProcessOf(p, g.host).Labels
			g.own.Store(&own)
		}
		if p.Gatherer != GatherPerf {
			continue
		}
		t, ok := g.target(&p, r.Time)
		if ok {
			sampled = append(sampled, t)
		}
		t.Weight = 1 // what is read from memory does not take turns: it costs little, and deltas need every capture
		read = append(read, inspect.Target(t))
	}
	if g.perf != nil {
		g.perf.SetTargets(sampled)
	}
	if g.memory != nil {
		g.memory.SetTargets(read)
	}
	known := procstat.Targets(r, g.host, g.out.agentOf)
	if g.kernel != nil {
		g.kernel.SetTargets(known)
	}
	g.rename(ctx, known)
	if g.logs != nil {
		at := make(map[int]labels.Labels, len(known))
		for _, t := range known {
			at[t.PID] = t.Labels
		}
		g.logs.SetKnown(godebug.KnownOf(r, func(pid int) (labels.Labels, bool) { ls, ok := at[pid]; return ls, ok }))
	}
	g.trigger.SetTargets(trigger.Targets(r, g.host, g.out.agentOf))
	g.cover.Report(ctx, r)
}

// rename tells of processes that are measured under another name than in the scan before.
func (g *gatherers) rename(ctx context.Context, known []procstat.Target) {
	names := make(map[ran]string, len(known))
	var old []string
	for _, t := range known {
		who := ran{t.PID, t.Start}
		if was := g.names[who]; was != "" && was != t.Instance {
			old = append(old, was)
		}
		names[who] = t.Instance
	}
	g.names = names
	if len(old) > 0 && g.out.renamed != nil {
		g.out.renamed(ctx, old)
	}
}

// ownLabels are those of the process that this is; none where no scan has found it yet.
func (g *gatherers) ownLabels() labels.Labels {
	if ls := g.own.Load(); ls != nil {
		return *ls
	}
	return labels.EmptyLabels()
}

// target is what is sampled of p at now; not ok where it is another replica's turn.
func (g *gatherers) target(p *discover.Process, now time.Time) (t perf.Target, ok bool) {
	t = perf.Target{PID: p.PID, Process: scrape.ProcessOf(*p, g.host), Build: scrape.BuildOf(*p), Cgroup: p.Cgroup, Weight: 1}
	t.Process.State = "" // a window is stored after its end, when discovery may have said that the process has ended
	if g.out.turns != nil {
		ok, t.Weight = g.out.turns(t.Process.Labels).Turn("cpu", p.Instance, now)
		return t, ok
	}
	return t, true
}

// lacks says what a process that is watched does not give, and why.
func (g *gatherers) lacks(instance string) (what []string) {
	if g.memory == nil {
		return nil
	}
	for _, st := range g.memory.Status() {
		if st.Instance != instance {
			continue
		}
		if st.Reason != "" {
			what = append(what, "memory: "+st.Reason)
		}
		for _, ty := range slices.Sorted(maps.Keys(st.Off)) {
			what = append(what, ty+": "+st.Off[ty])
		}
	}
	return what
}

// describe says whether and as what a process is sampled that began after the last scan.
func (g *gatherers) describe(ctx context.Context, pid int) (perf.Target, bool) {
	p, err := g.scanner.Look(ctx, pid)
	if err != nil || p.Gatherer != GatherPerf {
		return perf.Target{}, false
	}
	return g.target(&p, time.Now())
}

// tellBinaries tells of each build where its binary can be read, so that what others send as addresses of it can be named: again once the process has ended that had it.
func (g *gatherers) tellBinaries(ctx context.Context, ps []discover.Process) {
	if g.out.binaries == nil {
		return
	}
	alive := map[int]string{}
	for i := range ps {
		if ps[i].State != discover.Denied {
			alive[ps[i].PID] = ps[i].BuildID
		}
	}
	maps.DeleteFunc(g.told, func(id string, pid int) bool { return alive[pid] != id })
	for pid, id := range alive {
		if _, ok := g.told[id]; ok || id == "" {
			continue
		}
		g.told[id] = pid
		if err := g.out.binaries.Add(ctx, fmt.Sprintf("/proc/%d/exe", pid)); err != nil {
			g.log.Debug("cannot take up a binary", "pid", pid, "error", err)
			if g.out.lists != nil && errors.Is(err, binaries.ErrTooLarge) {
				g.out.lists.GiveUp(id, err)
			}
		}
	}
	if g.out.lists != nil {
		g.out.lists.SetBuilds(slices.Collect(maps.Keys(g.told)))
	}
}
