package scrape

import (
	"cmp"
	"context"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/sonde-io/sonde/collector/discover"
)

const (
	namesFresh = time.Minute     // how long the addresses of a listed target's host name are taken as known
	namesWait  = 2 * time.Second // of one lookup
	maxNames   = 256             // host names that are looked up
	gone       = time.Minute     // a listed target whose process on this machine ended is not asked by address alone for so long: the next one is about to be found
)

// listed is a target that somebody named: in the configuration, by an annotation, in a file. It may be a process that is known by other ways too.
type listed struct {
	Target
	source string
}

// machine is what the last scan knows of addresses.
type machine struct {
	report discover.Report
	byPort map[uint16][]listening
	host   string
}

// listening is a process that listens on an address.
type listening struct {
	process int // in report.Processes
	addr    netip.Addr
}

func newMachine(r discover.Report) *machine {
	m := &machine{report: r, byPort: map[uint16][]listening{}}
	m.host, _ = os.Hostname() // without one no name is this machine's
	for i, p := range r.Processes {
		for _, port := range p.Ports {
			if a, err := netip.ParseAddrPort(port); err == nil {
				m.byPort[a.Port()] = append(m.byPort[a.Port()], listening{i, a.Addr()})
			}
		}
	}
	return m
}

// at returns the process of this machine that is reached at an address from where the scanner is, nil if there is none.
func (m *machine) at(addr netip.Addr, port uint16) *discover.Process {
	addr = addr.Unmap()
	for _, l := range m.byPort[port] {
		p := &m.report.Processes[l.process]
		if !l.addr.IsUnspecified() && l.addr != addr {
			continue
		}
		here := p.NetNS == m.report.NetNS || p.NetNS == 0
		if addr.IsLoopback() && here || !addr.IsLoopback() && slices.Contains(m.report.Networks[p.NetNS], addr) {
			return p
		}
	}
	return nil
}

// process returns the process of this machine that a target's URL leads to.
func (m *machine) process(t *Target, names map[string]lookup) *discover.Process {
	u, err := url.Parse(t.URL)
	if err != nil || t.URL == "" {
		return nil
	}
	port := uint16(80)
	if p := u.Port(); p != "" {
		n, err := net.LookupPort("tcp", p)
		if err != nil {
			return nil
		}
		port = uint16(n)
	} else if u.Scheme == "https" {
		port = 443
	}
	host := u.Hostname()
	if addr, err := netip.ParseAddr(host); err == nil {
		return m.at(addr.WithZone(""), port)
	}
	if strings.EqualFold(host, "localhost") || m.host != "" && strings.EqualFold(host, m.host) {
		if p := m.at(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port); p != nil {
			return p
		}
		return m.at(netip.IPv6Loopback(), port)
	}
	if l := names[host]; len(l.addrs) == 1 { // a name of several addresses is a service's, not a process's
		return m.at(l.addrs[0], port)
	}
	return nil
}

// plan is what to do with all targets: which to scrape, and why not the others.
type plan struct {
	scrape  []planned
	skipped []Status // listed targets that something else gathers from
}

type planned struct {
	Target
	listed bool
}

// planTargets sees to it that one process is scraped once, however many ways lead to it. The order of the listed ones is that of their precision. A process that its
// agent reports, or that its owner turned Sonde off for, is left alone whoever names it; of one that the scan found with an endpoint the way that the scan
// verified is taken, and what the listed target says of labels, service and types.
func (m *Manager) planTargets(now time.Time) plan {
	var pl plan
	where := newMachine(m.report)
	taken := map[string]bool{}
	for _, l := range m.allListed() {
		id := "address\x00" + addressOf(&l.Target)
		if m.awaitsName(&l.Target, now) {
			continue
		}
		p := where.process(&l.Target, m.names)
		if p != nil {
			m.joined[id] = now
			id = "instance\x00" + p.Instance
		} else if last, ok := m.joined[id]; ok && now.Sub(last) < gone {
			pl.skip(l, discover.NoEndpoint, "nothing listens there any more")
			continue
		}
		if taken[id] {
			continue
		}
		taken[id] = true
		switch {
		case p == nil && m.cfg.ByAgent != nil && m.cfg.ByAgent(l.Process.Labels.Map()):
			pl.skip(l, discover.ByAgent, "reached by its agent")
		case p == nil:
			pl.scrape = append(pl.scrape, planned{l.Target, true})
		case p.State == discover.ByAgent:
			pl.skip(l, discover.ByAgent, "reached by its agent")
		case p.State == discover.Waiting, p.Off:
			pl.skip(l, p.State, p.Reason)
		default:
			pl.scrape = append(pl.scrape, planned{m.merge(l.Target, p), true})
		}
	}
	for _, t := range m.discovered {
		if id := "instance\x00" + t.Instance; !taken[id] {
			taken[id] = true
			pl.scrape = append(pl.scrape, planned{t, false})
		}
	}
	maps.DeleteFunc(m.joined, func(_ string, last time.Time) bool { return now.Sub(last) >= gone })
	return pl
}

