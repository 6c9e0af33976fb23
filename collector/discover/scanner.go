package discover

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sonde-io/sonde/symbols/build"
)

// agentModule is in the build information of programs that have Sonde's agent in them.
const agentModule = "github.com/sonde-io/sonde/agent"

// ticksPerSecond is USER_HZ, which is 100 on every architecture that Go runs on.
const ticksPerSecond = 100

// Scanner finds Go processes. Make one with New, and Close it.
type Scanner struct {
	cfg   Config
	log   *slog.Logger
	probe *prober

	fs       *procfs
	bootID   string
	booted   time.Time
	nodeKind string // of machine, for Process.Conditions
	nets     *networks
	self     int

	mu     sync.Mutex // one scan at a time
	closed bool
	reader
	procs  map[int]*proc
	known  map[uint64]*network // by inode
	noDiag bool                // the kernel does not list sockets by netlink
	hidden map[int]hiddenProc  // processes whose exe may not be read
	scan   uint64              // number of the scan, to forget what is gone
	pids   []int

	spotMu     sync.Mutex // one Look at a time: a scan that waits for probes must not hold up who asks for a process that is about to end
	spot       reader
	spotClosed bool

	saidNoEntry atomic.Bool

	exesMu sync.Mutex
	exes   map[exeKey]*exeEntry
	round  uint64 // scan, for those who hold exesMu
}

// reader holds the buffers that files of proc are read into.
type reader struct {
	buf []byte
	big []byte // of maxEnviron bytes, once needed
}

// exeEntry is what is remembered of an executable. info is nil for one that is no Go program.
type exeEntry struct {
	info *build.Info
	scan uint64
}

// hiddenProc is the verdict on a process that may not be read.
type hiddenProc struct {
	ticks uint64
	scan  uint64
	kind  hiddenKind
	agent bool    // its agent was seen; that holds for good
	p     Process // of a hiddenGo
}

type hiddenKind uint8

const (
	hiddenOther   hiddenKind = iota // not a Go program, as far as its command line tells
	hiddenGo                        // a Go program
	hiddenUnknown                   // cannot be told
)

// New opens proc. It returns an error that wraps errors.ErrUnsupported on systems other than Linux.
func New(cfg Config) (*Scanner, error) {
	if cfg.ProcRoot == "" {
		cfg.ProcRoot = "/proc"
	}
	if cfg.Host == "" {
		cfg.Host, _ = os.Hostname() // without one the label is left out
	}
	if cfg.Paths == nil {
		cfg.Paths = []string{"/debug/pprof"}
	}
	cfg.Paths = slices.Clone(cfg.Paths)
	for i, p := range cfg.Paths {
		if !strings.HasPrefix(p, "/") {
			return nil, fmt.Errorf("pprof path %q: does not start with /", p)
		}
		cfg.Paths[i] = strings.TrimRight(p, "/")
	}
	for _, pat := range slices.Concat(cfg.Rules.AllowExes, cfg.Rules.DenyExes) {
		if _, err := path.Match(pat, ""); err != nil {
			return nil, fmt.Errorf("executable pattern %q: %w", pat, err)
		}
	}
	if cfg.ProbeTimeout <= 0 {
		cfg.ProbeTimeout = 2 * time.Second
	}
	if cfg.AgentGrace <= 0 {
		cfg.AgentGrace = 10 * time.Second
	}
	s := &Scanner{
		cfg: cfg, log: cfg.Logger, probe: newProber(cfg),
		exes: map[exeKey]*exeEntry{}, procs: map[int]*proc{}, known: map[uint64]*network{}, hidden: map[int]hiddenProc{},
		reader: reader{buf: make([]byte, 64<<10)}, spot: reader{buf: make([]byte, 64<<10)},
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if s.fs, err = openProc(cfg.ProcRoot); err != nil {
		return nil, err
	}
	if err := s.readMachine(); err != nil {
		s.fs.close()
		return nil, err
	}
	s.nets = openNetworks(cfg.ProcRoot)
	s.nodeKind = nodeKind(cfg.ProcRoot, "/sys")
	return s, nil
}

// Close releases the scanner's descriptor of proc. It may be called twice.
func (s *Scanner) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spotMu.Lock()
	defer s.spotMu.Unlock()
	if s.closed {
		return nil
	}
	s.closed, s.spotClosed = true, true
	s.nets.close()
	return s.fs.close()
}

