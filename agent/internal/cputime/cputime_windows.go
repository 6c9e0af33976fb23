package cputime

import (
	"syscall"
	"time"
	"unsafe"
)

var (
	kernel32         = syscall.NewLazyDLL("kernel32.dll")
	getThreadTimes   = kernel32.NewProc("GetThreadTimes")
	getCurrentThread = kernel32.NewProc("GetCurrentThread")
)

// Process returns the CPU time of the whole process, user and kernel.
func Process() time.Duration {
	h, err := syscall.GetCurrentProcess()
	if err != nil {
		return 0
	}
	var created, exited, kernel, user syscall.Filetime
	if syscall.GetProcessTimes(h, &created, &exited, &kernel, &user) != nil {
		return 0
	}
	return ticks(kernel) + ticks(user)
}

// PerThread says that Thread is the thread's own time and not the wall clock.
const PerThread = true

// Thread returns the CPU time of the calling thread.
func Thread() time.Duration {
	h, _, _ := getCurrentThread.Call() // a constant, it cannot fail
	var created, exited, kernel, user syscall.Filetime
	ok, _, _ := getThreadTimes.Call(h, uintptr(unsafe.Pointer(&created)), uintptr(unsafe.Pointer(&exited)),
		uintptr(unsafe.Pointer(&kernel)), uintptr(unsafe.Pointer(&user)))
	if ok == 0 {
		return 0
	}
	return ticks(kernel) + ticks(user)
}

// ticks converts a span in units of 100 ns; Filetime's own method would subtract an epoch.
func ticks(f syscall.Filetime) time.Duration {
	return time.Duration(int64(f.HighDateTime)<<32|int64(f.LowDateTime)) * 100
}
