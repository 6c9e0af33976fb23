package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles"
)

// TestConcurrent pushes, merges, compacts and cleans at the same time; every query sees what was acknowledged before it, and no goroutine is left.
func TestConcurrent(t *testing.T) {
	before := runtime.NumGoroutine()
	e := newEnv(t, func(c *Config) {
		c.GatherDelay, c.GatherPause, c.GatherBytes = 2*time.Millisecond, time.Millisecond, 4000
	})
	r := &reference{}
	var mu sync.Mutex
	ctx, cancel := context.WithCancel(t.Context())
	var background sync.WaitGroup
	background.Go(func() {
		for ctx.Err() == nil {
			if err := e.store.Compact(ctx, true); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
			if err := e.store.Clean(ctx); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
			runtime.Gosched()
		}
	})
	background.Go(func() {
		if err := e.store.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	var pushers sync.WaitGroup
	for g := range 4 {
		pushers.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(g), 11))
			name := fmt.Sprint("i", g)
			for i := range 25 {
				start := epoch + int64(i)*15_000
				p, s := randomPush(rng, "cart", name, uint64(i+1), start, start+15_000)
				if err := e.store.Append(t.Context(), p); err != nil {
					t.Error(err)
				}
				one := &reference{}
				one.add(p, s, 300_000)
				mu.Lock()
				r.all = append(r.all, one.all...)
				mu.Unlock()
				q := Query{Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "service_instance_id", name)},
					Type: profiles.Type{Profile: "cpu", Sample: "cpu"}, From: start, To: start + 1}
				got, err := e.store.Merge(t.Context(), q)
				if err != nil {
					t.Error(err)
				} else if g, w := byStack(t, got), one.merge(q); difference(g, w) != "" {
					t.Errorf("a merge after the push of %s at %d: %s", name, start, difference(g, w))
				}
			}
		})
	}
	pushers.Wait()
	cancel()
	background.Wait()
	e.verify(r, rand.New(rand.NewPCG(1, 1)), epoch-60_000, epoch+600_000, 10)
	e.check()
	e.close()
	for range 100 {
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%d goroutines are left, %d were there before", runtime.NumGoroutine(), before)
}

// slowCatalog holds every registration until it is told to go on.
type slowCatalog struct {
	catalog.Catalog
	started chan struct{}
	gate    chan struct{}
}

func (c slowCatalog) Register(ctx context.Context, r catalog.Registration) error {
	c.started <- struct{}{}
	<-c.gate
	return c.Catalog.Register(ctx, r)
}

// TestGroupCommit has pushes gather while a segment is being written: they share the next one, and one that gives up hurts no other.
func TestGroupCommit(t *testing.T) {
	e := newEnv(t, nil)
	cfg := e.cfg
	slow := slowCatalog{e.cat, make(chan struct{}, 8), make(chan struct{})}
	cfg.Catalog, cfg.GatherDelay = slow, time.Hour
	s, err := Open(t.Context(), cfg)
	must(t, err)
	rng := rand.New(rand.NewPCG(2, 2))
	push := func(i int) Push {
		for {
			if p, _ := randomPush(rng, "cart", fmt.Sprint("i", i), 1, epoch, epoch+15_000); len(p.Profiles) == 2 {
				return p
			}
		}
	}
	errs := make(chan error, 8)
	go func(p Push) { errs <- s.Append(t.Context(), p) }(push(0))
	<-slow.started
	for i := range 5 {
		go func(p Push) { errs <- s.Append(t.Context(), p) }(push(i + 1))
	}
	impatient, cancel := context.WithCancel(t.Context())
	gone := make(chan error)
	go func(p Push) { gone <- s.Append(impatient, p) }(push(6))
	for s.gathered() < 6 {
		runtime.Gosched()
	}
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("the impatient push got %v", err)
	}
	slow.gate <- struct{}{}
	<-slow.started
	slow.gate <- struct{}{}
	for range 6 {
		must(t, <-errs)
	}
	must(t, s.Close())
	must(t, s.Close())
	if err := s.Append(t.Context(), push(7)); !errors.Is(err, ErrClosed) {
		t.Errorf("a push after Close got %v", err)
	}
	u, err := e.store.Usage(t.Context())
	must(t, err)
	if u.Segments != 2 || u.Profiles != 14 {
		t.Errorf("there are %d segments with %d profiles, want 2 with 14", u.Segments, u.Profiles)
	}
}

