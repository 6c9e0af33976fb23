package collector

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/capture"
	"github.com/sonde-io/sonde/collector/coverage"
	"github.com/sonde-io/sonde/collector/discover"
	"github.com/sonde-io/sonde/collector/discover/kube"
	"github.com/sonde-io/sonde/collector/discover/sd"
	"github.com/sonde-io/sonde/collector/exposed"
	"github.com/sonde-io/sonde/collector/functions"
	"github.com/sonde-io/sonde/collector/godebug"
	"github.com/sonde-io/sonde/collector/inspect"
	"github.com/sonde-io/sonde/collector/perf"
	"github.com/sonde-io/sonde/collector/privacy"
	"github.com/sonde-io/sonde/collector/procstat"
	"github.com/sonde-io/sonde/collector/rotate"
	"github.com/sonde-io/sonde/collector/scrape"
	"github.com/sonde-io/sonde/collector/series"
	"github.com/sonde-io/sonde/collector/trigger"
	"github.com/sonde-io/sonde/collector/wire"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/internal/rungroup"
	"github.com/sonde-io/sonde/profiles/store"
	"github.com/sonde-io/sonde/symbols/binaries"
)

// The ways of gathering from processes that no agent reports: the values of the setting gather.
const (
	GatherScrape  = "scrape"  // net/http/pprof
	GatherGops    = "gops"    // an agent of google/gops
	GatherPerf    = "perf"    // the CPU, by perf_event
	GatherMemory  = "memory"  // goroutines, heap, mutex and block, out of the runtime's memory
	GatherMetrics = "metrics" // what processes offer as metrics, and what the kernel knows of them
	GatherOffCPU  = "offcpu"  // time off the CPU, by perf's context switches
	GatherKernel  = "kernel"  // kernel frames in perf's stacks
	GatherSelf    = "self"    // this program too, as any other
)

var gatherWays = []string{GatherScrape, GatherGops, GatherPerf, GatherMemory, GatherMetrics, GatherOffCPU, GatherKernel, GatherSelf}

// sink takes what was gathered: the store of a collector, the spool of a sidecar.
type sink interface {
	Append(ctx context.Context, p store.Push) error
}

// outlets are where gatherers leave what they found, and what they go by.
type outlets struct {
	sink     sink
	series   series.Appender
	lines    wire.LinesSink
	seen     func(ctx context.Context, ps []catalog.Process)
	events   func(ctx context.Context, es []catalog.Event) error
	renamed  func(ctx context.Context, instances []string)      // is told which instances turned out to be processes with an agent, which have its name now; nil: nobody is
	agentOf  func(id discover.Identity) (catalog.Process, bool) // the row of a process that its agent reports
	agentIn  func(labels map[string]string) bool                // whether an agent reports from the pod of a target on another machine; nil: nobody knows
	turns    func(process labels.Labels) *rotate.Settings       // how its replicas take turns; nil: all are profiled
	captures capture.Source                                     // who asks for captures
	report   coverage.Deliver                                   // takes what should be watched here
	reporter string                                             // what delivers it: serve or sidecar
	binaries *binaries.Store                                    // is told which binaries are here; nil: nobody is
	lists    *functions.Sender                                  // is told which builds run here; nil: nobody is
}

// gatherers find the processes of this machine and profile those that no agent reports. They are the same in a collector and in a sidecar.
type gatherers struct {
	cfg     *Config
	log     *slog.Logger
	out     outlets
	host    string
	scanner *discover.Scanner // nil: no discovery
	scraper *scrape.Manager
	perf    *perf.Sampler      // nil: not asked for
	memory  *inspect.Inspector // nil: not asked for
	trigger *trigger.Engine    // nil: no discovery
	cover   *coverage.Reporter // nil: no discovery
	filter  *privacy.Filter    // of what leaves; nil: everything does
	lists   *sd.Manager        // nil: no targets from elsewhere
	kernel  *procstat.Manager  // metrics of processes and their cgroups; nil: not asked for
	exposed *exposed.Manager   // metrics that processes offer; nil: not asked for
	logs    *godebug.Followers // nil: none is followed
	poller  *capture.Poller    // nil: nobody is asked for captures

	own  atomic.Pointer[labels.Labels] // of the process that this is, once a scan has found it
	told map[string]int                // builds whose binary was told of, and the process that has it; scans alone touch it

	names map[ran]string // instances under which processes are measured; scans alone touch it
}

// ran is a process of this machine.
type ran struct {
	pid   int
	start uint64
}

// through returns outlets that let out only what f does.
func (o outlets) through(f *privacy.Filter) outlets {
	if f == nil {
		return o
	}
	seen, events := o.seen, o.events
	o.sink, o.series, o.lines = f.Sink(o.sink), f.Series(o.series), f.Lines(o.lines)
	o.seen = func(ctx context.Context, ps []catalog.Process) { seen(ctx, f.Processes(ps)) }
	o.events = func(ctx context.Context, es []catalog.Event) error { return events(ctx, f.Events(es)) }
	return o
}

