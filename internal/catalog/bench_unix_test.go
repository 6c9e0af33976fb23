//go:build unix

package catalog

import (
	"syscall"
	"testing"
	"time"
)

// cpuTime returns the CPU time of the process so far: on a busy machine wall time says nothing.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