// readMachine reads what does not change while the machine runs, and who the scanner itself is there.
func (s *Scanner) readMachine() error {
	b, err := s.fs.read("sys/kernel/random/boot_id", s.buf)
	if err != nil {
		return fmt.Errorf("read boot id: %w", err)
	}
	s.bootID = strings.TrimSpace(string(b))
	if b, err = s.fs.read("uptime", s.buf); err != nil {
		return fmt.Errorf("read uptime: %w", err)
	}
	first, _, _ := strings.Cut(string(b), " ")
	up, err := strconv.ParseFloat(first, 64)
	if err != nil || up < 0 {
		return fmt.Errorf("read uptime: %q is not a time", first)
	}
	s.booted = time.Now().Add(-time.Duration(up * float64(time.Second)))
	// The scanner's pid is the one in the namespace of the proc that it looks at.
	s.self = os.Getpid()
	if link, err := os.Readlink(filepath.Join(s.fs.root, "self")); err == nil {
		if pid, err := strconv.Atoi(link); err == nil {
			s.self = pid
		}
	}
	return nil
}

// Scan looks at every process and probes the ports that it has not seen before. Processes that end meanwhile are left out.
func (s *Scanner) Scan(ctx context.Context) (Report, error) { return s.run(ctx, false) }

// DryRun looks at every process and sends nothing to any. Process.Touch lists what Scan would request of it, and of those that
// already have an endpoint what a scraper requests.
func (s *Scanner) DryRun(ctx context.Context) (Report, error) { return s.run(ctx, true) }

func (s *Scanner) run(ctx context.Context, dry bool) (Report, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return Report{}, errors.New("scan processes: the scanner is closed")
	}
	s.scan++
	s.exesMu.Lock()
	s.round = s.scan
	s.exesMu.Unlock()
	r := Report{Time: time.Now(), NetNS: s.nets.inode}
	var err error
	if s.pids, err = s.fs.pids(s.pids); err != nil {
		return Report{}, err
	}
	r.Seen = len(s.pids)
	var found []*proc
	for _, pid := range s.pids {
		if err := ctx.Err(); err != nil {
			return Report{}, err
		}
		p, err := s.look(pid, r.Time)
		switch {
		case errors.Is(err, fs.ErrPermission):
			s.lookHidden(pid, &r)
		case p != nil:
			found = append(found, p)
		}
	}
	s.decideAll(ctx, found, dry, r.Time)
	if err := ctx.Err(); err != nil {
		return Report{}, err
	}
	for _, p := range found {
		row := p.report()
		if s.unwatched(p) {
			s.sample(&row, dry)
		}
		r.Processes = append(r.Processes, row)
	}
	r.Networks = make(map[uint64][]netip.Addr, len(s.known))
	for inode, n := range s.known {
		r.Networks[inode] = n.addrs // replaced as a whole, never changed
	}
	slices.SortFunc(r.Processes, func(a, b Process) int { return a.PID - b.PID })
	s.forget()
	return r, nil
}

// forget drops what this scan did not see; executables are kept for a few scans, since short-lived programs come back.
func (s *Scanner) forget() {
	maps.DeleteFunc(s.procs, func(_ int, p *proc) bool { return p.scan != s.scan })
	maps.DeleteFunc(s.known, func(_ uint64, n *network) bool { return n.scan != s.scan })
	maps.DeleteFunc(s.hidden, func(_ int, h hiddenProc) bool { return h.scan != s.scan })
	s.exesMu.Lock()
	defer s.exesMu.Unlock()
	maps.DeleteFunc(s.exes, func(_ exeKey, e *exeEntry) bool { return s.scan-e.scan > 100 })
}

