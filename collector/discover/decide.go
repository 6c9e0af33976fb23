package discover

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sonde-io/sonde/symbols/build"
)

// proc is what is remembered of a Go process.
type proc struct {
	base    Process // without State and what follows from it
	placed  *Placement
	met     bool     // place has seen it
	shown   *Process // base with what placed says; nil: base
	dropped bool     // by Config.Relabel
	inside  string   // name of its container, where a mount tells it
	exe     exeKey
	scan    uint64
	seen    time.Time // first
	netns   uint64
	env     environ
	cmdline []byte
	bare    bool // it has no command line or no environment: exec gives a process its executable a moment before these
	agent   bool // its agent was seen; that holds for good

	table     uint64            // version of the listener table that it was last joined with
	joined    bool              // whether it ever was
	fdErr     error             // of the last join
	listeners []listener        // its own
	probed    map[uint16]string // ports that are no endpoint, and why
	endpoint  *endpoint
	noMetrics map[uint16]string // ports that have no metrics, and why
	metrics   *metricsPage
	gops      *listener

	entry    *entryError // why its network could not be entered; it is not tried again
	barred   bool        // by a rule or by its owner: nothing of it may be touched
	state    State
	reason   string
	gatherer string
	touch    []string
}

// endpoint is where a process answers as pprof.
type endpoint struct {
	listener
	url   string
	types []string
}

// netTable is the listening sockets of one network namespace.
type netTable struct {
	version uint64
	byInode map[uint64]listener
}

func (t *netTable) has(inode uint64) bool {
	_, ok := t.byInode[inode]
	return ok
}

// report returns the process as callers get it.
func (p *proc) report() Process {
	r := p.base
	if p.shown != nil {
		r = *p.shown
	}
	r.Labels = maps.Clone(r.Labels)
	r.PIDs = slices.Clone(r.PIDs)
	r.State, r.Reason, r.Gatherer, r.Touch = p.state, p.reason, p.gatherer, p.touch
	for _, l := range p.listeners {
		r.Ports = append(r.Ports, l.addr.String())
	}
	if p.endpoint != nil {
		r.URL, r.Types = p.endpoint.url, slices.Clone(p.endpoint.types)
	}
	if p.metrics != nil && !p.barred {
		r.MetricsURL = p.metrics.url
	}
	if p.gatherer == "gops" {
		r.GopsAddr = loopback(p.gops.addr)[0]
	}
	return r
}

// decideAll sets the state of each process. Whatever has to be probed is probed at the same time, a bounded number at once.
func (s *Scanner) decideAll(ctx context.Context, found []*proc, dry bool, now time.Time) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, 32)
	for _, p := range found {
		p.touch = nil
		if s.decideAtRest(p, now) {
			continue
		}
		s.join(p, now)
		ports, metrics := s.candidates(p), s.metricsCandidates(p)
		if dry {
			s.announce(p, ports, metrics)
		}
		switch {
		case dry && len(ports) > 0:
			p.set(NotProbed, "not probed yet: "+portList(ports))
			continue
		case dry, len(ports)+len(metrics) == 0:
			s.conclude(p, dry)
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			s.probeAll(ctx, p, ports)
			s.findMetrics(ctx, p)
			s.conclude(p, false)
		})
	}
	wg.Wait()
}

// announce lists what a scan would request of p at most.
func (s *Scanner) announce(p *proc, ports, metrics []listener) {
	for _, l := range ports {
		p.touch = append(p.touch, s.probe.requests(l.addr)...)
	}
	for _, l := range metrics {
		for _, path := range p.metricsPaths(l) {
			p.touch = append(p.touch, "GET http://"+loopback(l.addr)[0]+path)
		}
	}
}

func (p *proc) set(st State, reason string) {
	p.state, p.reason, p.gatherer = st, reason, ""
}

// decideAtRest decides where no port of the process has to be asked.
func (s *Scanner) decideAtRest(p *proc, now time.Time) bool {
	switch {
	case s.leftAlone(p), s.awaited(p, now):
	case s.elsewhere(p) && s.nets.no != "":
		if !p.joined {
			s.join(p, now)
		}
		s.noEntry(p, s.nets.no)
	default:
		return false
	}
	return true
}

// noEntry decides on a process whose network cannot be entered.
func (s *Scanner) noEntry(p *proc, why string) {
	p.set(OtherNetNS, "other network namespace: "+cmp.Or(portList(p.listeners), "it listens on no TCP port")+"; "+why)
	if s.saidNoEntry.CompareAndSwap(false, true) {
		s.log.Warn("some processes are in other network namespaces, where their ports cannot be asked", "reason", why, "pid", p.base.PID, "exe", p.base.Exe)
	}
}

