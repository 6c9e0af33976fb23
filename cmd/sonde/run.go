package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/spf13/cobra"

	"github.com/sonde-io/sonde/cmd/sonde/internal/client"
	"github.com/sonde-io/sonde/cmd/sonde/internal/launch"
	"github.com/sonde-io/sonde/collector/discover"
	"github.com/sonde-io/sonde/collector/godebug"
	"github.com/sonde-io/sonde/collector/wire"
	"github.com/sonde-io/sonde/symbols/build"
)

// runFlags are those of sonde run.
type runFlags struct {
	gctrace, schedtrace            int
	detail, scav, pacer, inittrace bool
	service, log                   string
	keep                           bool
	every, closeTimeout            time.Duration
}

func (f *runFlags) traces() godebug.Traces {
	return godebug.Traces{GC: f.gctrace, Sched: time.Duration(f.schedtrace) * time.Millisecond, Detail: f.detail, Scavenger: f.scav, Pacer: f.pacer, Init: f.inittrace}
}

func (a *app) runCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run [flags] -- PROG [ARG...]",
		Short: "Start a program with the runtime's traces, and keep what they say",
		Long: `Start PROG with the traces of GODEBUG that are asked for, take their lines out of its standard error, and send them to the collector: as metrics
(sonde gc, sonde sched) and as they are. What PROG itself sets in GODEBUG stays, and wins. Everything else that it prints comes out byte for byte.

PROG keeps standard input and output, the terminal and job control; signals are passed on, and this command ends as PROG does: with its code, or by
its signal. As process 1 of a container it reaps whoever is left over. Nothing that happens to the collector makes PROG wait; what cannot be sent is
dropped in the end, and counted (sonde_godebug_dropped_lines_total).

Children that PROG leaves running keep its standard error: a process of this command's own passes on what they write, as it is, and ends with them.
Children of PROG that are Go programs inherit GODEBUG and standard error: their lines are taken out and kept as text, but are no part of PROG's metrics.
A service manager that signals all processes at once (systemd's KillMode=control-group) signals PROG twice: KillMode=mixed does not.`,
		Example: `  sonde run -- ./cart --port 8080
  sonde run --service cart --schedtrace 1000 -- ./cart
  sonde run --server http://sonde:7070 --inittrace --log /tmp/sonde-run.log -- ./cart
  ENTRYPOINT ["sonde", "run", "--", "/app/cart"]`,
		Args: cobra.MinimumNArgs(1),
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.SetInterspersed(false) // what follows PROG is its own
	fs.IntVar(&f.gctrace, "gctrace", 1, "garbage collector: 1: a line per cycle, 2: also what it scanned (Go 1.26), 0: none")
	fs.IntVar(&f.schedtrace, "schedtrace", 0, "scheduler: a line every so many milliseconds, 0: none")
	fs.BoolVar(&f.detail, "scheddetail", false, "with --schedtrace: also every processor, thread and goroutine, with the world's scheduler stopped meanwhile")
	fs.BoolVar(&f.scav, "scavtrace", false, "scavenger: memory given back to the system")
	fs.BoolVar(&f.pacer, "gcpacertrace", false, "the garbage collector's pacer")
	fs.BoolVar(&f.inittrace, "inittrace", false, "what each package's init costs")
	fs.StringVarP(&f.service, "service", "s", "", "the service's name: sets SONDE_SERVICE for PROG")
	fs.BoolVar(&f.keep, "keep", false, "leave the traces in standard error too")
	fs.DurationVar(&f.every, "every", 5*time.Second, "how often what was taken is sent")
	fs.DurationVar(&f.closeTimeout, "close-timeout", 2*time.Second, "longest time to send what is left once PROG has ended")
	fs.StringVar(&f.log, "log", "", "file for this command's own messages (default: none are printed, standard error is PROG's)")
	a.clientFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if f.gctrace < 0 || f.schedtrace < 0 {
			return usage(cmd, "a trace cannot be less than 0")
		}
		if f.detail && f.schedtrace == 0 {
			return usage(cmd, "--scheddetail needs --schedtrace")
		}
		return a.launch(cmd, &f, args)
	}
	return cmd
}

