package perf

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Capabilities by their bits in CapEff.
const (
	capSysPtrace = 19
	capSysAdmin  = 21
	capPerfmon   = 38
)

// rights are what this process may do, as far as it decides what can be sampled.
type rights struct {
	caps     uint64
	uid      int
	paranoid int // kernel.perf_event_paranoid; -2: not readable

	system  bool // events for all processes may be opened
	own     bool // events for processes of its own user
	kernel  bool // time in the kernel counts
	refused []string
}

func (r *rights) has(bit int) bool { return r.caps&(1<<bit) != 0 }

// readRights finds out by trying: the kernel, its settings and a seccomp filter all have a say.
func readRights() *rights {
	r := &rights{uid: os.Geteuid(), paranoid: -2}
	if b, err := os.ReadFile("/proc/self/status"); err == nil {
		r.caps = capEff(string(b))
	}
	if b, err := os.ReadFile("/proc/sys/kernel/perf_event_paranoid"); err == nil {
		if n, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
			r.paranoid = n
		}
	}
	cpus, err := onlineCPUs()
	if err != nil {
		r.refused = append(r.refused, err.Error())
		return r
	}
	try := func(pid int, kernel bool) error {
		fd, err := openEvent(cpuClock(99, kernel, false), pid, cpus[0], 0)
		if err == nil {
			unix.Close(fd)
		}
		return err
	}
	sysErr := try(-1, true)
	r.system = sysErr == nil
	r.kernel = r.system || try(0, true) == nil
	ownErr := error(nil)
	if !r.system {
		ownErr = try(0, false)
	}
	r.own = ownErr == nil
	if !r.own {
		r.refused = append(r.refused, r.words("sampling", ownErr))
		return r
	}
	if !r.system {
		r.refused = append(r.refused, r.words("sampling the whole machine", sysErr)+"; processes are sampled one by one")
	}
	if !r.kernel {
		r.refused = append(r.refused, "time in the kernel is not counted: CAP_PERFMON is missing ("+r.setting(1)+")")
	}
	if !r.has(capSysPtrace) {
		r.refused = append(r.refused, "processes of other users are not sampled: CAP_SYS_PTRACE is missing")
	}
	return r
}

// capEff returns the effective capabilities in /proc/PID/status.
func capEff(status string) uint64 {
	for line := range strings.Lines(status) {
		if v, ok := strings.CutPrefix(line, "CapEff:"); ok {
			n, _ := strconv.ParseUint(strings.TrimSpace(v), 16, 64)
			return n
		}
	}
	return 0
}

// setting says what perf_event_paranoid is and which value would do without the capability.
func (r *rights) setting(enough int) string {
	if r.paranoid == -2 {
		return "kernel.perf_event_paranoid cannot be read"
	}
	return fmt.Sprintf("kernel.perf_event_paranoid is %d; %d would do without it", r.paranoid, enough)
}

// words says why perf_event_open refused, and what is missing.
func (r *rights) words(what string, err error) string {
	holds := r.has(capPerfmon) || r.has(capSysAdmin)
	enough := 0
	if what == "sampling" {
		enough = 2
	}
	switch {
	case errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP):
		return what + " is refused: this kernel was built without perf events, or a seccomp filter hides them"
	case errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE):
		return what + " is refused: no more file descriptors (ulimit -n)"
	case (errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES)) && (holds || r.paranoid >= 0 && r.paranoid <= enough):
		return what + " is refused though the rights suffice: a seccomp filter or the kernel's lockdown forbids perf_event_open"
	case errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES):
		return what + " is refused: CAP_PERFMON is missing (" + r.setting(enough) + ")"
	}
	return what + " is refused: " + err.Error()
}
