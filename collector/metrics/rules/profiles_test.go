package rules

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles/store"
)

// filled holds a minute of cart (two instances) and web, and cart's goroutines, which all began before the minute that ends at now.
func filled(t testing.TB) *store.Store {
	st := profilesOf(t)
	for _, at := range []time.Duration{60 * time.Second, 45 * time.Second, 30 * time.Second, 15 * time.Second} {
		push(t, st, "cpu", "cpu", "nanoseconds", "cart", "i1", at, stack{"main.main;main.price;encoding/json.Marshal", 3e9}, stack{"main.main;main.price", 6e9})
		push(t, st, "cpu", "cpu", "nanoseconds", "cart", "i2", at, stack{"main.main;encoding/json.Unmarshal", 1e9}, stack{"main.main;main.other", 5e9})
		push(t, st, "heap", "inuse_space", "bytes", "cart", "i1", at, stack{"main.main;main.cache", 1 << 20})
		push(t, st, "goroutine", "goroutine", "count", "cart", "i1", at, stack{"runtime.goexit;main.worker;main.receive;runtime.chanrecv1;runtime.gopark", 40},
			stack{"runtime.goexit;runtime.main;main.main;net/http.(*Server).Serve;internal/poll.(*FD).Accept;runtime.gopark", 1})
		push(t, st, "goroutine", "goroutine", "count", "cart", "i2", at, stack{"runtime.goexit;main.worker;main.receive;runtime.chanrecv1;runtime.gopark", 2})
	}
	push(t, st, "cpu", "cpu", "nanoseconds", "web", "w1", 40*time.Second, stack{"main.main", 3e9})
	push(t, st, "cpu", "cpu", "nanoseconds", "gone", "g1", 20*time.Minute, stack{"main.main", 3e9})
	return st
}

