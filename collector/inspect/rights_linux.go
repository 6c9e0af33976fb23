package inspect

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// capSysPtrace is the number of CAP_SYS_PTRACE.
const capSysPtrace = 19

// rights are what this process may read of others.
type rights struct {
	uid     int
	ptrace  bool   // CAP_SYS_PTRACE is held
	yama    int    // kernel.yama.ptrace_scope; 0 where there is none
	machine string // why nothing can be read on this machine; ""

	mu       sync.Mutex
	verdicts map[string]verdict // by instance
}

// verdict is what a trial said of a process.
type verdict struct {
	reason string
	until  time.Time
}

const (
	verdictLife = time.Minute
	maxVerdicts = 8192
)

// readRights finds out by trying: the kernel, its settings and a seccomp filter all have a say.
func readRights() *rights {
	r := &rights{uid: os.Geteuid(), verdicts: map[string]verdict{}}
	if b, err := os.ReadFile("/proc/self/status"); err == nil {
		for line := range strings.Lines(string(b)) {
			if hex, ok := strings.CutPrefix(line, "CapEff:"); ok {
				caps, err := strconv.ParseUint(strings.TrimSpace(hex), 16, 64)
				r.ptrace = err == nil && caps&(1<<capSysPtrace) != 0
			}
		}
	}
	if b, err := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope"); err == nil {
		r.yama, _ = strconv.Atoi(strings.TrimSpace(string(b))) // what is no number is no Yama
	}
	var there, here byte = 1, 0
	self := &process{pid: os.Getpid()}
	n, err := self.readv([]part{{uint64(uintptr(unsafe.Pointer(&there))), unsafe.Slice(&here, 1)}})
	switch {
	case errors.Is(err, unix.ENOSYS):
		r.machine = "the kernel has no process_vm_readv (CONFIG_CROSS_MEMORY_ATTACH)"
	case errors.Is(err, unix.EPERM):
		r.machine = "a seccomp filter forbids process_vm_readv, even of one's own memory: allow it, or add CAP_SYS_PTRACE, which container runtimes allow it with"
	case err != nil || n != 1 || here != there:
		r.machine = fmt.Sprintf("process_vm_readv of one's own memory failed: %v", err)
	case r.yama >= 3:
		r.machine = "kernel.yama.ptrace_scope is 3: nobody may read another process's memory until the next boot"
	}
	return r
}

// reason says why the memory of a process cannot be read, "" if it can. It tries, and remembers the answer for a minute.
func (r *rights) reason(instance string, pid, uid int) string {
	if r.machine != "" {
		return r.machine
	}
	now := time.Now()
	r.mu.Lock()
	v, ok := r.verdicts[instance]
	r.mu.Unlock()
	if ok && now.Before(v.until) {
		return v.reason
	}
	v = verdict{r.try(pid, uid), now.Add(verdictLife)}
	r.mu.Lock()
	if len(r.verdicts) >= maxVerdicts {
		clear(r.verdicts)
	}
	r.verdicts[instance] = v
	r.mu.Unlock()
	return v.reason
}

// try reads one byte of the process. An address at which nothing is does: rights are looked at first.
func (r *rights) try(pid, uid int) string {
	p := &process{pid: pid}
	var b [1]byte
	_, err := p.readv([]part{{4096, b[:]}})
	switch {
	case err == nil || errors.Is(err, errGone):
		return "" // who is gone is found out when it is read
	case !refusedByKernel(err):
		return err.Error()
	case r.ptrace:
		return "its memory may not be read, though CAP_SYS_PTRACE is held: it belongs to an outer user namespace, or a security module forbids it"
	case uid != r.uid:
		return fmt.Sprintf("reading the memory of a process of uid %d as uid %d: CAP_SYS_PTRACE is missing", uid, r.uid)
	case r.yama > 0:
		return fmt.Sprintf("kernel.yama.ptrace_scope is %d: CAP_SYS_PTRACE is missing, which is needed even for processes of one's own user", r.yama)
	}
	return "its memory may not be read: it has capabilities or changed its user, which takes CAP_SYS_PTRACE"
}

// missing says what it takes to read processes that may not be read.
func (r *rights) missing() string {
	switch {
	case r.machine != "":
		return r.machine
	case r.ptrace:
		return "the kernel refuses, though CAP_SYS_PTRACE is held: the process belongs to an outer user namespace, or a security module forbids it"
	case r.yama > 0:
		return fmt.Sprintf("CAP_SYS_PTRACE is missing, which kernel.yama.ptrace_scope %d makes necessary for every process", r.yama)
	}
	return fmt.Sprintf("CAP_SYS_PTRACE is missing, which takes reading processes of other users than uid %d, or that have capabilities", r.uid)
}

// refusedByKernel reports whether err says that rights are missing.
func refusedByKernel(err error) bool {
	return errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES)
}

// began returns errGone unless the process began at those clock ticks (field 22 of its stat); 0: unknown.
func (p *process) began(ticks uint64) error {
	if ticks == 0 {
		return nil
	}
	f, err := p.file("stat")
	if err != nil {
		return err
	}
	defer f.Close()
	var b [4096]byte
	n, err := f.Read(b[:])
	if errors.Is(err, unix.ESRCH) {
		return errGone
	}
	if err != nil {
		return fmt.Errorf("read /proc/%d/stat: %w", p.pid, err)
	}
	s := string(b[:n])
	fields := strings.Fields(s[strings.LastIndexByte(s, ')')+1:]) // from field 3 on: the name before may hold anything
	if len(fields) < 20 {
		return fmt.Errorf("read /proc/%d/stat: %d fields", p.pid, len(fields))
	}
	if got, err := strconv.ParseUint(fields[19], 10, 64); err != nil || got != ticks {
		return errGone // another process has its pid
	}
	return nil
}

// monotonic is the clock that goroutines' times of waiting are of, ns.
func monotonic() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0
	}
	return ts.Nano()
}

// threadCPU is the CPU time of the calling thread.
func threadCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(unix.RUSAGE_THREAD, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