// newGatherers makes the gatherers that cfg asks for. close ends them after their Run.
func newGatherers(cfg *Config, version string, log *slog.Logger, registry *prometheus.Registry, out outlets) (_ *gatherers, err error) {
	filter, err := cfg.Privacy.filter()
	if err != nil {
		return nil, err
	}
	g := &gatherers{cfg: cfg, log: log, out: out.through(filter), filter: filter, told: map[string]int{}}
	g.out.sink = observed{g, g.out.sink}
	registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "sonde_privacy_samples_left_out_total", Help: "Samples of series that did not leave: a label of theirs was dropped, or redaction made them those of another."},
		func() float64 { return float64(filter.LeftOut()) }))
	if g.host = os.Getenv(kube.NodeVariable); g.host == "" { // in a pod the host's name is the pod's
		g.host, _ = os.Hostname() // without one it stays empty
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.close())
		}
	}()
	if cfg.ServiceDiscovery.Enabled() {
		if g.lists, err = sd.New(cfg.ServiceDiscovery, sd.Options{Version: version, Logger: log, Registerer: registry}); err != nil {
			return nil, err
		}
	}
	if cfg.Discover {
		if err := g.openScanner(version); err != nil {
			return nil, err
		}
	}
	if g.scanner != nil {
		if err := g.openSamplers(registry); err != nil {
			return nil, err
		}
		if err := g.openTriggers(registry); err != nil {
			return nil, err
		}
		cc := coverage.Config{Node: g.host, Gatherer: out.reporter, Deliver: out.report, Partial: g.lacks, Logger: log}
		if filter != nil {
			cc.Redact = func(s string) string { s, _ = filter.Text(s); return s }
		}
		g.cover = coverage.New(cc)
	}
	sc := scrape.Config{Sink: g.out.sink, Scanner: g.scanner, Version: version, Host: g.host, CPUPeriod: cfg.CPUPeriod.D(), CPUDuration: cfg.CPUDuration.D(),
		Period: cfg.ScrapePeriod.D(), MaxBody: int64(cfg.MaxBodyBytes), MaxDecoded: int64(cfg.Limits.MaxDecompressedBytes), MaxSamples: cfg.Limits.MaxSamples,
		Rotate: g.out.turns, Seen: g.out.seen, ByAgent: g.out.agentIn, Report: g.report, Logger: log, Registerer: registry, ScanPeriod: cfg.ScrapePeriod.D() / 3}
	if sc.CPUDuration == 0 {
		sc.CPUDuration = -1 // scrape's word for none
	}
	if g.scraper, err = scrape.New(sc); err != nil {
		return nil, err
	}
	if err := g.openMetrics(registry); err != nil {
		return nil, err
	}
	g.logs, err = godebug.NewFollowers(godebug.FollowersConfig{Settings: cfg.Godebug, Dir: filepath.Join(cfg.Data, LogsDir), Host: g.host, Series: g.out.series, Lines: g.out.lines,
		Redact: filter.Bytes, Logger: log, Registerer: registry})
	if err != nil {
		return nil, err
	}
	if !cfg.Captures.Disabled {
		g.poller = &capture.Poller{Source: out.captures, Executor: g.executors(), Logger: log}
	}
	return g, nil
}

func (g *gatherers) openScanner(version string) error {
	rules, err := g.cfg.touchRules()
	if err != nil {
		return err
	}
	dc := discover.Config{Version: version, Host: g.host, Logger: g.log, AgentSeen: g.agentSeen, Rules: rules, Sampled: g.sampled, Self: g.cfg.gathers(GatherSelf), Env: g.cfg.Builds.Env}
	if g.lists != nil {
		dc.Placed, dc.Relabel = g.lists.Placed(), g.lists.Relabel()
	}
	s, err := discover.New(dc)
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		g.log.Warn("processes are not discovered on this system; agents push, and targets can be listed", "error", err)
	case err != nil:
		return fmt.Errorf("start discovery: %w", err)
	default:
		g.scanner = s
	}
	return nil
}

// openSamplers makes what watches processes from outside.
func (g *gatherers) openSamplers(registry prometheus.Registerer) (err error) {
	if g.cfg.gathers(GatherPerf) || g.cfg.gathers(GatherOffCPU) {
		g.perf, err = perf.New(perf.Config{Sink: g.out.sink, Describe: g.describe, Seen: g.out.seen, Kernel: g.cfg.gathers(GatherKernel), OffCPU: g.cfg.gathers(GatherOffCPU),
			Logger: g.log, Registerer: registry})
		if err != nil {
			return err
		}
	}
	if g.cfg.gathers(GatherMemory) {
		g.memory, err = inspect.New(inspect.Config{Sink: g.out.sink, Logger: g.log, Registerer: registry})
	}
	return err
}