func (s *Store) gathered() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pending == nil {
		return 0
	}
	return len(s.pending.pushes)
}

func TestAppendRefuses(t *testing.T) {
	e := newEnv(t, func(c *Config) { c.MaxSeries = 3 })
	good := func() Push {
		return Push{Profiles: []Profile{{Labels: labels.FromStrings("service_name", "cart"), Type: "cpu", Start: epoch, End: epoch + 1000,
			Data: profileOf(cpuTypes, 1, []sample{{stack: []string{"f"}, values: []int64{1, 2}}})}}}
	}
	for _, test := range []struct {
		name string
		edit func(*Profile)
		want string
	}{
		{"no data", func(p *Profile) { p.Data = nil }, "no data"},
		{"no service", func(p *Profile) { p.Labels = labels.FromStrings("a", "b") }, "service_name is missing"},
		{"empty interval", func(p *Profile) { p.End = p.Start }, "is empty"},
		{"nanoseconds", func(p *Profile) { p.Start, p.End = p.Start*1e6, p.End*1e6 }, "not in Unix milliseconds"},
		{"bad type", func(p *Profile) { p.Type = "c pu" }, "type \"c pu\""},
		{"no sample types", func(p *Profile) { p.Data = &profiles.Profile{} }, "0 sample types"},
		{"same sample type twice", func(p *Profile) { p.Data.SampleTypes = []profiles.ValueType{cpuTypes[0], cpuTypes[0]} }, "there twice"},
		{"values missing", func(p *Profile) { p.Data.Values = p.Data.Values[:1] }, "1 values for 1 samples of 2 types"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := good()
			test.edit(&p.Profiles[0])
			if err := e.store.Append(t.Context(), p); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want ErrInvalid with %q", err, test.want)
			}
		})
	}
	for i := range 5 {
		p := good()
		p.Profiles[0].Labels = labels.FromStrings("service_name", "cart", "pod", fmt.Sprint(i%4))
		err := e.store.Append(t.Context(), p)
		var limit *LimitError
		if (i == 3) != errors.As(err, &limit) {
			t.Errorf("series %d: got %v", i, err)
		}
		if limit != nil && (limit.Limit != "max_series_per_service" || limit.Max != 3 || limit.Got != 4) {
			t.Errorf("limit is %+v", limit)
		}
	}
	e.reopen()
	p := good()
	p.Profiles[0].Labels = labels.FromStrings("service_name", "cart", "pod", "new")
	var limit *LimitError
	if err := e.store.Append(t.Context(), p); !errors.As(err, &limit) {
		t.Errorf("another series after a restart: got %v, want a LimitError", err)
	}
	e.clock.set(epoch + 3*3_600_000) // the series of before do not count any more
	p = good()
	p.Profiles[0].Labels = labels.FromStrings("service_name", "cart", "pod", "late")
	must(t, e.store.Append(t.Context(), p))
}

// TestGarbageIsNoOrphan leaves blobs that were compacted long after they were made to the queries that may be reading them, until the grace is over.
func TestGarbageIsNoOrphan(t *testing.T) {
	e := newEnv(t, nil)
	rng := rand.New(rand.NewPCG(4, 4))
	for i := range 3 {
		p, _ := randomPush(rng, "cart", "a", uint64(i+1), epoch, epoch+15_000)
		must(t, e.store.Append(t.Context(), p))
	}
	long := e.clock.Now().Add(-24 * time.Hour)
	for info, err := range e.cfg.Blobs.List(t.Context(), segmentFolder) {
		must(t, err)
		must(t, os.Chtimes(filepath.Join(e.dir, "blobs", info.Name), long, long))
	}
	must(t, e.store.Compact(t.Context(), true))
	must(t, e.store.Clean(t.Context()))
	n := 0
	for _, err := range e.cfg.Blobs.List(t.Context(), segmentFolder) {
		must(t, err)
		n++
	}
	if n != 3 {
		t.Errorf("%d segments are left, want all 3", n)
	}
}

// TestTooLate refuses to register what was written long ago: another process may have deleted it.
func TestTooLate(t *testing.T) {
	e := newEnv(t, nil)
	if err := e.store.register(t.Context(), catalog.Registration{}, time.Now().Add(-2*registerWithin)); !errors.Is(err, errTooLate) {
		t.Errorf("got %v, want errTooLate", err)
	}
	must(t, e.store.register(t.Context(), catalog.Registration{}, time.Now()))
}