// leftAlone decides on a process that is Sonde itself, is denied, or is reported by its agent.
func (s *Scanner) leftAlone(p *proc) bool {
	r := &s.cfg.Rules
	id := p.base.Identity
	p.barred = true
	if s.place(p) {
		s.relabel(p)
	}
	switch {
	case p.base.PID == s.self && !s.cfg.Self:
		p.set(SelfProcess, "is Sonde itself")
	case !allowed(p.base.UID, r.AllowUIDs, r.DenyUIDs):
		p.set(Denied, fmt.Sprintf("denied by uid rule: uid %d", p.base.UID))
	case !allowedExe(p.base.Exe, r):
		p.set(Denied, "denied by path rule: "+p.base.Exe)
	case p.env.disabled():
		p.base.Off = true
		p.set(Denied, "denied by its environment: SONDE_DISABLED is set")
	case p.dropped:
		p.set(Denied, "dropped by relabeling")
	case p.placed != nil && p.placed.Off != "":
		p.base.Off, p.shown.Off = true, true
		p.set(Denied, p.placed.Off)
	case p.agent, s.cfg.AgentSeen != nil && s.cfg.AgentSeen(id.BootID, id.PIDNS, id.StartTicks, slices.Clone(id.PIDs)):
		p.agent = true
		p.set(ByAgent, "")
		p.gatherer = "agent"
		p.endpoint, p.metrics = nil, nil
	default:
		p.barred = false
		return false
	}
	return true
}

// awaited decides on a process that is about to be reported by its agent, or whose pod is not known yet.
func (s *Scanner) awaited(p *proc, now time.Time) bool {
	switch {
	case p.endpoint != nil || now.Sub(p.seen) >= s.cfg.AgentGrace:
		return false
	case awaitsAgent(p.base.Build):
		p.set(Waiting, fmt.Sprintf("has the agent built in, whose first push is awaited for %v", s.cfg.AgentGrace))
		return true
	case s.cfg.Placed != nil && p.base.PodUID != "" && p.placed == nil:
		p.set(Waiting, fmt.Sprintf("is in a pod, whose names are awaited for %v", s.cfg.AgentGrace))
		return true
	}
	return false
}

// relabel lets Config.Relabel change what p is called.
func (s *Scanner) relabel(p *proc) {
	if s.cfg.Relabel == nil {
		return
	}
	shown := p.base
	if p.shown != nil {
		shown = *p.shown
	}
	shown.Labels = maps.Clone(shown.Labels)
	p.dropped = !s.cfg.Relabel(&shown, p.placed)
	shown.Service, shown.Version = cmp.Or(shown.Labels["service_name"], shown.Service), shown.Labels["service_version"]
	p.shown = &shown
}

// place brings up to date what is known of the container that p runs in, and reports whether that is new, as it is once for every process.
func (s *Scanner) place(p *proc) (news bool) {
	news, p.met = !p.met, true
	if s.cfg.Placed == nil || p.base.ContainerID == "" && p.base.PodUID == "" {
		return news
	}
	at := s.cfg.Placed(p.base.ContainerID, p.base.PodUID, p.inside)
	if at == nil || at == p.placed {
		return news // what was known of a pod holds to its end
	}
	p.placed = at
	shown := p.base
	shown.Labels = maps.Clone(p.base.Labels)
	maps.Copy(shown.Labels, at.Labels)
	if at.Service != "" && p.env.sonde["SERVICE"] == "" && (at.Named || !p.env.named()) {
		shown.Service = at.Service
	}
	if at.Version != "" && !p.env.versioned() {
		shown.Version = at.Version
	}
	shown.Labels["service_name"], shown.Labels["service_version"] = shown.Service, shown.Version
	if shown.Version == "" {
		delete(shown.Labels, "service_version")
	}
	p.shown = &shown
	return true
}

// awaitsAgent reports whether a program can be expected to push. Sonde's own command has the agent built in too, but only one service of its demo starts it.
func awaitsAgent(info *build.Info) bool {
	return info.HasDep(agentModule) && info.Module()+"/agent" != agentModule
}

func allowed(v int, allow, deny []int) bool {
	return !slices.Contains(deny, v) && (len(allow) == 0 || slices.Contains(allow, v))
}

