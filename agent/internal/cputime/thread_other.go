//go:build !linux && !windows

package cputime

import "time"

var epoch = time.Now()

// PerThread says that Thread is the thread's own time and not the wall clock.
const PerThread = false

// Thread returns the time since the program's start: an upper bound of what one thread can use between two calls.
func Thread() time.Duration { return time.Since(epoch) }
