package forward

import (
	"bytes"
	"context"
	cryptorand "crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/receive"
	"github.com/sonde-io/sonde/collector/series"
	"github.com/sonde-io/sonde/collector/wire"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/internal/fsys/faultfs"
	"github.com/sonde-io/sonde/profiles"
	"github.com/sonde-io/sonde/profiles/store"
)

var testLimits = receive.Limits{BodyBytes: 16 << 20, DecompressedBytes: 64 << 20, Samples: 500_000, Labels: 64, LabelNameBytes: 128, LabelValueBytes: 1024, Concurrent: 64,
	MaxAge: 7 * 24 * time.Hour}

// upstream is a collector: its real endpoints over a sink in memory, reached without a network, which can be down or answer as it is told.
type upstream struct {
	handler http.Handler

	mu       sync.Mutex
	down     error                                // of each request
	answer   func(r *http.Request) *http.Response // nil, or returning nil: as the collector does
	lose     float64                              // of the answers
	requests []time.Time
	err      func(p store.Push) error // of storing

	keys   map[catalog.Key]int // how often each was stored: 1
	values map[string]int64    // the sum of all values, by instance
	order  map[string][]uint64 // windows by instance, in the order of storing
	procs  map[string]catalog.Process
	events []catalog.Event
	twice  int
	series []string // the samples, as text
	lines  []string
}

func newUpstream() *upstream {
	u := &upstream{keys: map[catalog.Key]int{}, values: map[string]int64{}, order: map[string][]uint64{}, procs: map[string]catalog.Process{}}
	on := false
	mux := http.NewServeMux()
	receive.New(receive.Config{Sink: u, Processes: u, Limits: testLimits, Seen: u.seen, Series: u, Lines: u,
		Settings: func(ls labels.Labels) *receive.Settings {
			if ls.Get("service_name") != "braked" {
				return nil
			}
			return &receive.Settings{Rev: "r1", Enabled: &on}
		}}).Register(mux)
	u.handler = mux
	return u
}

func (u *upstream) Append(_ context.Context, p store.Push) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.err != nil {
		if err := u.err(p); err != nil {
			return err
		}
	}
	if p.Key == (catalog.Key{}) {
		return errors.New("a push without a key")
	}
	if u.keys[p.Key] > 0 {
		u.twice++
		return &catalog.DuplicateError{Keys: []int{0}}
	}
	u.keys[p.Key]++
	instance := ""
	if p.Process != nil {
		instance = p.Process.Instance
		if p.Process.LabelsHash != "" {
			u.procs[instance] = *p.Process
		}
	}
	for _, pr := range p.Profiles {
		for _, v := range pr.Data.Values {
			u.values[instance] += v
		}
	}
	u.order[instance] = append(u.order[instance], p.Key.Window)
	u.events = append(u.events, p.Events...)
	return nil
}

func (u *upstream) AppendSeries(_ context.Context, bs ...series.Batch) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, b := range bs {
		for _, s := range b.Samples {
			u.series = append(u.series, fmt.Sprintf("%s %v %d", series.Merge(b.Process, s.Labels), s.V, s.T))
		}
	}
	return nil
}

func (u *upstream) AppendLines(_ context.Context, c wire.LinesChunk) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.lines = append(u.lines, fmt.Sprintf("%s %s %d", c.Process, c.Source, c.Count))
	return nil
}

func (u *upstream) Process(_ context.Context, instance string) (catalog.Process, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	p, ok := u.procs[instance]
	if !ok {
		return p, catalog.ErrNotFound
	}
	return p, nil
}

func (u *upstream) seen(_ context.Context, ps []catalog.Process) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, p := range ps {
		u.procs["seen "+p.Instance] = p
	}
	return nil
}

var errRefused = errors.New("connection refused")

func (u *upstream) RoundTrip(r *http.Request) (*http.Response, error) {
	u.mu.Lock()
	u.requests = append(u.requests, time.Now())
	down, answer, lost := u.down, u.answer, rand.Float64() < u.lose
	u.mu.Unlock()
	if down != nil {
		return nil, down
	}
	if answer != nil {
		if resp := answer(r); resp != nil {
			return resp, nil
		}
	}
	w := httptest.NewRecorder()
	u.handler.ServeHTTP(w, r)
	if lost {
		return nil, io.ErrUnexpectedEOF
	}
	return w.Result(), nil
}

func (u *upstream) set(change func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	change()
}

func answer(status int, header ...string) *http.Response {
	w := httptest.NewRecorder()
	for i := 0; i+1 < len(header); i += 2 {
		w.Header().Set(header[i], header[i+1])
	}
	w.WriteHeader(status)
	return w.Result()
}

// sidecar is a forwarder that runs.
type sidecar struct {
	*Forwarder
	stop func()
	reg  *prometheus.Registry
	log  *bytes.Buffer
}

func start(t testing.TB, u *upstream, fs *faultfs.FS, change func(*Config)) *sidecar {
	t.Helper()
	s := &sidecar{reg: prometheus.NewRegistry(), log: new(bytes.Buffer)}
	cfg := Config{Upstream: "http://collector:7070/", Transport: u, Dir: "/spool", FS: fs, SpoolBytes: 64 << 20, Limits: testLimits, Host: "n1", Registerer: s.reg,
		Logger: slog.New(slog.NewTextHandler(s.log, nil))}
	if change != nil {
		change(&cfg)
	}
	var err error
	if s.Forwarder, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := s.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	s.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(s.stop)
	return s
}

func cpuProfile(value int64) *profiles.Profile {
	return &profiles.Profile{SampleTypes: []profiles.ValueType{{Type: "cpu", Unit: "nanoseconds"}}, Samples: []profiles.Sample{{Locations: profiles.Span{Lo: 0, Hi: 1}}},
		LocationIDs: []uint32{0}, Values: []int64{value}, Locations: []profiles.Location{{Address: 1, Lines: profiles.Span{Lo: 0, Hi: 1}}}, Lines: []profiles.Line{{Line: 3}},
		Functions: []profiles.Function{{Name: "main.work", File: "main.go"}}}
}

// noise is 12 KB that do not compress to less than 6.
func noise() string {
	b := make([]byte, 6<<10)
	cryptorand.Read(b)
	return hex.EncodeToString(b)
}

func instance(i int) string { return fmt.Sprintf("%032x", i+1) }

// scraped is the nth push of an instance, as the scraper makes it.
func scraped(i, n int, value int64) store.Push {
	ls := labels.FromStrings("service_name", "cart", "service_instance_id", instance(i))
	now := time.Now().UnixMilli()
	return store.Push{Key: catalog.Key{Instance: "scrape/0123456789abcdef/" + instance(i), Window: uint64(n)},
		Process:  &catalog.Process{Instance: instance(i), Service: "cart", Labels: ls, Gatherer: "scrape", State: "running", GoVersion: "go1.26.8", LastSeen: now},
		Build:    &catalog.Build{ID: "b", GNUBuildID: "b", Info: "path\texample.com/cart\n"},
		Profiles: []store.Profile{{Labels: ls, Type: "cpu", Start: now - 1000, End: now, Data: cpuProfile(value)}}}
}

// pass lets time pass, and what is due then happen.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

var errNoSpace = syscall.ENOSPC

func hashOf(process string) string { return wire.ProcessHash([]byte(process)) }
