package perf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// errEvents says that MaxEvents does not suffice.
var errEvents = errors.New("too many events")

// events are the open events of one kind, CPU clock or context switches, and their rings, one per CPU.
type events struct {
	mode    Mode
	cpus    []int
	rings   []*ring
	attr    *unix.PerfEventAttr
	owners  []int            // of the rings, one per CPU
	cgroups map[string][]int // directory → descriptors
	budget  *int             // descriptors that may still be opened, shared by all kinds
	enabled bool
}

// openEvents opens the rings and, in ModeSystem, the events.
func openEvents(mode Mode, cpus []int, attr *unix.PerfEventAttr, pages int, budget *int) (*events, error) {
	e := &events{mode: mode, cpus: cpus, attr: attr, budget: budget, cgroups: map[string][]int{}}
	own, pid := dummy(), 0
	if mode == ModeSystem {
		own, pid = attr, -1
	}
	for _, cpu := range cpus {
		fd, err := e.open(own, pid, cpu, 0)
		if errors.Is(err, unix.ENODEV) { // went offline meanwhile
			continue
		}
		if err != nil {
			e.close()
			return nil, fmt.Errorf("open event of CPU %d: %w", cpu, err)
		}
		e.owners = append(e.owners, fd)
		r, err := newRing(fd, cpu, pages)
		if err != nil {
			e.close()
			return nil, err
		}
		e.rings = append(e.rings, r)
	}
	return e, nil
}

func (e *events) open(attr *unix.PerfEventAttr, pid, cpu, flags int) (int, error) {
	if *e.budget <= 0 {
		return -1, errEvents
	}
	fd, err := openEvent(attr, pid, cpu, flags)
	if err == nil {
		*e.budget--
	}
	return fd, err
}

func (e *events) shut(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
		*e.budget++
	}
}

func (e *events) close() {
	for _, r := range e.rings {
		r.close()
	}
	e.shut(e.owners)
	for _, fds := range e.cgroups {
		e.shut(fds)
	}
	e.rings, e.owners, e.cgroups = nil, nil, nil
}

// add opens the event on every CPU for pid (a thread, or the descriptor of a cgroup with flags saying so) with its output into the rings.
func (e *events) add(attr *unix.PerfEventAttr, pid, flags int) (fds []int, err error) {
	for _, r := range e.rings {
		fd, err := e.open(attr, pid, r.cpu, flags)
		if errors.Is(err, unix.ENODEV) {
			continue
		}
		if err != nil {
			e.shut(fds)
			return nil, err
		}
		fds = append(fds, fd)
		if err := unix.IoctlSetInt(fd, unix.PERF_EVENT_IOC_SET_OUTPUT, r.fd); err != nil {
			e.shut(fds)
			return nil, fmt.Errorf("share ring: %w", err)
		}
		if e.enabled {
			if err := unix.IoctlSetInt(fd, unix.PERF_EVENT_IOC_ENABLE, 0); err != nil {
				e.shut(fds)
				return nil, fmt.Errorf("enable event: %w", err)
			}
		}
	}
	return fds, nil
}

// addProcess opens events for the threads of pid, which those that they start inherit. inherited reports whether a thread began as one's child while its parent was
// watched already. It returns the descriptors.
func (e *events) addProcess(pid int, inherited func(tid int) bool) (fds []int, err error) {
	attr := *e.attr
	attr.Bits |= unix.PerfBitInherit
	have := map[int]bool{}
	for pass := range 5 { // threads may start while events are opened
		tids, err := threads(pid)
		if err != nil {
			e.shut(fds)
			return nil, err
		}
		added := false
		for _, tid := range tids {
			if have[tid] || pass > 0 && inherited(tid) {
				continue
			}
			have[tid], added = true, true
			more, err := e.add(&attr, tid, 0)
			if errors.Is(err, unix.ESRCH) {
				continue
			}
			if err != nil {
				e.shut(fds)
				return nil, err
			}
			fds = append(fds, more...)
		}
		if !added {
			break
		}
	}
	if len(fds) == 0 {
		return nil, unix.ESRCH
	}
	return fds, nil
}

// threads lists the threads of a process.
func threads(pid int) ([]int, error) {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return nil, err
	}
	var out []int
	for _, e := range entries {
		if tid, err := strconv.Atoi(e.Name()); err == nil {
			out = append(out, tid)
		}
	}
	return out, nil
}

// addCgroup opens events for a cgroup, unless those of one above it are open already; the ones of cgroups below it are closed.
func (e *events) addCgroup(dir string) error {
	for have := range e.cgroups {
		if within(dir, have) {
			return nil
		}
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open cgroup %s: %w", dir, err)
	}
	defer unix.Close(fd)
	fds, err := e.add(e.attr, fd, unix.PERF_FLAG_PID_CGROUP)
	if err != nil {
		return fmt.Errorf("open events of cgroup %s: %w", dir, err)
	}
	for have, old := range e.cgroups {
		if within(have, dir) {
			e.shut(old)
			delete(e.cgroups, have)
		}
	}
	e.cgroups[dir] = fds
	return nil
}

// keepCgroups closes the events of all other cgroups.
func (e *events) keepCgroups(dirs []string) {
	for have, fds := range e.cgroups {
		if !slices.ContainsFunc(dirs, func(dir string) bool { return within(dir, have) }) {
			e.shut(fds)
			delete(e.cgroups, have)
		}
	}
}

func within(dir, above string) bool {
	return dir == above || strings.HasPrefix(dir, strings.TrimSuffix(above, "/")+"/")
}

// each calls f with the descriptors of events: those of more are the processes'.
func (e *events) each(more [][]int, f func(fd int)) {
	if e.mode == ModeSystem {
		more = append(more, e.owners)
	}
	for _, fds := range e.cgroups {
		more = append(more, fds)
	}
	for _, fds := range more {
		for _, fd := range fds {
			f(fd)
		}
	}
}

// enable switches events on or off; an event whose process ended does not mind.
func (e *events) enable(on bool, more [][]int) {
	if e.enabled == on {
		return
	}
	e.enabled = on
	request := uint(unix.PERF_EVENT_IOC_DISABLE)
	if on {
		request = unix.PERF_EVENT_IOC_ENABLE
	}
	e.each(more, func(fd int) { _ = unix.IoctlSetInt(fd, request, 0) })
}

// period changes the period of the events, and of those that are opened later.
func (e *events) period(n uint64, more [][]int) {
	if e.attr.Sample == n {
		return
	}
	e.attr.Sample = n
	e.each(more, func(fd int) {
		_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.PERF_EVENT_IOC_PERIOD, uintptr(unsafe.Pointer(&n)))
	})
}

// perfCgroup returns the directory of the cgroup that perf counts pid in: of the perf_event controller of version 1, else of version 2.
func perfCgroup(pid int) (string, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return "", err
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	dir, err := cgroupDir(string(b), string(mounts))
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(dir); err != nil {
		return "", err
	}
	return filepath.Clean(dir), nil
}
