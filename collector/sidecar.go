package collector

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/capture"
	"github.com/sonde-io/sonde/collector/coverage"
	"github.com/sonde-io/sonde/collector/discover"
	"github.com/sonde-io/sonde/collector/forward"
	"github.com/sonde-io/sonde/collector/functions"
	"github.com/sonde-io/sonde/collector/metrics/intake"
	"github.com/sonde-io/sonde/collector/peers"
	"github.com/sonde-io/sonde/collector/receive"
	"github.com/sonde-io/sonde/collector/reply"
	"github.com/sonde-io/sonde/collector/rotate"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/internal/listen"
	"github.com/sonde-io/sonde/internal/rungroup"
	"github.com/sonde-io/sonde/symbols/binaries"
)

// The files of a sidecar's data directory, besides the lock.
const (
	SpoolDir    = "spool"      // what the upstream does not have yet
	AgentSocket = "agent.sock" // where agents of this machine may send
)

// sidecar are the parts of one running sidecar, those of a collector that it has included.
type sidecar struct {
	parts
	forward *forward.Forwarder
	relay   *capture.Relay
	client  *http.Client
	lists   *functions.Sender // of the functions of binaries
}

// RunSidecar runs a sidecar until ctx ends or one of its parts fails: it gathers from the processes of this machine as a collector does, takes what agents push, keeps
// all of it in a spool on disk and forwards it to cfg.Upstream. Told to end, it stops accepting and gathering, and sends what is left for as long as
// the upstream takes it, at most ShutdownTimeout; the rest stays in the spool for the next start. The end of ctx is no error.
func RunSidecar(ctx context.Context, cfg Config, opts Options) (err error) {
	restore, err := prepare(&cfg, &opts)
	if err != nil {
		return fmt.Errorf("start sidecar: %w", err)
	}
	defer restore()
	if cfg.Upstream == "" {
		return fmt.Errorf("start sidecar: %w", &Error{errors.New("setting upstream is empty"), "name the collector with --upstream https://HOST:PORT"})
	}
	s := &sidecar{parts: parts{cfg: &cfg, opts: &opts, started: time.Now(), registry: prometheus.NewRegistry()}}
	if err := s.open(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("start sidecar: %w", errors.Join(err, s.close()))
	}
	defer func() { err = errors.Join(err, s.close()) }()
	s.say(fmt.Sprintf("forwarding to %s, at most %v in the spool %s", redact(cfg.Upstream), cfg.SpoolBytes, filepath.Join(cfg.Data, SpoolDir)), "starting", "version", opts.Version,
		"upstream", redact(cfg.Upstream), "data", cfg.Data, "spool_bytes", cfg.SpoolBytes, "config", cfg.file)

	var g rungroup.Group
	// The order is that of stopping: first no more requests, then nothing more is gathered, then what there is is sent.
	g.Add("serve", s.serve)
	g.Add("reload", s.reload)
	s.gather.addTo(&g)
	g.Add("announce", s.announce)
	g.Add("functions", s.lists.Run)
	g.Add("binaries", s.binaries.Run)
	g.Add("forward", s.forward.Run)
	g.Add("telemetry", s.telemetry.Run)
	err = g.Run(ctx)
	s.log.Info("stopped")
	return err
}

func (s *sidecar) open(ctx context.Context) (err error) {
	if s.log, err = newLogger(s.cfg, s.opts.Stderr); err != nil {
		return err
	}
	if err := s.describe(ctx, "sonde-sidecar"); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{s.openSpool, s.openUpstream, s.openHTTP} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return s.applySidecar(s.cfg)
}

// applySidecar puts in force what of the settings is a sidecar's. What agents are told comes from the upstream.
func (s *sidecar) applySidecar(cfg *Config) error {
	if err := s.gather.scraper.SetTargets(scrapeTargets(cfg.Targets)); err != nil {
		return err
	}
	return s.gather.setRules(cfg.captureRules())
}

// reload takes targets and triggers anew whenever it is told to. A configuration that is wrong changes nothing.
func (s *sidecar) reload(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.opts.Reload:
		}
		if s.opts.Load == nil {
			continue
		}
		next, err := s.opts.Load()
		if err == nil {
			err = s.applySidecar(&next)
		}
		if err != nil {
			s.log.Error("cannot reload the configuration, the old one stays in force", "error", err)
			continue
		}
		s.log.Info("reloaded", "targets", len(next.Targets))
	}
}

// openSpool locks the data directory and opens the spool in it.
func (s *sidecar) openSpool(context.Context) error {
	c, dir := s.cfg, s.cfg.Data
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return &Error{fmt.Errorf("create data directory: %w", err), "name a directory that can be written with --data"}
	}
	lock, err := LockData(dir)
	if err != nil {
		return err
	}
	s.closers = append(s.closers, lock.Close)
	if s.binaries, err = binaries.Open(binaries.Config{Dir: filepath.Join(dir, BinaryDir), Logger: s.log}); err != nil {
		return err
	}
	s.closers = append(s.closers, s.binaries.Close)
	s.forward, err = forward.New(forward.Config{Upstream: c.Upstream, TokenFile: c.UpstreamTokenFile, Dir: filepath.Join(dir, SpoolDir), SpoolBytes: int64(c.SpoolBytes),
		Version: s.opts.Version, Drain: c.ShutdownTimeout.D(), Logger: s.log, Registerer: s.registry, Limits: receive.Limits{BodyBytes: int64(c.MaxBodyBytes),
			DecompressedBytes: int64(c.Limits.MaxDecompressedBytes), Samples: c.Limits.MaxSamples, Labels: c.Limits.MaxLabels, LabelNameBytes: maxLabelNameBytes, LabelValueBytes: maxLabelValueBytes,
			Concurrent: c.Limits.MaxConcurrentPushes}})
	if err != nil {
		return err
	}
	s.closers = append(s.closers, s.forward.Close)
	s.ready.checks = append(s.ready.checks, check{"data directory", func(context.Context) error { return writable(dir) }})
	return nil
}

