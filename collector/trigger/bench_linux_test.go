package trigger

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sonde-io/sonde/collector/capture"
	"github.com/sonde-io/sonde/internal/catalog"
)

// BenchmarkLook measures the CPU time of one look at a process of this machine, with the default rules. cpu-us/look is what matters: the machine may be busy.
func BenchmarkLook(b *testing.B) {
	e, err := New(Config{Executor: &desk{}, Source: &desk{}, Events: func(context.Context, []catalog.Event) error { return nil }})
	if err != nil {
		b.Fatal(err)
	}
	if err := e.SetRules(capture.DefaultRules()); err != nil {
		b.Fatal(err)
	}
	e.SetTargets([]Target{{PID: os.Getpid(), Process: catalog.Process{Instance: "self"}}})
	now := time.Now()
	e.round(b.Context(), now)
	began := spent(b)
	looks := 0
	for b.Loop() {
		now = now.Add(lookFar)
		e.round(b.Context(), now)
		looks++
	}
	b.ReportMetric(float64((spent(b)-began).Microseconds())/float64(looks), "cpu-us/look")
	if len(e.watches) != 1 {
		b.Error(fmt.Errorf("watches %d processes", len(e.watches)))
	}
}

// spent is the CPU time that this process has used.
func spent(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
