package scrape

import (
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/sonde-io/sonde/collector/discover"
	"github.com/sonde-io/sonde/symbols/build"
)

// TestNewBuild: Seen is told of a build with the first process that runs it, and again after an hour, when the collector may have forgotten it.
func TestNewBuild(t *testing.T) {
	m := &Manager{}
	now := time.Unix(1e9, 0)
	p := discover.Process{State: discover.NoEndpoint, BuildID: "b1", Build: &build.Info{GNUBuildID: "b1", Size: 7, Stripped: "yes", Mod: &debug.BuildInfo{Path: "example.com/x"}}}
	if b := m.newBuild(p, now); b == nil || b.ID != "b1" || b.Size != 7 || b.Stripped != "yes" || b.Module != "example.com/x" {
		t.Errorf("first: %+v", b)
	}
	if b := m.newBuild(p, now.Add(time.Minute)); b != nil {
		t.Errorf("a minute later: %+v", b)
	}
	if b := m.newBuild(p, now.Add(retellBuild)); b == nil {
		t.Error("an hour later: nothing")
	}
	for name, change := range map[string]func(*discover.Process){
		"denied":     func(p *discover.Process) { p.State = discover.Denied },
		"unreadable": func(p *discover.Process) { p.Build = nil },
		"without id": func(p *discover.Process) { p.BuildID = "" },
		"too long":   func(p *discover.Process) { p.Build.Mod.Path = strings.Repeat("x", maxSeenInfo) },
	} {
		q := p
		q.BuildID = "other"
		info := *p.Build
		info.Mod = &debug.BuildInfo{Path: "example.com/x"}
		q.Build = &info
		change(&q)
		if b := m.newBuild(q, now); b != nil {
			t.Errorf("%s: %+v", name, b)
		}
	}
}