// look returns what is known of a process, nil where it is no Go program or gone.
func (s *Scanner) look(pid int, now time.Time) (*proc, error) {
	key, err := s.fs.exe(pid)
	if err != nil {
		return nil, err // of a kernel thread or of a process that is gone: not exist
	}
	name := strconv.Itoa(pid)
	exe, err := s.executable(key, name+"/exe")
	if err != nil || exe.info == nil {
		return nil, err
	}
	b, err := s.fs.read(name+"/stat", s.buf)
	if err != nil {
		return nil, err
	}
	_, ticks, err := parseStat(b)
	if err != nil {
		return nil, fmt.Errorf("read start of process %d: %w", pid, err)
	}
	p := s.procs[pid]
	same := p != nil && p.base.StartTicks == ticks && p.exe == key
	if !same || p.bare {
		if p, err = s.load(&s.reader, pid, ticks, exe.info, now); err != nil {
			return nil, err
		}
		p.exe = key
		p.bare = p.bare && !same // what has none in two scans has none
		s.procs[pid] = p
	}
	p.scan = s.scan
	if p.bare {
		return nil, nil
	}
	return p, nil
}

// executable returns what is known of the file that key stands for, reading it by name (relative to proc, or absolute) if it is new.
func (s *Scanner) executable(key exeKey, name string) (*exeEntry, error) {
	s.exesMu.Lock()
	e := s.exes[key]
	if e != nil {
		e.scan = s.round
	}
	s.exesMu.Unlock()
	if e != nil {
		return e, nil
	}
	if !filepath.IsAbs(name) {
		name = filepath.Join(s.fs.root, name)
	}
	info, err := build.ReadFile(name)
	if err != nil && !errors.Is(err, build.ErrNotGo) {
		return nil, err
	}
	s.exesMu.Lock()
	defer s.exesMu.Unlock()
	e = &exeEntry{info: info, scan: s.round}
	s.exes[key] = e
	return e, nil
}

// load reads what stays the same for the life of a process.
func (s *Scanner) load(rd *reader, pid int, ticks uint64, info *build.Info, now time.Time) (*proc, error) {
	name := strconv.Itoa(pid)
	p := &proc{seen: now, probed: map[uint16]string{}, noMetrics: map[uint16]string{}}
	p.base = s.describe(pid, ticks, info)
	b, err := s.fs.read(name+"/status", rd.buf)
	if err != nil {
		return nil, err
	}
	if p.base.UID, p.base.PIDs, err = parseStatus(b); err != nil {
		return nil, fmt.Errorf("read status of process %d: %w", pid, err)
	}
	if len(p.base.PIDs) == 0 {
		p.base.PIDs = []int{pid}
	}
	exe, err := os.Readlink(filepath.Join(s.fs.root, name, "exe"))
	if err != nil {
		return nil, err
	}
	p.base.Exe = strings.TrimSuffix(exe, " (deleted)")
	p.base.PIDNS, _ = s.fs.namespace(name, "pid") // 0: unknown
	p.netns, _ = s.fs.namespace(name, "net")
	p.base.NetNS = p.netns
	if rd.big == nil {
		rd.big = make([]byte, maxEnviron)
	}
	if b, err := s.fs.read(name+"/cmdline", rd.big[:maxCmdline]); err == nil {
		p.cmdline = bytes.Clone(b)
		p.bare = len(b) == 0
	}
	cgroup, _ := s.fs.read(name+"/cgroup", rd.buf[:maxCgroup])
	if b, err := s.fs.read(name+"/environ", rd.big); err == nil {
		p.bare = p.bare || len(b) == 0
		p.env = parseEnviron(b)
		p.base.Conditions = s.conditions(pid, p.cmdline, b, cgroup)
	}
	at := parsePlace(cgroup, func() []byte {
		mounts, _ := s.fs.read(name+"/mountinfo", rd.buf[maxCgroup:])
		return mounts
	})
	p.base.ContainerID, p.base.PodUID, p.base.Cgroup = at.containerID, at.podUID, at.cgroup
	p.inside = at.containerName
	p.base.Instance = p.base.Identity.Instance()
	s.label(&p.base, p.env, info)
	return p, nil
}