func allowedExe(exe string, r *Rules) bool {
	match := func(pat string) bool {
		ok, _ := path.Match(pat, exe) // New has checked the patterns
		return ok
	}
	return !slices.ContainsFunc(r.DenyExes, match) && (len(r.AllowExes) == 0 || slices.ContainsFunc(r.AllowExes, match))
}

// join finds out which listening sockets are the process's own. Its descriptors are read only when the sockets that listen in its
// network have changed since.
func (s *Scanner) join(p *proc, now time.Time) {
	t := s.network(p, now)
	if p.endpoint != nil && !t.has(p.endpoint.inode) {
		p.endpoint = nil // it was closed
	}
	if p.metrics != nil && !t.has(p.metrics.inode) {
		p.metrics = nil
	}
	if p.endpoint != nil && (p.metrics != nil || !s.asksMetrics(p) || now.Sub(p.seen) > netYoung) {
		return // what it listens on later is not where its metrics are
	}
	if p.joined && p.table == t.version {
		return
	}
	p.listeners, p.gops = nil, nil
	p.fdErr = s.fs.sockets(p.base.PID, func(inode uint64) bool {
		if l, ok := t.byInode[inode]; ok && !slices.Contains(p.listeners, l) {
			p.listeners = append(p.listeners, l)
		}
		return len(p.listeners) < 64
	})
	p.joined, p.table = p.fdErr == nil, t.version
	slices.SortFunc(p.listeners, func(a, b listener) int { return a.addr.Compare(b.addr) })
	s.findGops(p)
}

// readListeners reads a table of sockets until the listeners, which come first, have been seen.
func (s *Scanner) readListeners(name string) ([]byte, error) {
	for size := len(s.buf); ; size *= 4 {
		if size > len(s.buf) {
			s.buf = make([]byte, size)
		}
		b, err := s.fs.readUntil(name, s.buf, endsListeners)
		if err != nil || len(b) < size || size >= maxNetTCP || endsListeners(b) {
			return b, err
		}
	}
}

// endsListeners reports whether b, cut off at some point, holds a socket that does not listen, which ends the listeners.
func endsListeners(b []byte) bool {
	i := bytes.LastIndexByte(b, '\n')
	j := bytes.LastIndexByte(b[:max(i, 0)], '\n')
	if j < 0 {
		return false
	}
	f := bytes.Fields(b[j:i])
	return len(f) > 3 && string(f[3]) != "0A" && string(f[3]) != "03"
}

// findGops reads the port file of a gops agent, if there is one and its port is the process's own: the file of an agent that died stays behind.
func (s *Scanner) findGops(p *proc) {
	dir := p.env.configDir()
	if dir == "" || len(p.listeners) == 0 {
		return
	}
	inner := p.base.PIDs[len(p.base.PIDs)-1] // the agent writes the pid that it sees itself
	b, err := s.fs.portFile(p.base.PID, path.Join(dir, strconv.Itoa(inner)))
	if err != nil {
		return
	}
	port, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 16)
	if err != nil {
		return
	}
	for _, l := range p.listeners {
		if l.addr.Port() == uint16(port) && len(loopback(l.addr)) > 0 {
			p.gops = &l
			return
		}
	}
}

// candidates returns the listeners that may and should be probed, one per port.
func (s *Scanner) candidates(p *proc) []listener {
	if p.endpoint != nil || p.entry != nil || s.cfg.Rules.NoProbes {
		return nil
	}
	return s.askable(p, p.probed)
}

// askable returns the listeners that may be asked and were not yet, one per port.
func (s *Scanner) askable(p *proc, asked map[uint16]string) (ls []listener) {
	for _, l := range p.listeners {
		port := l.addr.Port()
		_, done := asked[port]
		gops := p.gops != nil && p.gops.addr.Port() == port
		dup := slices.ContainsFunc(ls, func(o listener) bool { return o.addr.Port() == port })
		if !done && !gops && !dup && len(loopback(l.addr)) > 0 && allowed(int(port), s.cfg.Rules.AllowPorts, s.cfg.Rules.DenyPorts) {
			ls = append(ls, l)
		}
	}
	return ls
}

// loopback returns the addresses by which a listener can be reached over loopback, none if it listens on another address only.
func loopback(a netip.AddrPort) []string {
	port := strconv.Itoa(int(a.Port()))
	switch addr := a.Addr(); {
	case addr.IsLoopback():
		return []string{a.String()}
	case addr.IsUnspecified() && addr.Is4():
		return []string{net.JoinHostPort("127.0.0.1", port)}
	case addr.IsUnspecified():
		return []string{net.JoinHostPort("127.0.0.1", port), net.JoinHostPort("::1", port)}
	}
	return nil
}

