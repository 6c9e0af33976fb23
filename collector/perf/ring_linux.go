package perf

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ring is the memory that the kernel writes the records of one CPU's events into, oldest overwritten never: what has no room is counted as lost.
type ring struct {
	cpu  int
	fd   int // of the event that it belongs to; open as long as the ring is used
	mem  []byte
	meta *unix.PerfEventMmapPage
	buf  []byte // a record that wraps around
}

const (
	userStackBytes = 64  // above SP: the return address of a function that has not yet pushed its frame pointer
	ringPages      = 32  // of one CPU's ring, a power of two: more than a second of the deepest stacks at 99 Hz
	offRingPages   = 128 // of off-CPU events, of which there are more
)

// newRing maps the ring of the event fd. Where the memory that may be locked does not suffice it takes less, down to four pages.
func newRing(fd, cpu, pages int) (*ring, error) {
	for ; ; pages /= 2 {
		mem, err := unix.Mmap(fd, 0, (1+pages)*os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err == nil {
			return &ring{cpu: cpu, fd: fd, mem: mem, meta: (*unix.PerfEventMmapPage)(unsafe.Pointer(&mem[0]))}, nil
		}
		if !errors.Is(err, unix.EPERM) || pages <= 4 {
			return nil, fmt.Errorf("map ring of %d pages: %w", pages, err)
		}
	}
}

func (r *ring) close() { _ = unix.Munmap(r.mem) }

// drain calls f with the records that are there, each valid during the call.
func (r *ring) drain(f func(b []byte)) {
	data := r.mem[os.Getpagesize():]
	size := uint64(len(data))
	head, tail := atomic.LoadUint64(&r.meta.Data_head), r.meta.Data_tail
	for tail < head {
		at := tail % size
		// Records are multiples of 8 bytes, so a header never wraps.
		n := uint64(*(*uint16)(unsafe.Pointer(&data[at+6])))
		if n < 8 || n > head-tail {
			tail = head // cannot happen unless the kernel is wrong; start anew
			f(nil)
			break
		}
		b := data[at:min(at+n, size)]
		if uint64(len(b)) < n {
			r.buf = append(append(r.buf[:0], b...), data[:n-uint64(len(b))]...)
			b = r.buf
		}
		f(b)
		tail += n
	}
	atomic.StoreUint64(&r.meta.Data_tail, tail)
}

// regs are the registers of the user's side that samples carry.
func userRegs() uint64 {
	switch runtime.GOARCH {
	case "arm64":
		return 1<<30 | 1<<31 // LR, SP
	case "amd64":
		return 1 << 7 // SP
	}
	return 0
}

// cpuClock is the event that takes samples: a high-resolution timer that runs while the thread does.
func cpuClock(hz int, kernel, kernelStacks bool) *unix.PerfEventAttr {
	attr := baseAttr()
	attr.Config = unix.PERF_COUNT_SW_CPU_CLOCK
	attr.Sample = uint64(1e9 / hz)
	attr.Bits |= unix.PerfBitComm | unix.PerfBitTask | unix.PerfBitMmap | unix.PerfBitMmap2 | unix.PerfBitCommExec | unix.PerfBitExcludeIdle
	if !kernel {
		attr.Bits |= unix.PerfBitExcludeKernel
	}
	if !kernelStacks {
		attr.Bits |= unix.PerfBitExcludeCallchainKernel
	}
	return attr
}

// switches is the event that takes a sample each time a thread leaves the CPU, and tells when threads leave and come back.
func switches(every int) *unix.PerfEventAttr {
	attr := baseAttr()
	attr.Config = unix.PERF_COUNT_SW_CONTEXT_SWITCHES
	attr.Sample = uint64(every)
	attr.Bits |= unix.PerfBitContextSwitch | unix.PerfBitExcludeCallchainKernel
	return attr
}

// dummy is an event that never happens: it owns a ring that other events write into.
func dummy() *unix.PerfEventAttr {
	attr := baseAttr()
	attr.Config = unix.PERF_COUNT_SW_DUMMY
	attr.Bits |= unix.PerfBitExcludeKernel
	return attr
}

func baseAttr() *unix.PerfEventAttr {
	attr := &unix.PerfEventAttr{
		Type:        unix.PERF_TYPE_SOFTWARE,
		Size:        uint32(unsafe.Sizeof(unix.PerfEventAttr{})),
		Sample_type: unix.PERF_SAMPLE_TID | unix.PERF_SAMPLE_TIME | unix.PERF_SAMPLE_PERIOD | unix.PERF_SAMPLE_CALLCHAIN,
		Bits:        unix.PerfBitDisabled | unix.PerfBitExcludeHv | unix.PerfBitExcludeGuest | unix.PerfBitSampleIDAll | unix.PerfBitUseClockID,
		Wakeup:      1 << 30, // nobody waits: rings are looked at by the clock
		Clockid:     unix.CLOCK_MONOTONIC,
	}
	if regs := userRegs(); regs != 0 {
		attr.Sample_type |= unix.PERF_SAMPLE_REGS_USER | unix.PERF_SAMPLE_STACK_USER
		attr.Sample_regs_user = regs
		attr.Sample_stack_user = userStackBytes
	}
	return attr
}

// openEvent opens an event. Interrupted calls are made again.
func openEvent(attr *unix.PerfEventAttr, pid, cpu, flags int) (int, error) {
	for {
		fd, err := unix.PerfEventOpen(attr, pid, cpu, -1, flags|unix.PERF_FLAG_FD_CLOEXEC)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

// onlineCPUs reads which CPUs there are.
func onlineCPUs() ([]int, error) {
	b, err := os.ReadFile("/sys/devices/system/cpu/online")
	if err != nil {
		return nil, fmt.Errorf("list CPUs: %w", err)
	}
	return parseCPUs(strings.TrimSpace(string(b)))
}

// parseCPUs reads a list such as "0-3,8".
func parseCPUs(list string) ([]int, error) {
	var out []int
	for part := range strings.SplitSeq(list, ",") {
		lo, hi, isRange := strings.Cut(part, "-")
		if !isRange {
			hi = lo
		}
		a, err1 := strconv.Atoi(lo)
		z, err2 := strconv.Atoi(hi)
		if err1 != nil || err2 != nil || a < 0 || z < a || z > 1<<16 {
			return nil, fmt.Errorf("list CPUs: %q is no list of CPUs", list)
		}
		for ; a <= z; a++ {
			out = append(out, a)
		}
	}
	return out, nil
}