func TestProfileSeries(t *testing.T) {
	st := filled(t)
	for _, tt := range []struct {
		name, rule string
		want       []string // lines of "{labels} value"
		left       int
	}{
		{name: "total of an interval is per second, in base units", rule: `{record: cores, type: cpu}`,
			want: []string{`{__name__="cores", service_name="cart"} 1`, `{__name__="cores", service_name="web"} 0.05`}},
		{name: "nothing told apart, labels added", rule: `{record: cores, type: cpu, by: [], labels: {team: shop}}`, want: []string{`{__name__="cores", team="shop"} 1.05`}},
		{name: "by instance", rule: `{record: cores, type: cpu, query: '{service_name="cart"}', by: [service_instance_id], top: 1}`, want: []string{`{__name__="cores", service_instance_id="i1"} 0.6`}, left: 1},
		{name: "a gauge is its mean", rule: `{record: heap, type: 'heap:inuse_space'}`, want: []string{`{__name__="heap", service_name="cart"} 1.048576e+06`}},
		{name: "of a function", rule: `{record: json, type: cpu, function_re: '^encoding/json\.'}`, want: []string{`{__name__="json", service_name="cart"} 0.26667`}},
		{name: "share of a function", rule: `{record: share, stat: share, type: cpu, function: main.price}`,
			want: []string{`{__name__="share", service_name="cart"} 0.6`, `{__name__="share", service_name="web"} 0`}},
		{name: "exact is exact", rule: `{record: share, stat: share, type: cpu, function: main.pric}`,
			want: []string{`{__name__="share", service_name="cart"} 0`, `{__name__="share", service_name="web"} 0`}},
		{name: "goroutines by where they are", rule: `{record: goroutines, stat: goroutines}`,
			want: []string{`{__name__="goroutines", function="main.receive", root="main.worker", service_name="cart"} 42`,
				`{__name__="goroutines", function="net/http.(*Server).Serve", root="main.main", service_name="cart"} 1`}},
		{name: "the most of them", rule: `{record: goroutines, stat: goroutines, top: 1}`,
			want: []string{`{__name__="goroutines", function="main.receive", root="main.worker", service_name="cart"} 42`}, left: 1},
		{name: "goroutines with a function", rule: `{record: workers, stat: goroutines, function: main.worker, by: [service_instance_id]}`,
			want: []string{`{__name__="workers", service_instance_id="i1"} 40`, `{__name__="workers", service_instance_id="i2"} 2`}},
		{name: "silent", rule: `{record: silence, stat: silent}`,
			want: []string{`{__name__="silence", service_name="cart"} 0`, `{__name__="silence", service_name="gone"} 1185`, `{__name__="silence", service_name="web"} 25`}},
		{name: "silent of some", rule: `{record: silence, stat: silent, query: '{service_name=~"g.*"}'}`, want: []string{`{__name__="silence", service_name="gone"} 1185`}},
		{name: "nothing is not zero", rule: `{record: cores, type: cpu, query: '{service_name="nobody"}'}`},
		{name: "nothing of goroutines either", rule: `{record: goroutines, stat: goroutines, query: '{service_name="nobody"}'}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := settings(t, "profile_series: ["+tt.rule+"]")
			all, err := compileAll(s.ProfileSeries)
			if err != nil {
				t.Fatal(err)
			}
			out, err := all[0].eval(t.Context(), st, now)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, s := range out.samples {
				if s.T != now.UnixMilli() {
					t.Errorf("%v is of %d, want the end of the window", s.Labels, s.T)
				}
				got = append(got, fmt.Sprintf("%v %v", s.Labels, math.Round(s.V*1e5)/1e5))
			}
			slices.Sort(got)
			if !slices.Equal(got, tt.want) || out.left != tt.left {
				t.Errorf("got\n%s\nand %d left out, want\n%s\nand %d", strings.Join(got, "\n"), out.left, strings.Join(tt.want, "\n"), tt.left)
			}
		})
	}
}

// TestCPUCores: cores are those in use, whoever profiles a process and for how much of the time: each of three instances uses half a core while it is there; one is profiled all the time, one for ten
// seconds of each minute, and one, scraped too, ends half-way. All that is allocated between two scrapes is counted, so of it a scraped process has all.
func TestCPUCores(t *testing.T) {
	st := profilesOf(t)
	ago := func(d time.Duration) int64 { return now.Add(-d).UnixMilli() }
	of := func(instance, gatherer, state string, last time.Duration) catalog.Process {
		return catalog.Process{Instance: instance, Service: "cart", Gatherer: gatherer, State: state, FirstSeen: ago(time.Hour), LastSeen: ago(last)}
	}
	for at := 60 * time.Second; at > 0; at -= 15 * time.Second {
		pushOf(t, st, "cpu", "cpu", "nanoseconds", of("full", "agent", "running", 0), ago(at), ago(at-15*time.Second), stack{"main.main;main.burn", 7.5e9})
	}
	scraped, half := of("scraped", "scrape", "running", -10*time.Second), of("half", "scrape", "exited", 30*time.Second)
	pushOf(t, st, "cpu", "cpu", "nanoseconds", scraped, ago(50*time.Second), ago(40*time.Second), stack{"main.main;main.burn", 5e9})
	pushOf(t, st, "cpu", "cpu", "nanoseconds", half, ago(45*time.Second), ago(35*time.Second), stack{"main.main;main.wait", 5e9})
	pushOf(t, st, "allocs", "alloc_space", "bytes", scraped, ago(55*time.Second), ago(-5*time.Second), stack{"main.main;main.burn", 60 << 20})
	for rule, want := range map[string]map[string]float64{
		`{record: r, type: cpu}`:                                   {"": 0.5 + 0.5 + 0.25},
		`{record: r, type: cpu, by: [service_instance_id]}`:        {"full": 0.5, "scraped": 0.5, "half": 0.25},
		`{record: r, type: cpu, function: main.burn}`:              {"": 1},
		`{record: r, type: cpu, stat: share, function: main.wait}`: {"": 0.2},
		`{record: r, type: 'allocs:alloc_space'}`:                  {"": 1 << 20},
	} {
		all, err := compileAll(settings(t, "profile_series: ["+rule+"]").ProfileSeries)
		if err != nil {
			t.Fatal(err)
		}
		out, err := all[0].eval(t.Context(), st, now)
		if err != nil {
			t.Fatal(err)
		}
		if len(out.samples) != len(want) {
			t.Errorf("%s: %v, want %v", rule, out.samples, want)
		}
		for _, s := range out.samples {
			if w := want[s.Labels.Get("service_instance_id")]; math.Abs(s.V-w) > 1e-6*w {
				t.Errorf("%s: %v of %v, want %v", rule, s.V, s.Labels, w)
			}
		}
	}
}

// TestNobodyIsSilentAtTheStart: until the agents of all have tried again, a collector that was away cannot know who is silent, and says nothing; settings that are read again do not make it wait anew.
func TestNobodyIsSilentAtTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := &recorder{}
		time.Sleep(40 * time.Second) // it starts within a window
		s := settings(t, `profile_series: [{record: silence, stat: silent, every: 30s}, {record: cores, type: cpu, every: 30s}]`)
		m, err := New(Config{Settings: s, Series: rec, Profiles: servicesOnly{since: time.Now().Add(-time.Hour)}})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		ctx, cancel := contextOf(t)
		defer cancel()
		go m.recordProfiles(ctx, m.state.Load().profiles[:1])
		synctest.Wait()
		time.Sleep(3*time.Minute - time.Second) // delay, back-off, and the delay of the first window behind them
		rec.mu.Lock()
		early := len(rec.samples)
		rec.mu.Unlock()
		if early != 0 {
			t.Errorf("%d samples in the first three minutes, the first of a window that ended %v after the start", early, time.UnixMilli(rec.samples[0].T).Sub(began))
		}
		time.Sleep(31 * time.Second)
		rec.mu.Lock()
		defer rec.mu.Unlock()
		if len(rec.samples) == 0 || time.UnixMilli(rec.samples[0].T).Sub(began) < 2*time.Minute {
			t.Errorf("then the samples are %v", rec.samples)
		}
		if all := m.state.Load().profiles; !m.knows(all[1], began) || m.knows(all[0], began) {
			t.Error("what waits is not what is silent")
		}
	})
}

// TestProfileSeriesAreRecorded: one sample a window, at its end, after the delay; what fails is counted and goes on.
func TestProfileSeriesAreRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg, rec := prometheus.NewPedanticRegistry(), &recorder{}
		began := time.Now().Truncate(time.Minute)
		s := settings(t, `profile_series: [{record: silence, stat: silent, every: 30s, delay: 10s}, {record: slow, stat: silent, every: 5m}]`)
		m, err := New(Config{Settings: s, Series: rec, Registerer: reg, Profiles: servicesOnly{since: began}})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		ctx, cancel := contextOf(t)
		go func() {
			m.recordProfiles(ctx, m.state.Load().profiles)
			close(done)
		}()
		time.Sleep(11*time.Minute + time.Second)
		rec.mu.Lock()
		byName := map[string][]int64{}
		for _, s := range rec.samples {
			name := s.Labels.Get("__name__")
			byName[name] = append(byName[name], s.T-began.UnixMilli())
		}
		rec.fail = errors.New("full")
		rec.mu.Unlock()
		if n := len(byName["silence"]); n < 18 || n > 20 {
			t.Errorf("%d samples in 11 minutes of windows of 30 s, of which the first 70 s have none", n)
		}
		for i, at := range byName["silence"] {
			if at%30_000 != 0 || i > 0 && at != byName["silence"][i-1]+30_000 {
				t.Errorf("sample %d is at %d ms", i, at)
			}
		}
		if n := len(byName["slow"]); n != 2 {
			t.Errorf("%d samples of the slow one, want 2", n)
		}
		time.Sleep(time.Minute)
		if n := testutil.ToFloat64(m.metrics.evaluations.WithLabelValues("error")); n != 2 {
			t.Errorf("%v failed, want 2", n)
		}
		cancel()
		<-done
	})
}

func TestProfileSeriesRefused(t *testing.T) {
	for rule, want := range map[string]string{
		`{type: cpu}`:                                                             "record",
		`{record: a b, type: cpu}`:                                                "record",
		`{record: x}`:                                                             "type",
		`{record: x, type: 'a b'}`:                                                "type",
		`{record: x, type: cpu, query: '{'}`:                                      "query",
		`{record: x, type: cpu, stat: mean}`:                                      "stat",
		`{record: x, type: cpu, stat: share}`:                                     "function",
		`{record: x, type: cpu, function: a, function_re: b}`:                     "function",
		`{record: x, type: cpu, function_re: '('}`:                                "function_re",
		`{record: x, type: cpu, every: 1s}`:                                       "every",
		`{record: x, type: cpu, top: 2000}`:                                       "top",
		`{record: x, type: cpu, by: ['']}`:                                        "by",
		`{record: x, type: cpu, labels: {__name__: y}}`:                           "labels",
		`{record: x, type: cpu, stat: goroutines}`:                                "type",
		`{record: x, stat: goroutines, by: [sample.state]}`:                       "by",
		`{record: x, stat: silent, type: cpu}`:                                    "silent",
		`{record: x, stat: silent, query: '{host_name="a"}'}`:                     "host_name",
		`{record: x, type: cpu}, {record: x, type: heap}`:                         "twice",
		`{record: x, type: cpu, query: '{service_name="cart"}', delay: 1000000h}`: "delay",
	} {
		s := settings(t, "profile_series: ["+rule+"]")
		if err := s.Validate(); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "profile_series[") {
			t.Errorf("%s: error %v, want one of profile_series[…] with %q", rule, err, want)
		}
	}
}