// probeAll probes the listeners in turn until one answers as pprof.
func (s *Scanner) probeAll(ctx context.Context, p *proc, ls []listener) {
	ctx = withDial(ctx, s.Dial(&p.base))
	for _, l := range ls {
		ep, why, err := s.probe.probe(ctx, l.addr, p.cmdline)
		if ctx.Err() != nil {
			return // it says nothing about the port
		}
		if entry, ok := errors.AsType[*entryError](err); ok {
			p.entry = entry
			return
		}
		s.log.Debug("probed", "pid", p.base.PID, "exe", p.base.Exe, "port", l.addr.Port(), "result", cmp.Or(why, "pprof"))
		if ep != nil {
			ep.listener = l
			p.endpoint = ep
			return
		}
		p.probed[l.addr.Port()] = why
		if err != nil || why == speaksTLS || why == answersAnother {
			p.noMetrics[l.addr.Port()] = why // no second request to what does not speak HTTP, or not for this process
		}
	}
}

// conclude decides once all is known.
func (s *Scanner) conclude(p *proc, dry bool) {
	port := func(l *listener) bool {
		return allowed(int(l.addr.Port()), s.cfg.Rules.AllowPorts, s.cfg.Rules.DenyPorts)
	}
	switch {
	case p.endpoint != nil:
		p.set(Profiling, "")
		p.gatherer = "scrape"
		if dry {
			p.touch = append(p.touch, "GET "+p.endpoint.url+"/…")
		}
	case p.gops != nil && port(p.gops) && !s.cfg.Rules.NoGops:
		p.set(Profiling, "")
		p.gatherer = "gops"
		if dry {
			p.touch = append(p.touch, "gops heap and cpu of "+loopback(p.gops.addr)[0])
		}
	case p.gops != nil && s.cfg.Rules.NoGops:
		p.set(NoEndpoint, "no endpoint but a gops agent, which is not to be used")
	case p.entry != nil:
		s.noEntry(p, p.entry.why)
	case p.fdErr != nil:
		p.set(NeedsRoot, s.needs(p.base.PID, "fd"))
	default:
		p.set(s.noEndpoint(p))
	}
	switch {
	case p.metrics == nil:
	case dry:
		p.touch = append(p.touch, "GET "+p.metrics.url)
	case p.gatherer == "":
		p.reason += "; its metrics are read from " + p.metrics.url
	}
}

// noEndpoint says why there is none.
func (s *Scanner) noEndpoint(p *proc) (State, string) {
	if len(p.listeners) == 0 {
		return NoEndpoint, "no endpoint: it listens on no TCP port"
	}
	if s.cfg.Rules.NoProbes {
		return NoEndpoint, "no endpoint is looked for: it is not to be scraped"
	}
	var silent, denied, elsewhere, answers []string
	for _, l := range p.listeners {
		port := strconv.Itoa(int(l.addr.Port()))
		why, probed := p.probed[l.addr.Port()]
		switch {
		case probed:
			silent = append(silent, port)
			answers = append(answers, port+": "+why)
		case len(loopback(l.addr)) == 0:
			elsewhere = append(elsewhere, l.addr.String())
		default:
			denied = append(denied, port)
		}
	}
	var parts []string
	if len(silent) > 0 {
		parts = append(parts, fmt.Sprintf("none of its ports %s answered %s (%s)",
			list(silent), strings.Join(s.cfg.Paths, " or "), strings.Join(slices.Compact(answers), "; ")))
	}
	if len(denied) > 0 {
		parts = append(parts, "denied by port rule: "+list(denied))
	}
	if len(elsewhere) > 0 {
		parts = append(parts, "not on loopback: "+list(elsewhere))
	}
	if len(silent) == 0 && len(elsewhere) == 0 {
		return Denied, parts[0]
	}
	return NoEndpoint, "no endpoint: " + strings.Join(parts, "; ")
}

func portList(ls []listener) string {
	if len(ls) == 0 {
		return ""
	}
	var ports []string
	for _, l := range ls {
		ports = append(ports, strconv.Itoa(int(l.addr.Port())))
	}
	return "listens on " + list(ports)
}

// list joins distinct values.
func list(ss []string) string { return strings.Join(slices.Compact(ss), ", ") }