// awaitsName reports whether a target's host name is about to be looked up, which tells whether it is a process of this machine.
func (m *Manager) awaitsName(t *Target, now time.Time) bool {
	if m.cfg.Scanner == nil || now.Sub(m.listedAt) >= m.cfg.ScanPeriod+2*namesWait {
		return false
	}
	u, err := url.Parse(t.URL)
	if err != nil || u.Hostname() == "" {
		return false
	}
	_, err = netip.ParseAddr(u.Hostname())
	_, known := m.names[u.Hostname()]
	return err != nil && !known && !strings.EqualFold(u.Hostname(), "localhost")
}

func (pl *plan) skip(l listed, st discover.State, reason string) {
	pl.skipped = append(pl.skipped, Status{Instance: l.Instance, Service: l.Service, URL: l.redacted(), Static: true, State: string(st), Reason: reason, Gatherer: map[discover.State]string{discover.ByAgent: "agent"}[st]})
}

// allListed returns every listed target: those of the configuration, then those of each source in the order of their names.
func (m *Manager) allListed() []listed {
	var all []listed
	for _, t := range m.static {
		all = append(all, listed{t, ""})
	}
	for _, source := range slices.Sorted(maps.Keys(m.sources)) {
		for _, t := range m.sources[source] {
			all = append(all, listed{t, source})
		}
	}
	return all
}

// addressOf is equal for two targets that lead to the same place.
func addressOf(t *Target) string {
	u, err := url.Parse(t.URL)
	if err != nil || t.URL == "" {
		return t.URL + t.GopsAddr
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	host := strings.ToLower(u.Hostname())
	if addr, err := netip.ParseAddr(host); err == nil {
		host = addr.Unmap().String()
	}
	return net.JoinHostPort(host, port) + u.Path + "?" + u.RawQuery
}

// merge returns the target of a process of this machine that a listed target leads to.
func (m *Manager) merge(l Target, p *discover.Process) Target {
	row := *p
	row.Labels = maps.Clone(p.Labels)
	maps.Copy(row.Labels, l.Labels)
	if !l.Guessed {
		row.Service = l.Service
	}
	row.State, row.Gatherer, row.Reason = discover.Profiling, "scrape", ""
	cp := ProcessOf(row, m.cfg.Host)
	t := Target{Instance: p.Instance, Service: row.Service, Labels: row.Labels, Process: &cp, Build: BuildOf(row), URL: l.URL, HTTP: l.HTTP, Types: l.Types, MetricsURL: l.MetricsURL}
	if p.State == discover.Profiling && p.Gatherer == "scrape" {
		t.URL, t.HTTP, t.Dial = p.URL, HTTPOptions{}, m.dialer(p)
		t.MetricsURL = cmp.Or(t.MetricsURL, p.MetricsURL)
		if len(t.Types) == 0 {
			t.Types = served(p.Types)
		}
	} else if m.dialer(p) == nil && t.HTTP == (HTTPOptions{}) { // it is reached as the listed target is, and has no credentials to show to another port
		t.MetricsURL = cmp.Or(t.MetricsURL, p.MetricsURL)
	}
	return t
}

func (m *Manager) dialer(p *discover.Process) dialFunc {
	if m.cfg.Scanner == nil {
		return nil
	}
	return m.cfg.Scanner.Dial(p)
}

// adopt brings the report up to date with what listed targets scrape of this machine: whoever is told of it must not gather from these once more.
func adopt(r *discover.Report, pl plan) {
	byInstance := map[string]*planned{}
	for i := range pl.scrape {
		if pl.scrape[i].listed {
			byInstance[pl.scrape[i].Instance] = &pl.scrape[i]
		}
	}
	for i := range r.Processes {
		p := &r.Processes[i]
		if t := byInstance[p.Instance]; t != nil {
			p.State, p.Gatherer, p.Reason, p.Service, p.Labels = discover.Profiling, "scrape", "", t.Service, t.Labels
			if p.URL == "" {
				p.URL = t.redacted()
			}
		}
	}
}

// lookup is what is known of a host name.
type lookup struct {
	addrs []netip.Addr
	at    time.Time
}

// lookUp looks up the host names of listed targets that are not known or not fresh, so that a process of this machine is recognized by its name too.
func (m *Manager) lookUp(ctx context.Context, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.looking || m.ctx == nil {
		return
	}
	var names []string
	for _, l := range m.allListed() {
		u, err := url.Parse(l.URL)
		if err != nil || u.Hostname() == "" || len(names) >= maxNames {
			continue
		}
		host := u.Hostname()
		if _, err := netip.ParseAddr(host); err != nil && now.Sub(m.names[host].at) >= namesFresh && !slices.Contains(names, host) {
			names = append(names, host)
		}
	}
	maps.DeleteFunc(m.names, func(_ string, l lookup) bool { return now.Sub(l.at) >= 10*namesFresh })
	if len(names) == 0 {
		return
	}
	m.looking = true
	m.wg.Go(func() {
		found := make(map[string]lookup, len(names))
		for _, host := range names {
			one, cancel := context.WithTimeout(ctx, namesWait)
			addrs, err := net.DefaultResolver.LookupNetIP(one, "ip", host)
			cancel()
			if err != nil {
				addrs = nil // it is scraped by its name all the same, or fails there
			}
			found[host] = lookup{addrs, now}
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		m.looking = false
		maps.Copy(m.names, found)
		m.reconcile()
	})
}