// openMetrics makes what reads the metrics of processes.
func (g *gatherers) openMetrics(registry *prometheus.Registry) (err error) {
	if !g.cfg.gathers(GatherMetrics) {
		return nil
	}
	m := g.cfg.Metrics.WithDefaults()
	c := exposed.Config{Source: g.scraper, Series: g.out.series, Keep: m.Keep, Logger: g.log, Registerer: registry}
	if g.cfg.gathers(GatherSelf) {
		c.Own = &exposed.Own{Gatherer: registry, Process: g.ownLabels}
	}
	if g.exposed, err = exposed.New(c); err != nil {
		return err
	}
	if g.scanner != nil {
		g.kernel = procstat.New(procstat.Config{Series: g.out.series, Given: g.exposed.Given, Logger: g.log, Registerer: registry})
	}
	return nil
}

// openTriggers makes what watches processes for triggers and for their end. What is gathered from here on passes by it.
func (g *gatherers) openTriggers(registry prometheus.Registerer) (err error) {
	g.trigger, err = trigger.New(trigger.Config{Executor: late{g}, Source: g.out.captures, Events: g.out.events, Logger: g.log, Registerer: registry})
	return err
}

// setRules puts triggers in force.
func (g *gatherers) setRules(rules []capture.Rule) error {
	if g.trigger == nil {
		return nil
	}
	return g.trigger.SetRules(rules)
}

// addTo adds what works to the group.
func (g *gatherers) addTo(group *rungroup.Group) {
	if g.trigger != nil {
		group.Add("triggers", g.trigger.Run) // takes captures of what the others reach
	}
	if g.poller != nil {
		group.Add("capture", g.poller.Run)
	}
	if g.lists != nil {
		group.Add("lists", func(ctx context.Context) error { return g.lists.Run(ctx, g.scraper.SetSource) })
	}
	group.Add("scrape", g.scraper.Run)
	if g.perf != nil {
		group.Add("perf", g.perf.Run)
	}
	if g.memory != nil {
		group.Add("memory", g.memory.Run)
	}
	if g.exposed != nil {
		group.Add("exposed", g.exposed.Run)
	}
	if g.kernel != nil {
		group.Add("procstat", g.kernel.Run)
	}
	if g.logs != nil {
		group.Add("logs", g.logs.Run)
	}
	if g.cover != nil {
		group.Add("coverage", g.leave)
	}
}

// leave waits until nothing is scanned any more and says that this node's reports end on purpose.
func (g *gatherers) leave(ctx context.Context) error {
	<-ctx.Done()
	if err := g.cover.Leave(context.WithoutCancel(ctx)); err != nil {
		g.log.Warn("cannot say that this node is left on purpose", "error", err)
	}
	return nil
}

func (g *gatherers) close() error {
	if g.scanner == nil {
		return nil
	}
	return g.scanner.Close()
}

// TouchRules returns what the settings allow and deny say may be touched.
func (c *Config) TouchRules() (discover.Rules, error) { return c.touchRules() }

func (c *Config) touchRules() (r discover.Rules, err error) {
	r.NoProbes, r.NoGops, r.NoMetrics = !c.gathers(GatherScrape), !c.gathers(GatherGops), !c.gathers(GatherMetrics)
	if err := parseTouch(c.Allow, &r.AllowUIDs, &r.AllowPorts, &r.AllowExes); err != nil {
		return r, err
	}
	return r, parseTouch(c.Deny, &r.DenyUIDs, &r.DenyPorts, &r.DenyExes)
}

// parseTouch sorts what an allow or deny list names.
func parseTouch(list []string, uids, ports *[]int, exes *[]string) error {
	for _, item := range list {
		kind, value, _ := strings.Cut(item, ":")
		n, err := strconv.Atoi(value)
		switch {
		case kind == "path" && value != "":
			*exes = append(*exes, value)
		case kind == "uid" && err == nil && n >= 0:
			*uids = append(*uids, n)
		case kind == "port" && err == nil && n >= 1 && n <= 65535:
			*ports = append(*ports, n)
		default:
			return fmt.Errorf("%q is none of uid:N, port:N (1 to 65535), path:PATTERN", item)
		}
	}
	return nil
}

// gathers reports whether the setting gather names way.
func (c *Config) gathers(way string) bool { return slices.Contains(c.Gather, way) }

// validateUpstream checks the address that a sidecar forwards to, where there is one.
func (c *Config) validateUpstream() error {
	if c.Upstream == "" {
		return nil
	}
	u, err := url.Parse(c.Upstream)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" {
		return fmt.Errorf("%q is not http://HOST:PORT or https://HOST:PORT", redact(c.Upstream))
	}
	return nil
}
