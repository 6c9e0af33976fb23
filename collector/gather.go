package collector

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-io/sonde/collector/discover"
	"github.com/sonde-io/sonde/collector/scrape"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles/store"
)

// The ways of gathering from processes that no agent reports: the values of the setting gather.
const (
	GatherScrape = "scrape" // net/http/pprof
	GatherGops   = "gops"   // an agent of google/gops
	GatherPerf   = "perf"   // the CPU, by perf_event
	GatherMemory = "memory" // goroutines, heap, mutex and block, out of the runtime's memory
	GatherOffCPU = "offcpu" // time off the CPU, by perf's context switches
	GatherKernel = "kernel" // kernel frames in perf's stacks
)

var gatherWays = []string{GatherScrape, GatherGops, GatherPerf, GatherMemory, GatherOffCPU, GatherKernel}

// sink takes what was gathered: the store of a collector, the spool of a sidecar.
type sink interface {
	Append(ctx context.Context, p store.Push) error
}

// outlets are where gatherers leave what they found.
type outlets struct {
	sink      sink
	seen      func(ctx context.Context, ps []catalog.Process)
	events    func(ctx context.Context, es []catalog.Event) error
	agentSeen func(bootID string, pidns, startTicks uint64, pids []int) bool // whether an agent reports that process
}

// gatherers find the processes of this machine and profile those that no agent reports. They are the same in a collector and in a sidecar.
type gatherers struct {
	log     *slog.Logger
	scanner *discover.Scanner // nil: no discovery
	scraper *scrape.Manager
}

// newGatherers makes the gatherers that cfg asks for. close ends them after their Run.
func newGatherers(cfg *Config, version string, log *slog.Logger, registry prometheus.Registerer, out outlets) (_ *gatherers, err error) {
	g := &gatherers{log: log}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.close())
		}
	}()
	if cfg.Discover {
		if err := g.openScanner(cfg, version, out); err != nil {
			return nil, err
		}
	}
	sc := scrape.Config{Sink: out.sink, Scanner: g.scanner, Version: version, CPUPeriod: cfg.CPUPeriod.D(), CPUDuration: cfg.CPUDuration.D(),
		Period: cfg.ScrapePeriod.D(), MaxBody: int64(cfg.MaxBodyBytes), MaxDecoded: int64(cfg.MaxDecompressedBytes), MaxSamples: cfg.MaxSamples,
		Seen: out.seen, Logger: log, Registerer: registry, ScanPeriod: cfg.ScrapePeriod.D() / 3}
	if sc.CPUDuration == 0 {
		sc.CPUDuration = -1 // scrape's word for none
	}
	g.scraper, err = scrape.New(sc)
	return g, err
}

func (g *gatherers) openScanner(cfg *Config, version string, out outlets) error {
	rules, err := cfg.touchRules()
	if err != nil {
		return err
	}
	s, err := discover.New(discover.Config{Version: version, Logger: g.log, AgentSeen: out.agentSeen, Rules: rules})
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

func (g *gatherers) close() error {
	if g.scanner == nil {
		return nil
	}
	return g.scanner.Close()
}

// TouchRules returns what the settings allow and deny say may be touched.
func (c *Config) TouchRules() (discover.Rules, error) { return c.touchRules() }

func (c *Config) touchRules() (r discover.Rules, err error) {
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
