package main

import (
	"os"
	"strconv"
	"testing"

	"github.com/sonde-io/sonde/collector/discover"
)

// TestWhatWasStartedIsKnownFromWhoStartedIt: /proc of a process that was just started may not have its arguments and environment yet, and here it has others.
func TestWhatWasStartedIsKnownFromWhoStartedIt(t *testing.T) {
	p, ok := describePID(os.Getpid(), discover.Command{Args: []string{"./alloc.bin", "1", "60"}, Env: []string{"PATH=/bin", "SONDE_SERVICE=beta0", "GODEBUG=gctrace=1"}})
	if !ok || p.Service != "beta0" || p.Labels["service_name"] != "beta0" || p.Conditions["args"] != "1 60" || p.Conditions["env_GODEBUG"] != "gctrace=1" {
		t.Errorf("service %q, labels %q, conditions %q", p.Service, p.Labels, p.Conditions)
	}
	if p.Labels["process_pid"] != strconv.Itoa(os.Getpid()) || p.BuildID == "" || p.StartTicks == 0 {
		t.Errorf("%+v", p)
	}
}
