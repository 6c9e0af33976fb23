package store

import (
	"syscall"
	"time"
)

// rusageThread asks for what the calling thread used. The package syscall does not name it.
const rusageThread = 1

// threadCPU returns the CPU time of the calling thread so far.
func threadCPU() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(rusageThread, &r); err != nil {
		return 0 // it has no error for a valid argument
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
