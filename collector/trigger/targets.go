package trigger

import (
	"github.com/sonde-io/sonde/collector/discover"
	"github.com/sonde-io/sonde/collector/scrape"
	"github.com/sonde-io/sonde/internal/catalog"
)

// Targets returns the targets of what a scan found: processes that are profiled from outside, and those whose agent reports them. agentOf returns the row under which an agent reports
// the process of that identity; without one (nil, or false) the process's own row stands for it.
func Targets(r discover.Report, host string, agentOf func(id discover.Identity) (catalog.Process, bool)) []Target {
	var out []Target
	for i := range r.Processes {
		p := &r.Processes[i]
		if p.State != discover.Profiling && p.State != discover.ByAgent {
			continue
		}
		t := Target{PID: p.PID, Start: p.StartTicks, Process: scrape.ProcessOf(*p, host)}
		if p.State == discover.ByAgent {
			t.Agent = true
			if agentOf != nil {
				if row, ok := agentOf(p.Identity); ok {
					row.Started, t.Process = t.Process.Started, row
				}
			}
		}
		out = append(out, t)
	}
	return out
}
