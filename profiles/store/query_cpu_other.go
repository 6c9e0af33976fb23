//go:build !linux

package store

import "time"

var processStart = time.Now()

// threadCPU returns the time that has passed: there is no portable way to ask for a thread's CPU time, of which this is the upper bound.
func threadCPU() time.Duration { return time.Since(processStart) }
