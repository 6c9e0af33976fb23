//go:build !linux && !windows

package cputime

import "time"

var epoch = time.Now()

// Thread returns the time since the program's start: an upper bound of what one thread can use between two calls.
func Thread() time.Duration { return time.Since(epoch) }
