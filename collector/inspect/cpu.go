package inspect

import (
	"runtime"
	"time"
)

// cpuClock measures the CPU time of the goroutine that started it, which stays on its thread until it is stopped.
type cpuClock struct{ from time.Duration }

func startCPU() cpuClock {
	runtime.LockOSThread()
	return cpuClock{threadCPU()}
}

func (c cpuClock) stop() time.Duration {
	d := threadCPU() - c.from
	runtime.UnlockOSThread()
	return d
}