func (s *Scanner) describe(pid int, ticks uint64, info *build.Info) Process {
	return Process{
		Identity:  Identity{BootID: s.bootID, StartTicks: ticks},
		PID:       pid,
		Build:     info,
		BuildID:   info.Key(),
		GoVersion: info.GoVersion,
		Started:   s.booted.Add(time.Duration(ticks) * (time.Second / ticksPerSecond)),
	}
}

func (s *Scanner) label(p *Process, env environ, info *build.Info) {
	p.Service, p.Version, p.Labels = env.names(p.Exe, info)
	p.Labels["process_pid"] = strconv.Itoa(p.PID)
	if p.Labels["host_name"] == "" && s.cfg.Host != "" {
		p.Labels["host_name"] = s.cfg.Host
	}
	if p.ContainerID != "" {
		p.Labels["container_id"] = p.ContainerID
	}
}

// lookHidden reports a process whose exe may not be read, if what everybody may read says that it is, or may be, a Go program.
func (s *Scanner) lookHidden(pid int, r *Report) {
	name := strconv.Itoa(pid)
	b, err := s.fs.read(name+"/stat", s.buf)
	if err != nil {
		return // gone
	}
	flags, ticks, err := parseStat(b)
	if err != nil || flags&kernelThread != 0 {
		return
	}
	h, ok := s.hidden[pid]
	if !ok || h.ticks != ticks {
		h = s.guess(pid, ticks)
	}
	if !h.agent && h.kind == hiddenGo && s.cfg.AgentSeen != nil {
		h.agent = s.cfg.AgentSeen(s.bootID, 0, ticks, slices.Clone(h.p.PIDs))
	}
	h.scan = s.scan
	s.hidden[pid] = h
	switch h.kind {
	case hiddenGo:
		p := h.p
		p.Labels = maps.Clone(p.Labels)
		if h.agent {
			p.State, p.Reason, p.Gatherer = ByAgent, "", "agent"
		}
		r.Processes = append(r.Processes, p)
	case hiddenUnknown:
		r.Unknown++
	}
}

// needs says what a process cannot be looked at without. Root in a container does not have everything.
func (s *Scanner) needs(pid int, file string) string {
	what := "root"
	if os.Geteuid() == 0 {
		what = "CAP_SYS_PTRACE"
	}
	return fmt.Sprintf("needs %s: cannot read %s/%d/%s", what, s.fs.root, pid, file)
}

// guess reads the executable that the command line of a hidden process names. In a container the name may lead elsewhere: so it decides only
// whether the process is worth being listed, never which build it is.
func (s *Scanner) guess(pid int, ticks uint64) hiddenProc {
	h := hiddenProc{ticks: ticks, kind: hiddenUnknown}
	name := strconv.Itoa(pid)
	b, err := s.fs.read(name+"/cmdline", s.buf)
	if err != nil || len(b) == 0 {
		h.kind = hiddenOther // a zombie, or gone
		return h
	}
	arg0, _, _ := bytes.Cut(b, []byte{0})
	exe := string(arg0)
	if !filepath.IsAbs(exe) {
		return h
	}
	key, err := s.fs.statFile(exe)
	if err != nil {
		return h
	}
	e, err := s.executable(key, exe)
	if err != nil {
		return h
	}
	if e.info == nil {
		h.kind = hiddenOther
		return h
	}
	h.kind = hiddenGo
	h.p = s.describe(pid, ticks, e.info)
	h.p.Build, h.p.BuildID, h.p.GoVersion = nil, "", ""
	h.p.Exe = exe
	h.p.State = NeedsRoot
	h.p.Reason = s.needs(pid, "exe")
	if b, err := s.fs.read(name+"/status", s.buf); err == nil {
		if uid, pids, err := parseStatus(b); err == nil {
			h.p.UID, h.p.PIDs = uid, pids
		}
	}
	h.p.Instance = h.p.Identity.Instance()
	s.label(&h.p, environ{}, nil)
	return h
}
