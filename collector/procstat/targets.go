package procstat

import (
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/discover"
	"github.com/sonde-io/sonde/collector/scrape"
	"github.com/sonde-io/sonde/internal/catalog"
)

// Target is a process to read.
type Target struct {
	PID      int
	Start    uint64 // ticks after boot, as in /proc/PID/stat
	Instance string
	Labels   labels.Labels // of its series
	Started  time.Time
	Agent    bool // its agent tells process_*
	Launcher bool // it may have started others of its cgroup, and tells of that only where they do not: Sonde's own command
}

// ownCommand is the main package of the command, under which programs run by "sonde run".
const ownCommand = "github.com/sonde-io/sonde/cmd/sonde"

// Targets returns the targets of what a scan found: all processes but those that rules or their owners want left alone, the scanner itself, and those whose agent's first push is awaited, which will have
// another name then. agentOf returns the row under which an agent reports the process of that identity; a process whose agent says nothing any more is read as any other.
func Targets(r discover.Report, host string, agentOf func(id discover.Identity) (catalog.Process, bool)) []Target {
	out := make([]Target, 0, len(r.Processes))
	for i := range r.Processes {
		p := &r.Processes[i]
		switch p.State {
		case discover.Denied, discover.SelfProcess, discover.Waiting:
			continue
		}
		if p.Service == "" || p.Off {
			continue
		}
		row := scrape.ProcessOf(*p, host)
		t := Target{PID: p.PID, Start: p.StartTicks, Instance: p.Instance, Labels: row.Labels, Started: p.Started, Launcher: p.Build != nil && p.Build.Mod != nil && p.Build.Mod.Path == ownCommand}
		if p.State == discover.ByAgent && agentOf != nil {
			if row, ok := agentOf(p.Identity); ok {
				t.Agent, t.Instance, t.Labels = true, row.Instance, row.Labels
			}
		}
		out = append(out, t)
	}
	return out
}
