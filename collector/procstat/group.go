package procstat

import (
	"path/filepath"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/series"
	"github.com/sonde-io/sonde/internal/cgroup"
)

var (
	groupCPU         = named("container_cpu_usage_seconds_total")
	cfsPeriods       = named("container_cpu_cfs_periods_total")
	cfsThrottled     = named("container_cpu_cfs_throttled_periods_total")
	cfsThrottledTime = named("container_cpu_cfs_throttled_seconds_total")
	specQuota        = named("container_spec_cpu_quota")
	specPeriod       = named("container_spec_cpu_period")
	specMemory       = named("container_spec_memory_limit_bytes")
	memoryUsage      = named("container_memory_usage_bytes")
	workingSet       = named("container_memory_working_set_bytes")
	memoryRSS        = named("container_memory_rss")
	oomEvents        = named("container_oom_events_total")
)

// pressures are the files of PSI and their series.
var pressures = []struct {
	file             string
	waiting, stalled labels.Labels
}{
	{"cpu.pressure", named("container_pressure_cpu_waiting_seconds_total"), named("container_pressure_cpu_stalled_seconds_total")},
	{"memory.pressure", named("container_pressure_memory_waiting_seconds_total"), named("container_pressure_memory_stalled_seconds_total")},
	{"io.pressure", named("container_pressure_io_waiting_seconds_total"), named("container_pressure_io_stalled_seconds_total")},
}

// group is what one or several processes share: their cgroups of the controllers of version 1, or their one of version 2.
type group struct {
	memory, cpu, acct, unified cgroup.Place // without a Root: there is none, or it is the root of the machine, which limits nothing

	limit         int64 // of memory, the least of its own and those above; 0: none
	quota, period int64 // of CPU time in µs, the least; a period of 0: no limit
	throttler     string
	looked        bool

	round int // in which samples were read
}

// groupKey is equal for two processes that share a group.
type groupKey struct{ memory, cpu, acct, unified string }

// groupOf finds the group of a process; nil where it has none that tells anything.
func (r *reader) groupOf(p *process, groups map[groupKey]*group) *group {
	b, err := cgroup.Read(r.buf, p.dir+"/cgroup")
	if err != nil {
		return nil
	}
	r.buf = b
	paths := cgroup.ParsePaths(b)
	g := &group{
		memory:  r.place(p.t.PID, "memory", paths.Memory, paths.Unified, "memory.usage_in_bytes", "memory.current"),
		cpu:     r.place(p.t.PID, "cpu", paths.CPU, paths.Unified, "cpu.cfs_quota_us", "cpu.stat"),
		acct:    r.place(p.t.PID, "cpuacct", paths.CPUAcct, "", "cpuacct.usage", ""),
		unified: r.place(p.t.PID, "", "", paths.Unified, "", "cpu.pressure"),
	}
	key := groupKey{}
	for at, place := range map[*string]cgroup.Place{&key.memory: g.memory, &key.cpu: g.cpu, &key.acct: g.acct, &key.unified: g.unified} {
		if place.Root != "" {
			*at = place.Dir()
		}
	}
	if key == (groupKey{}) {
		return nil
	}
	if known := groups[key]; known != nil {
		return known
	}
	g.round = -1
	groups[key] = g
	return g
}

// place finds where a controller's files of a process are: v1 or v2 are files that it must have.
func (r *reader) place(pid int, controller, path, unified, v1, v2 string) cgroup.Place {
	for _, at := range r.mounts.Places(pid, controller, path, unified) {
		probe := v1
		if at.V2 {
			probe = v2
		}
		if probe == "" || !at.Real() || at.Top() {
			continue
		}
		if b, err := cgroup.Read(r.buf, filepath.Join(at.Dir(), probe)); err == nil {
			r.buf = b
			return at
		}
	}
	return cgroup.Place{}
}

// file reads a file of a cgroup; nil where there is none.
func (r *reader) file(dir, name string) []byte {
	b, err := cgroup.Read(r.buf, dir+"/"+name)
	if err != nil {
		return nil
	}
	r.buf = b
	return b
}

// sample reads the cgroups once a round, for the process that asks first, and their limits now and then. It appends to r.out.
func (r *reader) sample(g *group, round int, t int64) {
	if g.round == round {
		return
	}
	if !g.looked || round%slowRounds == 0 {
		r.limits(g)
	}
	g.round = round
	put := func(ls labels.Labels, v float64) { r.out = append(r.out, series.Sample{Labels: ls, T: t, V: v}) }
	r.cpuOf(g, put)
	if g.memory.Root != "" {
		r.memoryOf(g, put)
	}
	if g.unified.Root == "" {
		return
	}
	for _, p := range pressures {
		some, full, err := cgroup.ParsePressure(r.file(g.unified.Dir(), p.file))
		if err == nil {
			put(p.waiting, float64(some.Total)/1e6)
			put(p.stalled, float64(full.Total)/1e6)
		}
	}
}

