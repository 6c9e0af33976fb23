package perf

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles/store"
)

const (
	maxAppends    = 16               // pushes that the sink is given at the same time
	appendTimeout = 10 * time.Second // of one attempt; it runs on when the sampler is told to stop, since the samples are taken
	lastAppends   = 15 * time.Second // after that moment, for all of them
	maxLibraries  = 64               // mapped files whose symbols are kept
)

// job is what one window, or one capture, has of a process.
type job struct {
	pid        int
	target     Target
	prog       *program // held for the job
	exe        string
	maps       []mapping
	epoch      string
	window     uint64
	start, end time.Time
	period     int64 // ns between two samples at the end of the window
	times      int64 // what the values are multiplied by
	cpu, off   []stackValue
	bytes      int
	exited     bool
	status     *tally
	capture    string          // kind of a capture: nothing is appended
	reply      chan<- captured // of the capture
}

// naming names the stacks of jobs and appends them until jobs is closed. When ctx is done pushes are not tried again; appending ends some time later, and with it those under way.
func (s *Sampler) naming(ctx, appending context.Context, jobs <-chan *job) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, maxAppends)
	libs := libraries{}
	for j := range jobs {
		var ps []store.Profile
		var err error
		meter(&s.work, func() {
			ps, err = s.name(j, libs)
			libs.trim()
		})
		s.progs.release(j.prog)
		s.heldBytes.Add(-int64(j.bytes))
		switch {
		case j.reply != nil:
			c := captured{err: err}
			if err == nil {
				c.p = ps[0].Data
			}
			j.reply <- c
		case err != nil:
			s.gap(j, "build", max(len(ps), 1))
			s.log.Warn("perf profile could not be made", "service", j.target.Process.Service, "pid", j.pid, "error", err)
		case len(ps) == 0: // it ended, and did nothing since the last window
			s.seen(appending, j)
		default:
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				s.append(ctx, appending, j, ps)
			})
		}
	}
	wg.Wait()
	libs.close()
}

// name makes the profiles of a job: of a capture exactly one.
func (s *Sampler) name(j *job, libs libraries) ([]store.Profile, error) {
	n := namer{progs: &s.progs, prog: j.prog, exe: j.exe, maps: j.maps, kernel: s.kernel,
		library: func(m *mapping) *natives { return libs.get(j.pid, m) }}
	var out []store.Profile
	add := func(kind string, cols columns, period int64, values []stackValue) error {
		p := n.profile(cols, period, j.start, j.end, values)
		if err := p.Scale(j.times); err != nil {
			return fmt.Errorf("scale %s profile: %w", kind, err)
		}
		out = append(out, store.Profile{Labels: store.Weighted(j.target.Process.Labels, j.times), Type: kind, Start: j.start.UnixMilli(), End: max(j.end.UnixMilli(), j.start.UnixMilli()+1), Data: p})
		return nil
	}
	if len(j.cpu) > 0 || j.capture == kindCPU {
		if err := add(kindCPU, cpuColumns, j.period, j.cpu); err != nil {
			return nil, err
		}
	}
	if len(j.off) > 0 || j.capture == kindOffCPU {
		if err := add(kindOffCPU, offCPUColumns, 1, j.off); err != nil {
			return out, err
		}
	}
	j.prog.table.Trim()
	return out, nil
}

// append stores one push. It tries again with the same key a few times; then the window is a gap.
func (s *Sampler) append(ctx, appending context.Context, j *job, ps []store.Profile) {
	p := j.target.Process
	p.Gatherer, p.State, p.Reason, p.LastSeen = "perf", "", "", j.end.UnixMilli() // no state: its end may have been told of meanwhile
	if j.exited {
		p.State = "exited"
	}
	push := store.Push{Key: catalog.Key{Instance: "perf/" + j.epoch + "/" + p.Instance, Window: j.window}, Process: &p, Build: j.target.Build, Profiles: ps}
	for try := 0; ; try++ {
		err := s.tryAppend(appending, push)
		if err == nil || errors.Is(err, catalog.ErrDuplicate) {
			for _, p := range ps {
				s.met.profiles.WithLabelValues(p.Type).Inc()
			}
			j.status.profiles.Add(uint64(len(ps)))
			return
		}
		var limit *store.LimitError // trying again would not help
		if errors.As(err, &limit) || try >= s.cfg.AppendRetries || !sleep(ctx, backoff(try)) {
			s.gap(j, "store", len(ps))
			s.log.Warn("perf profiles could not be stored", "service", p.Service, "pid", j.pid, "profiles", len(ps), "error", err)
			return
		}
	}
}

// seen tells that a process has ended.
func (s *Sampler) seen(ctx context.Context, j *job) {
	if s.cfg.Seen == nil {
		return
	}
	p := j.target.Process
	p.Gatherer, p.State, p.LastSeen = "perf", "exited", j.end.UnixMilli()
	ctx, cancel := context.WithTimeout(ctx, appendTimeout)
	defer cancel()
	s.cfg.Seen(ctx, []catalog.Process{p})
}

func (s *Sampler) tryAppend(ctx context.Context, push store.Push) error {
	ctx, cancel := context.WithTimeout(ctx, appendTimeout)
	defer cancel()
	return s.cfg.Sink.Append(ctx, push)
}

func (s *Sampler) gap(j *job, cause string, n int) {
	s.met.gaps.WithLabelValues(cause).Add(float64(n))
	j.status.gaps.Add(uint64(n))
}

// backoff is a random time up to 1, 2, 4, 8 s.
func backoff(try int) time.Duration { return rand.N(time.Second << min(try, 3)) }

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// libraries are the symbols of mapped files by what they are, nil where they cannot be read. The naming goroutine owns them.
type libraries map[fileID]*library

type library struct {
	file *os.File
	syms *natives
}

func (l libraries) get(pid int, m *mapping) *natives {
	if lib, ok := l[m.file]; ok {
		return lib.syms
	}
	lib := &library{}
	// By way of the process's own root; another file by the same name must not give it its names.
	f, err := os.Open(fmt.Sprintf("/proc/%d/root%s", pid, m.path))
	if err != nil {
		return nil // ended; another process may show it
	}
	if st, err := f.Stat(); err == nil && st.Mode().IsRegular() && inode(st) == m.file.inode {
		lib.syms, _ = readNatives(f) // without: nameless
	}
	if lib.syms == nil {
		f.Close()
	} else {
		lib.file = f
	}
	l[m.file] = lib
	return lib.syms
}

// trim forgets all where there are too many.
func (l libraries) trim() {
	if len(l) > maxLibraries {
		l.close()
		clear(l)
	}
}

func (l libraries) close() {
	for _, lib := range l {
		if lib.file != nil {
			lib.file.Close()
		}
	}
}

func inode(st os.FileInfo) uint64 {
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		return sys.Ino
	}
	return 0
}

// meter adds the CPU time that f takes to total.
func meter(total *atomic.Int64, f func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := threadCPU()
	f()
	total.Add(int64(threadCPU() - before))
}

// threadCPU returns the CPU time of this thread.
func threadCPU() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
