package collector

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"time"

	"github.com/sonde-io/sonde/internal/rungroup"
)

// Options are what Run needs besides the configuration: its surroundings.
type Options struct {
	Version string            // of this program; "": dev
	Ready   func(addr string) // called once requests are answered, with the address (host:port); nil: nobody
	Stdout  io.Writer         // a few lines at start: what is kept, where it listens, what was found; nil: the log says it
	Stderr  io.Writer         // the log; nil: os.Stderr

	// Reload, on each receive, reads the configuration again through Load and takes targets and rules from it. nil: never.
	Reload <-chan os.Signal
	Load   func() (Config, error)

	functionsSpread time.Duration // functions.Config.Spread of a sidecar: tests do not wait
}

// Error is an error with what cures it.
type Error struct {
	Err  error
	Cure string
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Hint returns what cures the error.
func (e *Error) Hint() string { return e.Cure }

// gcPercent is how much garbage may gather, in percent of what is alive. What is alive are mostly caches and the blocks that a compaction merges, and little is
// allocated per profile: half the usual room costs a few percent of CPU and saves a quarter of the memory.
const gcPercent = 50

var errDraining = errors.New("draining")

// Run runs a collector until ctx ends or one of its parts fails, then drains: it stops accepting, finishes what is in flight
// within ShutdownTimeout, stops scraping, and closes the store. The end of ctx is no error. cfg must be valid (Load's is).
func Run(ctx context.Context, cfg Config, opts Options) (err error) {
	restore, err := prepare(&cfg, &opts)
	if err != nil {
		return fmt.Errorf("start collector: %w", err)
	}
	defer restore()
	// Opening is quick and not to be left half done; ctx ends the group below.
	p, err := open(context.WithoutCancel(ctx), &cfg, &opts)
	if err != nil {
		return fmt.Errorf("start collector: %w", err)
	}
	defer func() { err = errors.Join(err, p.close()) }()
	p.greet(ctx)

	var g rungroup.Group
	// The order is that of stopping: first no more requests, then no more scrapes, then nothing that a push still needs.
	g.Add("captures", p.captures.Run) // ends the polls that would hold requests up
	g.Add("serve", p.serve)
	g.Add("reload", p.reload)
	p.gather.addTo(&g)
	g.Add("announce", p.announce)
	g.Add("rotate", p.rules.fleet.Run)
	g.Add("silence", p.life.silence)
	g.Add("binaries", p.binaries.Run)
	p.measured.addTo(&g)
	g.Add("store", p.store.Run)
	g.Add("telemetry", p.telemetry.Run)
	err = g.Run(ctx)
	p.log.Info("stopped")
	return err
}

// prepare checks cfg, fills in what may be left out, and sets the limits of this process's memory; restore takes them back.
func prepare(cfg *Config, opts *Options) (restore func(), err error) {
	cfg.applyZeros()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if opts.Stderr == nil {
		opts.Stderr = os.Stderr
	}
	if opts.Version == "" {
		opts.Version = "dev"
	}
	var undo []func()
	if cfg.MemoryLimit > 0 {
		old := debug.SetMemoryLimit(int64(cfg.MemoryLimit))
		undo = append(undo, func() { debug.SetMemoryLimit(old) })
	}
	if os.Getenv("GOGC") == "" {
		old := debug.SetGCPercent(gcPercent)
		undo = append(undo, func() { debug.SetGCPercent(old) })
	}
	return func() {
		for _, u := range undo {
			u()
		}
	}, nil
}

// newLogger writes to w as configured.
func newLogger(cfg *Config, w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.LogLevel)); err != nil {
		return nil, fmt.Errorf("setting log_level: %w", err)
	}
	o := &slog.HandlerOptions{Level: level}
	if cfg.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, o)), nil
	}
	return slog.New(slog.NewTextHandler(w, o)), nil
}

// greet says what is kept and what it will cost.
func (p *parts) greet(ctx context.Context) {
	text := retentionText(p.cfg)
	if blocks, err := liveBlocks(ctx, p.cat); err != nil {
		p.log.Warn("cannot tell how much is stored", "error", err)
	} else {
		text += "; " + diskOutlook(blocks)
	}
	p.say(fmt.Sprintf("data in %s, %s", p.cfg.Data, text), "starting", "version", p.opts.Version, "data", p.cfg.Data, "storage", text, "config", p.cfg.file)
}

// say tells a fact of starting once: people read line on Stdout; where there is none, it is msg in the log. On a terminal both would be seen.
func (p *parts) say(line, msg string, args ...any) {
	level := slog.LevelInfo
	if p.opts.Stdout != nil {
		fmt.Fprintln(p.opts.Stdout, line)
		level = slog.LevelDebug
	}
	p.log.Log(context.Background(), level, msg, args...)
}

// announceEvery is how often the first scan's result is looked for.
const announceEvery = 100 * time.Millisecond

// announce says once what discovery found, then waits for the end.
func (p *parts) announce(ctx context.Context) error {
	t := time.NewTicker(announceEvery)
	defer t.Stop()
	for p.gather.scanner != nil && len(p.gather.scraper.Processes()) == 0 {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
	summary := p.gather.scraper.Summary()
	p.say(summary, "found", "processes", summary)
	<-ctx.Done()
	return nil
}

// reloaded are the settings that reload takes over.
var reloaded = []string{"targets", "agent_rules", "triggers", "rules"}

// reload takes targets and rules anew whenever it is told to. A configuration that is wrong changes nothing.
func (p *parts) reload(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.opts.Reload:
			p.reloadOnce()
		}
	}
}

func (p *parts) reloadOnce() {
	if p.opts.Load == nil {
		return
	}
	next, err := p.opts.Load()
	if err == nil {
		err = p.apply(&next)
	}
	if err != nil {
		p.log.Error("cannot reload the configuration, the old one stays in force", "error", err)
		return
	}
	p.log.Info("reloaded", "targets", len(next.Targets), "agent_rules", len(next.AgentRules), "rule_files", warnRuleFiles(p.log, next.Rules.Files))
	for _, s := range settings {
		if !slices.Contains(reloaded, s.name) && p.cfg.value(s.name) != next.value(s.name) {
			p.log.Warn("setting changed, but takes a restart", "setting", s.name)
		}
	}
}

// warnRuleFiles tells of patterns of rules.files that match nothing, which is no error since files may come later, and returns how many files there are.
func warnRuleFiles(log *slog.Logger, patterns []string) int {
	files := map[string]bool{}
	for _, pattern := range patterns {
		found, err := filepath.Glob(pattern)
		if err == nil && len(found) == 0 {
			log.Warn("no file matches a pattern of rules.files: nothing is evaluated of it", "pattern", pattern)
		}
		for _, name := range found {
			files[name] = true
		}
	}
	return len(files)
}

// apply puts what can change at run time in force.
func (p *parts) apply(cfg *Config) error {
	if err := p.gather.scraper.SetTargets(scrapeTargets(cfg.Targets)); err != nil {
		return err
	}
	cfg.Rules.SetDirectory(filepath.Dir(cfg.file))
	if err := p.alerts.Reload(cfg.Rules); err != nil {
		return fmt.Errorf("setting %w", err)
	}
	rules := cfg.captureRules()
	p.captures.SetRules(rules)
	if err := p.gather.setRules(rules); err != nil {
		return err
	}
	return p.rules.set(cfg)
}