func (r *reader) cpuOf(g *group, put func(labels.Labels, float64)) {
	var usage, scale float64
	ok := false
	switch {
	case g.acct.Root != "":
		if n, err := cgroup.ParseLimit(r.file(g.acct.Dir(), "cpuacct.usage")); err == nil {
			usage, scale, ok = float64(n), 1e9, true
		}
	case g.cpu.Root != "" && g.cpu.V2:
		if n, found := cgroup.Keyed(r.file(g.cpu.Dir(), "cpu.stat"), "usage_usec"); found {
			usage, scale, ok = float64(n), 1e6, true
		}
	}
	if ok {
		put(groupCPU, usage/scale)
	}
	if g.period == 0 {
		return
	}
	put(specQuota, float64(g.quota))
	put(specPeriod, float64(g.period))
	b := r.file(g.throttler, "cpu.stat") // of the level that has the limit: only there it is counted
	time, unit := "throttled_time", 1e9
	if g.cpu.V2 {
		time, unit = "throttled_usec", 1e6
	}
	for _, f := range []struct {
		key   string
		name  labels.Labels
		scale float64
	}{{"nr_periods", cfsPeriods, 1}, {"nr_throttled", cfsThrottled, 1}, {time, cfsThrottledTime, unit}} {
		if n, ok := cgroup.Keyed(b, f.key); ok {
			put(f.name, float64(n)/f.scale)
		}
	}
}

func (r *reader) memoryOf(g *group, put func(labels.Labels, float64)) {
	dir := g.memory.Dir()
	usageFile, inactive, rss, events := "memory.usage_in_bytes", "total_inactive_file", "total_rss", "memory.oom_control"
	if g.memory.V2 {
		usageFile, inactive, rss, events = "memory.current", "inactive_file", "anon", "memory.events"
	}
	usage, err := cgroup.ParseLimit(r.file(dir, usageFile))
	if err != nil {
		return
	}
	put(memoryUsage, float64(usage))
	if g.limit > 0 {
		put(specMemory, float64(g.limit))
	}
	b := r.file(dir, "memory.stat")
	if n, ok := cgroup.Keyed(b, inactive); ok {
		put(workingSet, float64(max(usage-n, 0)))
	}
	if n, ok := cgroup.Keyed(b, rss); ok {
		put(memoryRSS, float64(n))
	}
	if n, ok := cgroup.Keyed(r.file(dir, events), "oom_kill"); ok {
		put(oomEvents, float64(n))
	}
}

// limits reads the limits of the cgroups and of those above them anew: the least counts, since it is the first to be felt.
func (r *reader) limits(g *group) {
	g.looked, g.limit, g.quota, g.period, g.throttler = true, 0, 0, 0, ""
	if g.memory.Root != "" {
		name := "memory.limit_in_bytes"
		if g.memory.V2 {
			name = "memory.max"
		}
		for _, dir := range levels(g.memory) {
			if n, err := cgroup.ParseLimit(r.file(dir, name)); err == nil && n > 0 && n < cgroup.Unlimited && (g.limit == 0 || n < g.limit) {
				g.limit = n
			}
		}
	}
	if g.cpu.Root == "" {
		return
	}
	for _, dir := range levels(g.cpu) {
		quota, period := r.quota(dir, g.cpu.V2)
		if period > 0 && (g.period == 0 || float64(quota)/float64(period) < float64(g.quota)/float64(g.period)) {
			g.quota, g.period, g.throttler = quota, period, dir
		}
	}
}

// levels are the folder of a cgroup and those above it.
func levels(p cgroup.Place) []string { return append([]string{p.Dir()}, p.Parents()...) }

// quota reads how much CPU time a cgroup may use in a period, in µs; a period of 0 says that it has no limit.
func (r *reader) quota(dir string, v2 bool) (quota, period int64) {
	if v2 {
		q, p, err := cgroup.ParseQuota(r.file(dir, "cpu.max"))
		if err != nil {
			return 0, 0
		}
		return q, p
	}
	q, err := cgroup.ParseLimit(r.file(dir, "cpu.cfs_quota_us")) // -1, no limit, is none that parses
	if err != nil || q == 0 {
		return 0, 0
	}
	p, err := cgroup.ParseLimit(r.file(dir, "cpu.cfs_period_us"))
	if err != nil {
		return 0, 0
	}
	return q, p
}