// openUpstream makes the gatherers, with outlets that lead to the upstream.
func (s *sidecar) openUpstream(context.Context) error {
	url := strings.TrimSuffix(s.cfg.Upstream, "/")
	s.client = s.ownClient()
	s.lists = functions.New(functions.Config{URL: url, Client: s.ownClient(), Source: s.binaries, Spread: s.opts.functionsSpread, UserAgent: "sonde-sidecar/" + s.opts.Version,
		Logger: s.log, Registerer: s.registry})
	remote := &capture.Remote{URL: url, Client: s.client, UserAgent: "sonde-sidecar/" + s.opts.Version}
	s.relay = &capture.Relay{Upstream: remote}
	g, err := newGatherers(s.cfg, s.opts.Version, s.log, s.registry, outlets{sink: s.forward, series: s.forward, lines: s.forward, seen: s.forward.Seen, events: s.forward.Events, agentOf: s.agentOf, turns: s.turns,
		captures: remote, report: coverage.Post(url, s.client), reporter: "sidecar", binaries: s.binaries, lists: s.lists})
	if err != nil {
		return err
	}
	if g.poller != nil { // agents that poll the sidecar are reached through it
		g.poller.Executor = append(capture.Executors{s.relay}, g.executors()...)
	}
	s.gather = g
	s.closers = append(s.closers, g.close)
	return nil
}

// ownClient returns a client of the upstream that shares no connection with others.
func (s *sidecar) ownClient() *http.Client {
	transport := &tokenTransport{next: http.DefaultTransport.(*http.Transport).Clone(), file: s.cfg.UpstreamTokenFile}
	s.closers = append(s.closers, func() error { transport.next.CloseIdleConnections(); return nil })
	return &http.Client{Transport: transport}
}

// agentOf returns the row of a process that sends to this sidecar by an agent of its own.
func (s *sidecar) agentOf(id discover.Identity) (catalog.Process, bool) { return s.forward.AgentOf(id) }

// turns returns how the replicas of a process's service take turns, as the upstream said with its last push.
func (s *sidecar) turns(process labels.Labels) *rotate.Settings {
	var told struct {
		Rotate *rotate.Settings `json:"rotate"`
	}
	raw := s.forward.Settings(process.Get("service_instance_id"))
	if raw == nil || json.Unmarshal(raw, &told) != nil || told.Rotate == nil || told.Rotate.Validate() != nil {
		return nil
	}
	return told.Rotate
}

// tokenTransport adds the upstream's token, read anew for each request: tokens are renewed more often than daemons restart.
type tokenTransport struct {
	next *http.Transport
	file string // "": no token
}

func (t *tokenTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if t.file == "" {
		return t.next.RoundTrip(r)
	}
	token, err := os.ReadFile(t.file)
	if err != nil {
		return nil, fmt.Errorf("read the upstream's token: %w", err)
	}
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+string(bytes.TrimSpace(token)))
	return t.next.RoundTrip(r)
}

// maxSocketPath is what fits into the address of a Unix socket everywhere.
const maxSocketPath = 103

// openHTTP opens the listeners: what is set, and a socket in the data directory where none is.
func (s *sidecar) openHTTP(ctx context.Context) error {
	mux := s.routes()
	s.observe(mux)
	policy := s.cfg.policy()
	// Whoever may send to loopback may send by the socket; who may come to it its directory says.
	policy.SocketMode = 0o666
	if socket := filepath.Join(s.cfg.Data, AgentSocket); !strings.Contains(policy.Address, "unix:") && len(socket) <= maxSocketPath && !strings.Contains(socket, ",") {
		policy.Address += ",unix:" + socket
	}
	l, err := listen.Open(ctx, policy, s.log)
	if err != nil {
		return err
	}
	s.closers = append(s.closers, l.Close)
	s.serve = func(ctx context.Context) error { return s.serveOn(ctx, l, mux) }
	return nil
}

// routes are the endpoints for those who send and for those who operate it: a sidecar answers no queries.
func (s *sidecar) routes() *http.ServeMux {
	mux := http.NewServeMux()
	s.forward.Receiver().Register(mux)
	peers.New(peers.Config{Receive: s.forward.Receiver(), Binaries: s.binaries, Metrics: intake.New(intake.Config{Series: s.forward, Registerer: s.registry}), Registerer: s.registry}).Register(mux)
	if !s.cfg.Captures.Disabled {
		capture.Register(mux, s.relay, s.log)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		e := reply.Errorf(http.StatusNotFound, "no such endpoint: %s %.200s", r.Method, r.URL.Path)
		e.Hint = "this is a sidecar: ask the collector at " + redact(s.cfg.Upstream)
		reply.Fail(w, e)
	})
	mux.HandleFunc(livezPattern, alive)
	mux.Handle(readyzPattern, &s.ready)
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{Registry: s.registry, Timeout: 10 * time.Second}))
	return mux
}
