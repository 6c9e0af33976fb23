package cputime

import "time"

// rusageThread is RUSAGE_THREAD, which package syscall does not name.
const rusageThread = 1

// Thread returns the CPU time of the calling thread.
func Thread() time.Duration { return usage(rusageThread) }
