package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/sonde-io/sonde/cmd/sonde/internal/client"
	"github.com/sonde-io/sonde/collector"
	"github.com/sonde-io/sonde/internal/demo"
)

// demoFlags are the demo's settings.
type demoFlags struct {
	listen, dir string
	keep, all   bool
	moved       bool // the usual port is taken
	duration    time.Duration
	changeAfter time.Duration
}

func (a *app) demoCommand() *cobra.Command {
	var f demoFlags
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Try it: a collector and three small services under load",
		Long: `Try it: run a collector on a temporary directory, and three small services in processes of their own under steady load:

  cart      carries the agent, and leaks goroutines
  checkout  serves plain net/http/pprof; after a minute a new version with a slower function takes its place
            (built with the go command; without one this step is skipped)
  billing   has neither: it is profiled from outside, where the machine allows that; else sonde ps says why not

Everything listens on loopback. Only the demo's own processes are touched, unless --all is given. Ctrl-C ends all of it and
removes the directory.`,
		Args: cobra.NoArgs,
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVar(&f.listen, "listen", "127.0.0.1:7070", "address of the collector; where the default is taken, any free port")
	fs.StringVar(&f.dir, "dir", "", "directory for what is stored, which is kept (default: a temporary one)")
	fs.BoolVar(&f.keep, "keep", false, "keep the temporary directory")
	fs.BoolVar(&f.all, "all", false, "find and profile every Go process of this machine, not only the demo's")
	fs.DurationVar(&f.duration, "duration", 0, "end after this time; 0: at Ctrl-C")
	fs.DurationVar(&f.changeAfter, "change-after", time.Minute, "time until checkout's new version")
	if err := fs.MarkHidden("change-after"); err != nil {
		panic(err) // only for a flag that does not exist
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if !cmd.Flags().Changed("listen") {
			usual := f.listen
			f.listen = freeAddress(usual)
			f.moved = f.listen != usual
		}
		return a.demo(cmd.Context(), f)
	}
	return cmd
}

// freeAddress returns addr where nobody listens there, else one that stands for any free port.
func freeAddress(addr string) string {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return "127.0.0.1:0"
	}
	ln.Close()
	return addr
}

// demoRun is one demo.
type demoRun struct {
	flags   demoFlags
	out     io.Writer // safe for concurrent use
	log     io.Writer // of the services; safe for concurrent use
	dir     string
	exe     string         // this binary: the services run it
	url     string         // the collector's; set once it is ready
	client  *client.Client // likewise
	started time.Time

	mu       sync.Mutex
	services map[string]*demo.Process
}

// demo runs a demo until ctx is done, its time is up, or something that it needs dies.
func (a *app) demo(ctx context.Context, f demoFlags) (err error) {
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find own binary: %w", err)
	}
	d := &demoRun{flags: f, exe: exe, started: a.now(), out: &lockedWriter{w: a.stdout}, log: &lockedWriter{w: a.stderr},
		services: make(map[string]*demo.Process)}
	clean, err := d.makeDir()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, clean()) }()
	if f.duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.duration)
		defer cancel()
	}
	// Ctrl-C and the end of the time are how a demo is meant to end.
	if err := d.run(ctx); err != nil && (ctx.Err() == nil || !errors.Is(err, ctx.Err())) {
		return err
	}
	return nil
}

// makeDir makes the demo's directory and returns what removes it.
func (d *demoRun) makeDir() (remove func() error, err error) {
	if d.flags.dir != "" {
		if d.dir, err = filepath.Abs(d.flags.dir); err != nil {
			return nil, fmt.Errorf("make demo directory: %w", err)
		}
		if err := os.MkdirAll(d.dir, 0o700); err != nil {
			return nil, fmt.Errorf("make demo directory: %w", err)
		}
		return func() error { return os.RemoveAll(d.buildDir()) }, nil
	}
	if d.dir, err = os.MkdirTemp("", "sonde-demo-"); err != nil {
		return nil, fmt.Errorf("make demo directory: %w", err)
	}
	return func() error {
		if d.flags.keep {
			fmt.Fprintf(d.out, "kept %s: sonde serve --data %s\n", d.dir, d.dataDir())
			return os.RemoveAll(d.buildDir())
		}
		return os.RemoveAll(d.dir)
	}, nil
}

func (d *demoRun) dataDir() string  { return filepath.Join(d.dir, "data") }
func (d *demoRun) buildDir() string { return filepath.Join(d.dir, "build") }

// config is the collector's: as serve's, but restricted to the demo's own programs, and with them in more of a hurry than it may be with others.
func (d *demoRun) config() collector.Config {
	cfg := collector.DefaultConfig()
	cfg.Listen = d.flags.listen
	cfg.Data = d.dataDir()
	cfg.LogLevel = "warn"
	if !d.flags.all {
		cfg.ScrapePeriod = collector.Duration(5 * time.Second)
		cfg.CPUPeriod = collector.Duration(6 * time.Second)
		cfg.CPUDuration = collector.Duration(3 * time.Second)
		cfg.Allow = []string{"path:" + escapePattern(d.exe), "path:" + escapePattern(d.buildDir()) + "/*"}
	}
	return cfg
}

// escapePattern returns the path.Match pattern that matches s only.
func escapePattern(s string) string {
	var b []byte
	for _, c := range []byte(s) {
		switch c {
		case '*', '?', '[', '\\':
			b = append(b, '\\')
		}
		b = append(b, c)
	}
	return string(b)
}

// lockedWriter makes w safe for concurrent use.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}