// runRestCommand is how sonde run starts this binary again, to pass on what children of a program that has ended still write.
func (a *app) runRestCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "run-rest",
		Short:  "Copy standard input to standard error",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			launch.Rest(a.stdin, a.stderr)
			return nil
		},
	}
}

// launch runs the program; its error is how the program ended, nil where it ended well.
func (a *app) launch(cmd *cobra.Command, f *runFlags, args []string) error {
	stdin, okIn := a.stdin.(*os.File)
	stdout, okOut := a.stdout.(*os.File)
	stderr, okErr := a.stderr.(*os.File)
	if !okIn || !okOut || !okErr {
		return errors.New("run: standard input, output and error are no files")
	}
	log, closeLog, err := openRunLog(f.log)
	if err != nil {
		return err
	}
	defer closeLog()
	path, err := exec.LookPath(args[0])
	if err != nil && !errors.Is(err, exec.ErrDot) {
		return &launch.StartError{Path: args[0], Err: lookError(err)}
	}
	r := &runner{app: a, flags: f, log: log, path: path, args: args, env: os.Environ()}
	if f.service != "" {
		r.set("SONDE_SERVICE", f.service)
	}
	own, _ := a.lookupEnv("GODEBUG")
	debug := f.traces().Merge(own)
	if debug != "" {
		r.set("GODEBUG", debug)
	}
	if info, err := build.ReadFile(path); err == nil {
		r.build = info
	}
	if r.build != nil && hasAgent(r.build) {
		r.agent = newInstanceID()
		r.set("SONDE_INSTANCE", r.agent+":"+strconv.Itoa(os.Getpid()))
	}
	if err := r.connect(); err != nil {
		return err
	}
	end, err := launch.Run(launch.Config{Path: path, Args: args, Env: r.env, Stdin: stdin, Stdout: stdout, Stderr: stderr,
		Traces: godebug.TracesOf(debug), Keep: f.keep, Rest: []string{"run-rest"}, Started: r.started, Line: r.line})
	if err != nil {
		return err
	}
	r.close(end)
	if end.Code == 0 && end.Signal == 0 {
		return nil
	}
	return end
}

// lookError makes of exec's own error that a program is not found the system's.
func lookError(err error) error {
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("%w in $PATH", os.ErrNotExist)
	}
	return err
}

func openRunLog(path string) (*slog.Logger, func(), error) {
	if path == "" {
		return slog.New(slog.DiscardHandler), func() {}, nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("open log: %w", err)
	}
	return slog.New(slog.NewTextHandler(f, nil)), func() { _ = f.Close() }, nil
}

// hasAgent reports whether a program can be expected to have an agent. Sonde's own command has one built in that only its demo starts.
func hasAgent(info *build.Info) bool {
	const module = "github.com/sonde-io/sonde/agent"
	return info.HasDep(module) && info.Module()+"/agent" != module
}

func newInstanceID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails
	return hex.EncodeToString(b[:])
}

// runner is one run of a program.
type runner struct {
	app   *app
	flags *runFlags
	log   *slog.Logger
	path  string
	args  []string
	env   []string
	build *build.Info // of the file; nil: it is no Go program
	agent string      // the instance id of the agent that is built into the program; "": none is

	base, token string
	http        *http.Client
	reporter    *launch.Reporter
	stop        context.CancelFunc
	running     sync.WaitGroup
}

// set sets a variable of the program's environment.
func (r *runner) set(name, value string) {
	kept := r.env[:0]
	for _, kv := range r.env {
		if !strings.HasPrefix(kv, name+"=") {
			kept = append(kept, kv)
		}
	}
	r.env = append(kept, name+"="+value)
}

// connect finds out where the collector is, by the flags and the variables that agents obey too: unix:PATH is a socket.
func (r *runner) connect() (err error) {
	server := r.app.server
	if server == "" {
		server, _ = r.app.lookupEnv("SONDE_URL")
	}
	if server == "" {
		server = defaultServer
	}
	if r.token, err = r.app.token(); err != nil {
		return err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if socket, ok := strings.CutPrefix(server, "unix:"); ok {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		}
		server = "http://localhost"
	}
	c, err := client.New(client.Config{URL: server, Token: r.token, Transport: transport, UserAgent: "sonde/" + currentVersion().Version})
	if err != nil {
		return withHint(err, "set it with --server or SONDE_URL")
	}
	r.base, r.http = strings.TrimSuffix(c.URL("/", nil), "/"), &http.Client{Transport: transport}
	return nil
}