// TestPushWithoutProfiles registers the process and the key all the same.
func TestPushWithoutProfiles(t *testing.T) {
	e := newEnv(t, nil)
	p := Push{Key: catalog.Key{Instance: "a", Window: 1}, Process: &catalog.Process{Instance: "a", Service: "cart", State: "running"}}
	must(t, e.store.Append(t.Context(), p))
	if _, err := e.cat.Process(t.Context(), "a"); err != nil {
		t.Error(err)
	}
	if err := e.store.Append(t.Context(), p); !errors.Is(err, catalog.ErrDuplicate) {
		t.Errorf("again: got %v, want ErrDuplicate", err)
	}
	e.check()
}

// TestCleanAndMetrics expires by size, deletes the garbage after the grace, finds orphans, and counts.
func TestCleanAndMetrics(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	e := newEnv(t, func(c *Config) { c.Grace, c.Registerer, c.MaxBytes = time.Millisecond, registry, 1 })
	rng := rand.New(rand.NewPCG(4, 4))
	for i := range 3 {
		p, _ := randomPush(rng, "cart", "a", uint64(i+1), epoch, epoch+15_000)
		must(t, e.store.Append(t.Context(), p))
	}
	must(t, e.store.Compact(t.Context(), true))
	orphan := func(age time.Duration) {
		at := e.clock.Now().Add(-age)
		must(t, os.Chtimes(filepath.Join(e.dir, "blobs", segmentFolder, "orphan"), at, at))
	}
	must(t, e.cfg.Blobs.Put(t.Context(), segmentFolder+"orphan", []byte("x")))
	orphan(orphanAge - time.Minute)
	must(t, e.store.Clean(t.Context()))
	time.Sleep(3 * time.Millisecond) // by the database's clock
	must(t, e.store.Clean(t.Context()))
	count := func() (n int) {
		for _, err := range e.cfg.Blobs.List(t.Context(), "") {
			must(t, err)
			n++
		}
		return n
	}
	if n := count(); n != 1 {
		t.Errorf("%d blobs are left, want the orphan alone", n)
	}
	orphan(orphanAge + time.Minute)
	e.store.underway.Store(segmentFolder+"orphan", struct{}{}) // as if its registration took an hour
	must(t, e.store.Clean(t.Context()))
	if n := count(); n != 1 {
		t.Errorf("%d blobs are left, want the one that is about to be registered", n)
	}
	e.store.underway.Delete(segmentFolder + "orphan")
	must(t, e.store.Clean(t.Context()))
	if n := count(); n != 0 {
		t.Errorf("%d blobs are left after the orphan's time", n)
	}
	if v := testutil.ToFloat64(e.store.metrics.pushes); v != 3 {
		t.Errorf("pushes_total is %f, want 3", v)
	}
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Errorf("metrics: %v, %v", problems, err)
	}
}

func TestMeta(t *testing.T) {
	e := filled(t)
	q := Query{From: epoch, To: epoch + 3_600_000}
	ctx := t.Context()
	services, err := e.store.Services(ctx, q.From, q.To)
	must(t, err)
	if len(services) != 2 || services[0].Name != "cart" || services[1].Name != "pay" || strings.Join(services[0].Types, ",") != "cpu,heap" {
		t.Errorf("services are %+v", services)
	}
	names, err := e.store.LabelNames(ctx, q)
	must(t, err)
	if got := strings.Join(names, ","); got != "service_instance_id,service_name,service_version" {
		t.Errorf("label names are %s", got)
	}
	values, err := e.store.LabelValues(ctx, "service_name", q)
	must(t, err)
	if got := strings.Join(values, ","); got != "cart,pay" {
		t.Errorf("values are %s", got)
	}
	q.Matchers = []*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, "service_name", "cart|shop")}
	types, err := e.store.Types(ctx, q)
	must(t, err)
	var ids []string
	for _, x := range types {
		ids = append(ids, x.String()+"/"+x.Unit)
	}
	if got := strings.Join(ids, " "); got != "cpu:cpu/nanoseconds cpu:samples/count heap:alloc_objects/count heap:alloc_space/bytes heap:inuse_objects/count heap:inuse_space/bytes" {
		t.Errorf("types are %s", got)
	}
}
