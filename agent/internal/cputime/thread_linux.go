package cputime

import "time"

// rusageThread is RUSAGE_THREAD, which package syscall does not name.
const rusageThread = 1

// PerThread says that Thread is the thread's own time and not the wall clock.
const PerThread = true

// Thread returns the CPU time of the calling thread.
func Thread() time.Duration { return usage(rusageThread) }