// started begins to report the program, now that it runs.
func (r *runner) started(pid int) {
	now := time.Now()
	p, known := describePID(pid, discover.Command{Args: r.args, Env: r.env})
	if known && !p.Started.IsZero() && now.Sub(p.Started) > 0 && now.Sub(p.Started) < 50*time.Millisecond {
		now = p.Started
	}
	ls := maps.Clone(p.Labels)
	if !known { // it is no Go program, or has ended already
		_, ls = discover.Names(r.env, r.path, r.build)
		ls["process_pid"] = strconv.Itoa(pid)
		if b := r.build; b != nil {
			p.Build, p.BuildID, p.GoVersion = b, b.Key(), b.GoVersion
		}
	}
	cfg := launch.ReporterConfig{Client: r.http, URL: r.base, Token: r.token, Agent: "sonde/" + currentVersion().Version, Every: r.flags.every, Log: r.log, Build: p.BuildID}
	instance := p.Instance
	switch {
	case r.agent != "":
		instance = r.agent
		cfg.Lookup = r.lookup
	case instance == "":
		instance = newInstanceID()
	}
	if r.agent == "" {
		cfg.Seen = &wire.Seen{Instance: instance, Process: wire.Process{Labels: maps.Clone(ls), GoVersion: p.GoVersion, Build: p.BuildID, Exe: p.Exe, PID: pid, Gatherer: "run",
			BootID: p.BootID, PIDNS: p.PIDNS, StartTicks: p.StartTicks, NSPIDs: p.PIDs, Started: now.UnixMilli(), State: "running", Conditions: p.Conditions}}
		if b := p.Build; b != nil {
			s := &cfg.Seen.Process
			s.BuildInfo, s.GoBuildID, s.GNUBuildID, s.BinarySize, s.Stripped = b.Mod.String(), b.GoBuildID, b.GNUBuildID, b.Size, b.Stripped
		}
	}
	ls["service_instance_id"] = instance
	cfg.Labels = labels.FromMap(ls)
	r.reporter = launch.NewReporter(cfg, now)
	ctx, cancel := context.WithCancel(context.Background())
	r.stop = cancel
	r.running.Go(func() { r.reporter.Run(ctx) })
}

// describePID is what discovery finds out about a process, so that its series are those of the process that discovery finds. What it was started with is known here: the kernel tells
// of it in /proc a moment after the start has returned.
func describePID(pid int, c discover.Command) (discover.Process, bool) {
	s, err := discover.New(discover.Config{Self: true})
	if err != nil {
		return discover.Process{}, false
	}
	defer s.Close()
	p, err := s.LookStarted(context.Background(), pid, c)
	return p, err == nil
}

func (r *runner) line(text []byte, l *godebug.Line, at time.Time) { r.reporter.Line(text, l, at) }

// lookup asks the collector under which labels the agent reports the program: what its code says is known to nobody else.
func (r *runner) lookup(ctx context.Context) (labels.Labels, bool) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c, err := client.New(client.Config{URL: r.base, Token: r.token, Transport: r.http.Transport})
	if err != nil {
		return labels.EmptyLabels(), false
	}
	var ps client.Processes
	// The collector answers a list that it was asked for just now as it was then: another range is another list.
	since := unixMs(time.Now().Add(-time.Hour).UnixMilli())
	if err := c.GetJSON(ctx, "/api/v1/processes", url.Values{"search": {r.agent}, "state": {"all"}, "since": {since}, "limit": {"2"}}, &ps); err != nil || len(ps.Processes) != 1 {
		return labels.EmptyLabels(), false
	}
	ls := maps.Clone(ps.Processes[0].Labels)
	if ls["service_name"] == "" {
		return labels.EmptyLabels(), false
	}
	ls["service_instance_id"] = r.agent
	return labels.FromMap(ls), true
}

// close sends what is left.
func (r *runner) close(end *launch.Ended) {
	r.stop()
	r.running.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), r.flags.closeTimeout)
	defer cancel()
	if err := r.reporter.Close(ctx, end); err != nil {
		r.log.Warn("cannot send the last of what the program printed", "error", err)
	}
	r.http.CloseIdleConnections()
}
