package procstat

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/series"
	"github.com/sonde-io/sonde/internal/cgroup"
)

// ticksPerSecond is USER_HZ: 100 on every system that Go runs on.
const ticksPerSecond = 100

// What costs more than a file is read less often. Rounds are counted from a number of the process's own, so that not all are due in the same.
const (
	switchRounds = 4  // between two counts of context switches, a file for each thread
	slowRounds   = 20 // between two looks at what seldom changes: limits, the cgroup
	maxThreads   = 512
	cheapFDs     = 512 // up to which descriptors are counted in every round, by a kernel that has to list them
	maxFDs       = 1 << 20
)

// due reports whether what is read every n rounds is to be read in this one.
func (p *process) due(round, n int) bool { return p.fresh || (round+p.phase)%n == 0 }

func named(name string, more ...string) labels.Labels {
	return labels.FromStrings(append([]string{model.MetricNameLabel, name}, more...)...)
}

var (
	cpuSeconds    = named("process_cpu_seconds_total")
	resident      = named("process_resident_memory_bytes")
	virtual       = named("process_virtual_memory_bytes")
	openFDs       = named("process_open_fds")
	mostFDs       = named("process_max_fds")
	startTime     = named("process_start_time_seconds")
	threads       = named("process_threads")
	voluntary     = named("process_context_switches_total", "type", "voluntary")
	involuntary   = named("process_context_switches_total", "type", "involuntary")
	pageSize      = uint64(os.Getpagesize())
	errAnother    = errors.New("another process has the pid")
	errHasEnded   = errors.New("the process has ended")
	errIncomplete = errors.New("too many to count")
)

// process is what is known of a target between rounds.
type process struct {
	t     Target
	fresh bool   // it was not read yet: all of it is due
	phase int    // of its rounds
	dir   string // in /proc
	group *group // nil: none that tells anything
	most  uint64 // descriptors; 0: no limit, or unknown

	placed bool // group is known, and one of Manager.groups

	fds      int // that were open the last time
	counts   map[string]switches
	switched switches // added up; it does not fall when a thread ends
}

type switches struct{ voluntary, involuntary uint64 }

// reader reads processes and has the memory for it.
type reader struct {
	mounts cgroup.Mounts
	given  func(instance, name string) bool
	buf    []byte
	out    []series.Sample
}

// read appends what there is of p to r.out. The error says that the process is not there any more.
func (r *reader) read(p *process, round int, now time.Time) error {
	st, err := r.stat(p)
	if err != nil {
		return err
	}
	t := now.UnixMilli()
	put := func(ls labels.Labels, v float64) { r.out = append(r.out, series.Sample{Labels: ls, T: t, V: v}) }
	own := func(ls labels.Labels, v float64) {
		if !p.t.Agent && (r.given == nil || !r.given(p.t.Instance, ls.Get(model.MetricNameLabel))) {
			put(ls, v)
		}
	}
	own(cpuSeconds, float64(st.ticks)/ticksPerSecond)
	own(resident, float64(st.pages*pageSize))
	own(virtual, float64(st.virtual))
	if !p.t.Started.IsZero() {
		own(startTime, float64(p.t.Started.UnixMilli())/1000)
	}
	put(threads, float64(st.threads))
	if !p.t.Agent {
		if p.fds <= cheapFDs || p.due(round, switchRounds) {
			if n, err := r.openFDs(p); err == nil {
				own(openFDs, float64(n))
			}
		}
		if p.due(round, slowRounds) {
			p.most = r.mostFDs(p)
		}
		if p.most > 0 {
			own(mostFDs, float64(p.most))
		}
	}
	if p.due(round, switchRounds) && st.threads <= maxThreads {
		if err := r.switches(p); err == nil {
			put(voluntary, float64(p.switched.voluntary))
			put(involuntary, float64(p.switched.involuntary))
		}
	}
	return nil
}

func (r *reader) stat(p *process) (st stat, err error) {
	if r.buf, err = cgroup.Read(r.buf, p.dir+"/stat"); err != nil {
		return st, err
	}
	if st, err = parseStat(r.buf); err != nil {
		return st, err
	}
	switch {
	case st.ended():
		return st, errHasEnded
	case p.t.Start != 0 && st.start != p.t.Start:
		return st, errAnother
	}
	return st, nil
}

// openFDs counts the descriptors. Since Linux 6.2 the folder's size is their number; before it they are listed.
func (r *reader) openFDs(p *process) (int, error) {
	name := p.dir + "/fd"
	if st, err := os.Stat(name); err != nil {
		return 0, err
	} else if st.Size() > 0 {
		return int(st.Size()), nil
	}
	n := 0
	err := list(name, maxFDs, func(string) error { n++; return nil })
	p.fds = n
	return n, err
}

// list calls f with the names in a folder.
func list(name string, most int, f func(name string) error) error {
	dir, err := os.Open(name)
	if err != nil {
		return err
	}
	defer dir.Close()
	for n := 0; ; {
		names, err := dir.Readdirnames(1024)
		for _, name := range names {
			if n++; n > most {
				return errIncomplete
			}
			if err := f(name); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) || err == nil && len(names) == 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (r *reader) mostFDs(p *process) uint64 {
	b, err := cgroup.Read(r.buf, p.dir+"/limits")
	if err != nil {
		return 0
	}
	r.buf = b
	n, err := parseOpenFiles(b)
	if err != nil {
		return 0
	}
	return n
}

// switches adds up the context switches of all threads: /proc/PID/status has those of the first one only. What a thread did that has ended since the last count is not known.
func (r *reader) switches(p *process) error {
	now := make(map[string]switches, len(p.counts)+1)
	dir := p.dir + "/task"
	err := list(dir, maxThreads, func(tid string) error {
		b, err := cgroup.Read(r.buf, dir+"/"+tid+"/status")
		if err != nil {
			return nil // ended since
		}
		r.buf = b
		v, i, ok := parseSwitches(b)
		if !ok {
			return errMalformed
		}
		before := p.counts[tid]
		if v < before.voluntary || i < before.involuntary { // another thread by now
			before = switches{}
		}
		p.switched.voluntary += v - before.voluntary
		p.switched.involuntary += i - before.involuntary
		now[tid] = switches{v, i}
		return nil
	})
	p.counts = now
	return err
}

func (r *reader) dir(pid int) string { return filepath.Join(r.mounts.Proc, strconv.Itoa(pid)) }
