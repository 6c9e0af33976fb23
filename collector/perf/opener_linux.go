package perf

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/sonde-io/sonde/symbols/build"
	"github.com/sonde-io/sonde/symbols/pclntab"
)

// openRequest asks to open a process.
type openRequest struct {
	pid    int
	target *Target // nil: one that ran; Describe is asked
}

// opened is the answer.
type opened struct {
	pid    int
	w      *watch
	ignore bool   // not to be watched
	cause  string // of the refusal, as metrics name it
	reason string // in words
	start  uint64
}

// opener opens processes until ctx is done. What it opened and nobody takes it gives back.
func (s *Sampler) opener(ctx context.Context, requests <-chan openRequest, answers chan<- opened) {
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-requests:
			var a opened
			meter(&s.work, func() { a = s.open(ctx, r) })
			select {
			case answers <- a:
			case <-ctx.Done():
				if a.w != nil {
					s.progs.release(a.w.prog)
				}
				return
			}
		}
	}
}

// open opens the binary and the mappings of a process before anything else, since it may be about to end.
func (s *Sampler) open(ctx context.Context, r openRequest) opened {
	f, err := os.Open(fmt.Sprintf("/proc/%d/exe", r.pid))
	if err != nil {
		return s.openFailed(r, err)
	}
	dynamic := r.target == nil
	if dynamic && !s.progs.isGo(f) { // most of what runs on a machine that compiles
		f.Close()
		return opened{pid: r.pid, ignore: true}
	}
	exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", r.pid))
	mapped, err := readMaps(r.pid)
	start := startTicks(r.pid)
	if err == nil && len(mapped) == 0 {
		err = fs.ErrNotExist // ended while it was being opened
	}
	if err != nil {
		f.Close()
		return s.openFailed(r, err)
	}
	if dynamic {
		t, ok := s.cfg.Describe(ctx, r.pid)
		if !ok {
			f.Close()
			return opened{pid: r.pid, ignore: true}
		}
		t.PID = r.pid
		r.target = &t
	}
	if want := r.target.Process.StartTicks; want != 0 && start != 0 && want != start {
		f.Close()
		return opened{pid: r.pid, ignore: true, cause: "gone", reason: "its pid belongs to another process by now", start: want}
	}
	a := opened{pid: r.pid, start: start}
	a.w, err = s.watchOf(r.target, f, exe, mapped)
	if err != nil {
		a = s.openFailed(r, err)
		a.start = start
		return a
	}
	a.w.start, a.w.dynamic = start, dynamic
	return a
}

// watchOf makes the watch of a process whose binary is f, which it takes over.
func (s *Sampler) watchOf(t *Target, f *os.File, exe string, mapped []mapping) (*watch, error) {
	key, err := keyOf(f)
	if err != nil {
		f.Close()
		return nil, err
	}
	id := ""
	if t.Build != nil {
		id = t.Build.ID
	}
	prog, err := s.progs.acquire(f, key, id)
	if err != nil {
		return nil, err
	}
	return &watch{target: *t, prog: prog, exe: exe, maps: mapped}, nil
}

// keyOf tells what file f is.
func keyOf(f *os.File) (programKey, error) {
	st, err := f.Stat()
	if err != nil {
		return programKey{}, err
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok || !st.Mode().IsRegular() {
		return programKey{}, errors.New("not a regular file")
	}
	return programKey{uint64(sys.Dev), sys.Ino, st.Size(), st.ModTime().UnixNano()}, nil
}

// isGo reports whether the executable f says that it is a Go program, as discovery finds out; it is read once.
func (bs *programs) isGo(f *os.File) bool {
	key, err := keyOf(f)
	if err != nil {
		return false
	}
	bs.mu.Lock()
	is, known := bs.checked[key]
	bs.mu.Unlock()
	if known {
		return is
	}
	_, err = build.Read(f)
	bs.mu.Lock()
	defer bs.mu.Unlock()
	if bs.checked == nil || len(bs.checked) >= maxChecked {
		bs.checked = map[programKey]bool{}
	}
	bs.checked[key] = err == nil
	return err == nil
}

// openFailed says why a process cannot be watched.
func (s *Sampler) openFailed(r openRequest, err error) opened {
	a := opened{pid: r.pid}
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH):
		a.cause, a.reason, a.ignore = "gone", "it ended before its binary could be opened", true
	case errors.Is(err, fs.ErrPermission):
		a.cause, a.reason = "rights", "its binary may not be read: CAP_SYS_PTRACE is missing"
	case errors.Is(err, pclntab.ErrVersion):
		a.cause, a.reason = "version", err.Error()
	default:
		a.cause, a.reason = "binary", "its binary cannot be read: "+err.Error()
	}
	return a
}

// maxMapsBytes bounds what is read of /proc/PID/maps.
const maxMapsBytes = 4 << 20

func readMaps(pid int) ([]mapping, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxMapsBytes))
	if err != nil {
		return nil, err
	}
	return parseMaps(b), nil
}

// life is whether a process goes on.
type life int

const (
	running life = iota
	dying        // its first thread has ended, others have not yet
	gone
)

// stateOf reports whether the process that began at start goes on; 0 stands for any start.
func stateOf(pid int, start uint64) life {
	ticks, state, ok := stat(pid)
	if !ok || start != 0 && ticks != start {
		return gone
	}
	if state != "Z" && state != "X" {
		return running
	}
	if tids, err := threads(pid); err == nil && len(tids) > 1 {
		return dying
	}
	return gone
}

// startTicks reads when a process began, in ticks since boot; 0 where it is gone.
func startTicks(pid int) uint64 {
	ticks, _, _ := stat(pid)
	return ticks
}

func stat(pid int) (start uint64, state string, ok bool) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, "", false
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 20 {
		return 0, "", false
	}
	start, err = strconv.ParseUint(fields[19], 10, 64)
	return start, fields[0], err == nil
}
