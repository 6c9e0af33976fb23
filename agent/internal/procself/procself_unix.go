//go:build unix && !linux

package procself

import "syscall"

// Read returns what is known now: what these systems tell of memory is only its peak.
func Read() Reading {
	r := unknown()
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) == nil {
		r.MaxFDs = float64(limit.Cur)
	}
	return r
}
