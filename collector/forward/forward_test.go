package forward

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/discover"
	"github.com/sonde-io/sonde/collector/forward/spool"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/internal/fsys/faultfs"
	"github.com/sonde-io/sonde/profiles"
	"github.com/sonde-io/sonde/profiles/store"
)

// TestOutage is an upstream that is killed for 10 minutes under load and loses answers before and after: all that was acked arrives, once, in order.
func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUpstream()
		s := start(t, u, faultfs.New(), nil)
		const instances, seconds = 4, 16 * 60
		want := map[string]int64{}
		for second := range seconds {
			switch second {
			case 2 * 60:
				u.set(func() { u.lose = 0.3 })
			case 3 * 60:
				u.set(func() { u.down = errRefused })
			case 13 * 60:
				u.set(func() { u.down = nil })
			case 15 * 60:
				u.set(func() { u.lose = 0 })
			}
			time.Sleep(time.Second)
			if second%3 != 0 {
				continue
			}
			for i := range instances {
				if err := s.Append(t.Context(), scraped(i, second/3+1, int64(second+i))); err != nil {
					t.Fatal(err)
				}
				want[instance(i)] += int64(second + i)
			}
		}
		pass(2 * time.Minute)
		s.stop()
		if st := s.spool.Stats(); st.Waiting != 0 || st.DroppedFull != 0 {
			t.Errorf("the spool: %+v", st)
		}
		if !maps.Equal(u.values, want) {
			t.Errorf("values %v, want %v", u.values, want)
		}
		for i := range instances {
			if !slices.IsSorted(u.order[instance(i)]) {
				t.Errorf("windows of %s came out of order: %v", instance(i), u.order[instance(i)])
			}
		}
		if u.twice == 0 {
			t.Error("answers were lost, and nothing was sent twice")
		}
		if row := u.procs[instance(0)]; row.Gatherer != "scrape" || row.GoVersion != "go1.26.8" || row.BuildID != "b" {
			t.Errorf("process %+v", row)
		}
		if n := len(u.requests); n > seconds*instances/3 {
			t.Errorf("%d requests: pushes do not share batches", n)
		}
		if up, err := testutil.GatherAndCount(s.reg, "sonde_forward_up", "sonde_spool_bytes"); err != nil || up != 2 {
			t.Errorf("metrics: %d, %v", up, err)
		}
		if !strings.Contains(s.log.String(), "takes what is sent again") || strings.Count(s.log.String(), "does not take") > 40 {
			t.Errorf("the log:\n%.2000s", s.log)
		}
	})
}

// TestDayWithoutUpstream keeps within its bytes, says by instance what was dropped, and delivers the rest.
func TestDayWithoutUpstream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUpstream()
		u.down = errRefused
		s := start(t, u, faultfs.New(), func(c *Config) { c.SpoolBytes, c.MaxBackoff = spool.MinBytes, 10*time.Minute })
		const instances = 4
		pushes := 0
		for ; pushes < 24*12; pushes++ {
			for i := range instances {
				p := scraped(i, pushes+1, 1)
				p.Profiles[0].Data.Comments = []string{noise()}
				if err := s.Append(t.Context(), p); err != nil {
					t.Fatal(err)
				}
			}
			if st := s.spool.Stats(); st.Bytes > spool.MinBytes {
				t.Fatalf("%d bytes on disk", st.Bytes)
			}
			time.Sleep(5 * time.Minute)
		}
		u.set(func() { u.down = nil })
		pass(30 * time.Minute)
		s.stop()
		dropped := map[string]int64{}
		for _, e := range u.events {
			var n int64
			fmt.Sscan(e.Attrs["windows"], &n)
			dropped[e.Attrs["instance"]] += n
			if e.Kind != "gap" || e.Service != "cart" || e.Attrs["host"] != "n1" || !strings.Contains(e.Text, "spool_bytes") {
				t.Fatalf("event %+v", e)
			}
		}
		for i := range instances {
			if got := u.values[instance(i)]; got+dropped[instance(i)] != int64(pushes) || got == 0 || dropped[instance(i)] == 0 {
				t.Errorf("%s: %d arrived, %d dropped, of %d", instance(i), got, dropped[instance(i)], pushes)
			}
		}
		if u.twice > 0 {
			t.Errorf("%d were sent twice", u.twice)
		}
	})
}

// TestKilledSidecar kills the sidecar again and again; what was acked arrives once.
func TestKilledSidecar(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUpstream()
		u.lose = 0.2
		fs := faultfs.New()
		want := map[string]int64{}
		n := 0
		for life := range 7 {
			s := start(t, u, fs, nil)
			u.set(func() {
				if u.down = nil; life%3 == 1 {
					u.down = errRefused
				}
			})
			for range 10 {
				n++
				for i := range 3 {
					p := scraped(i, n, int64(n))
					if s.Append(t.Context(), p) == nil {
						want[instance(i)] += int64(n)
					}
				}
				time.Sleep(time.Second)
			}
			fs.Kill() // everything it does from here on fails
			s.stop()
		}
		u.set(func() { u.down, u.lose = nil, 0 })
		s := start(t, u, fs, nil)
		time.Sleep(time.Minute)
		s.stop()
		if !maps.Equal(u.values, want) {
			t.Errorf("values %v, want %v", u.values, want)
		}
	})
}

// TestRefusals: what is refused for good is given up and counted, what is refused for now is tried again, without holding others up.
func TestRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUpstream()
		full := true
		u.err = func(p store.Push) error {
			switch p.Process.Instance {
			case instance(0):
				return store.ErrInvalid
			case instance(1):
				if full {
					return &store.LimitError{Limit: "max_series_per_service", Max: 1, Got: 2}
				}
			case instance(2):
				return &store.LimitError{Limit: "max_series_per_service", Max: 1, Got: 2}
			}
			return nil
		}
		s := start(t, u, faultfs.New(), func(c *Config) { c.Lanes = 1 })
		for n := range 10 {
			for i := range 4 {
				if err := s.Append(t.Context(), scraped(i, n+1, 1)); err != nil {
					t.Fatal(err)
				}
			}
		}
		pass(3 * time.Second)
		u.set(func() {
			if u.values[instance(3)] != 10 {
				t.Errorf("the pushes of others are held up: %v", u.values)
			}
			full = false
		})
		pass(20 * time.Minute)
		if u.values[instance(1)] != 10 || !slices.IsSorted(u.order[instance(1)]) {
			t.Errorf("what was refused for a while: %v %v", u.values, u.order)
		}
		if got := testutil.ToFloat64(s.metrics.refused.WithLabelValues("422")); got != 10 {
			t.Errorf("%v refused for good, want 10", got)
		}
		if got := testutil.ToFloat64(s.metrics.refused.WithLabelValues("429")); got != 10 {
			t.Errorf("%v given up, want 10", got)
		}
		if st := s.spool.Stats(); st.Waiting != 0 {
			t.Errorf("%d wait", st.Waiting)
		}
		if n := strings.Count(s.log.String(), "for good"); n != 2 {
			t.Errorf("refusals are logged %d times:\n%s", n, s.log)
		}
	})
}

// TestAnswers: what the upstream as a whole answers decides when the next batch is sent, and nothing is lost by it.
func TestAnswers(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer func() *http.Response
		least  time.Duration // until the next try
		most   time.Duration
	}{
		{"429", func() *http.Response { return answer(429, "Retry-After", "90") }, 90 * time.Second, 91 * time.Second},
		{"503 with a date", func() *http.Response {
			return answer(503, "Retry-After", time.Now().Add(2*time.Minute).UTC().Format(http.TimeFormat))
		}, 119 * time.Second, 121 * time.Second},
		{"503", func() *http.Response { return answer(503) }, 0, time.Second},
		{"500", func() *http.Response { return answer(500) }, 0, time.Second},
		{"401", func() *http.Response { return answer(401) }, 0, time.Second},
		{"404", func() *http.Response { return answer(404) }, 0, time.Second},
		{"a redirect", func() *http.Response { return answer(302, "Location", "http://elsewhere/") }, 0, time.Second},
		{"an answer that is none", func() *http.Response { return answer(200) }, 0, time.Second},
		{"an hour", func() *http.Response { return answer(503, "Retry-After", "3600") }, maxRetryAfter, maxRetryAfter + time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u := newUpstream()
				first := true
				u.answer = func(*http.Request) *http.Response {
					u.mu.Lock()
					defer u.mu.Unlock()
					if !first {
						return nil
					}
					first = false
					return tt.answer()
				}
				s := start(t, u, faultfs.New(), func(c *Config) { c.Lanes = 1 })
				for n := range 3 {
					if err := s.Append(t.Context(), scraped(0, n+1, 1)); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(time.Hour)
				s.stop()
				if len(u.requests) < 2 || u.values[instance(0)] != 3 {
					t.Fatalf("%d requests, values %v", len(u.requests), u.values)
				}
				if d := u.requests[1].Sub(u.requests[0]); d < tt.least || d > tt.most {
					t.Errorf("tried again after %v, want %v to %v", d, tt.least, tt.most)
				}
			})
		})
	}
}

// TestPoison: a push that the upstream fails on, or refuses the whole batch for, does not hold the others up for ever.
func TestPoison(t *testing.T) {
	for _, status := range []int{413, 500} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u := newUpstream()
				u.answer = func(r *http.Request) *http.Response {
					b, err := io.ReadAll(r.Body)
					if err != nil || bytes.Contains(b, []byte(instance(1))) {
						return answer(status)
					}
					r.Body = io.NopCloser(bytes.NewReader(b))
					return nil
				}
				s := start(t, u, faultfs.New(), func(c *Config) { c.Lanes = 1 })
				for n := range 5 {
					for i := range 3 {
						if err := s.Append(t.Context(), scraped(i, n+1, 1)); err != nil {
							t.Fatal(err)
						}
					}
				}
				pass(10 * time.Minute)
				if u.values[instance(0)] != 5 || u.values[instance(2)] != 5 {
					t.Errorf("values %v", u.values)
				}
				if got := testutil.ToFloat64(s.metrics.refused.WithLabelValues(fmt.Sprint(status))); got != 5 {
					t.Errorf("%v refused, want 5", got)
				}
			})
		})
	}
}

// TestBusyUpstream: an upstream that cannot store anything for now costs nothing, however long it takes.
func TestBusyUpstream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUpstream()
		u.err = func(store.Push) error { return errors.New("disk full") }
		s := start(t, u, faultfs.New(), func(c *Config) { c.BatchBytes = 4096 })
		for n := range 50 {
			for i := range 4 {
				if err := s.Append(t.Context(), scraped(i, n+1, 1)); err != nil {
					t.Fatal(err)
				}
			}
		}
		time.Sleep(10 * time.Minute)
		u.set(func() { u.err = nil })
		pass(2 * time.Minute)
		for i := range 4 {
			if u.values[instance(i)] != 50 {
				t.Errorf("%d of 50 arrived", u.values[instance(i)])
			}
		}
	})
}

func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUpstream()
		s := start(t, u, faultfs.New(), func(c *Config) { c.BatchWait = time.Hour })
		if err := s.Append(t.Context(), scraped(0, 1, 7)); err != nil {
			t.Fatal(err)
		}
		s.stop() // sends what there is, without the wait
		if u.values[instance(0)] != 7 {
			t.Errorf("values %v", u.values)
		}
		u.down = errRefused
		s = start(t, u, faultfs.New(), nil)
		if err := s.Append(t.Context(), scraped(0, 2, 7)); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		s.stop()
		if d := time.Since(began); d > time.Second {
			t.Errorf("an upstream that is down held the end up for %v", d)
		}
	})
}

func TestSeenAndEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUpstream()
		fs := faultfs.New()
		s := start(t, u, fs, nil)
		var ps []catalog.Process
		for i := range 600 {
			ps = append(ps, catalog.Process{Instance: instance(i), Service: "nats", State: "running", Reason: "needs root", LastSeen: time.Now().UnixMilli(), Exe: "/usr/bin/nats"})
		}
		fs.Inject(faultfs.Fault{Ops: faultfs.Write, N: 1, Sticky: true})
		s.Seen(t.Context(), ps[:10]) // cannot be kept now
		fs.Inject()
		s.Seen(t.Context(), ps[5:])
		gone := ps[0]
		gone.State = "exited"
		s.Seen(t.Context(), []catalog.Process{gone})
		if err := s.Events(t.Context(), []catalog.Event{{Time: time.Now().UnixMilli(), Kind: "oom_kill", Service: "nats", Text: "killed", Attrs: map[string]string{"instance": instance(0)}}}); err != nil {
			t.Fatal(err)
		}
		pass(5 * time.Second)
		if len(u.procs) != 600 || u.procs["seen "+instance(0)].State != "exited" || u.procs["seen "+instance(7)].Reason != "needs root" {
			t.Errorf("%d processes were seen, %+v", len(u.procs), u.procs["seen "+instance(0)])
		}
		if len(u.events) != 1 || u.events[0].Kind != "oom_kill" {
			t.Errorf("events %+v", u.events)
		}
	})
}

// TestOddPushes: pushes of no process, of labels of their own, without a key, of no service.
func TestOddPushes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUpstream()
		var got []store.Push
		u.err = func(p store.Push) error {
			got = append(got, p)
			return nil
		}
		s := start(t, u, faultfs.New(), func(c *Config) { c.Lanes = 1 })
		now := time.Now().UnixMilli()
		one := store.Profile{Labels: labels.FromStrings("service_name", "a", "service_instance_id", "sdk-1", "zone", "z"), Type: "cpu", Start: now - 10, End: now, Data: cpuProfile(1)}
		two := one
		two.Labels = labels.FromStrings("service_name", "b")
		taken := 0
		if err := s.Append(t.Context(), store.Push{Profiles: []store.Profile{one, two}, Taken: func() { taken++ }}); err != nil || taken != 1 {
			t.Fatalf("%v, taken %d times", err, taken)
		}
		partial := scraped(0, 1, 1)
		partial.Process = &catalog.Process{Instance: instance(0), Service: "cart", Gatherer: "perf", State: "running", LastSeen: now}
		if err := s.Append(t.Context(), partial); err != nil {
			t.Fatal(err)
		}
		bare := store.Push{Key: catalog.Key{Instance: "x", Window: 1}, Process: &catalog.Process{Instance: "x"}}
		if err := s.Append(t.Context(), bare); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("a process without a service: %v", err)
		}
		pass(5 * time.Second)
		if len(got) != 2 {
			t.Fatalf("%d pushes arrived:\n%s", len(got), s.log)
		}
		if p := got[0]; p.Process != nil || p.Key.Idempotency == "" || !labels.Equal(p.Profiles[0].Labels, one.Labels) || !labels.Equal(p.Profiles[1].Labels, two.Labels) {
			t.Errorf("%+v", got[0])
		}
		if p := got[1]; p.Process.Gatherer != "perf" || !labels.Equal(p.Profiles[0].Labels, partial.Profiles[0].Labels) || p.Key != partial.Key {
			t.Errorf("%+v", p)
		}
	})
}

func TestPause(t *testing.T) {
	f := &Forwarder{cfg: Config{MinBackoff: time.Second, MaxBackoff: 30 * time.Second}}
	for failures, bound := range map[int]time.Duration{1: time.Second, 2: 2 * time.Second, 5: 16 * time.Second, 6: 30 * time.Second, 1000: 30 * time.Second} {
		low, high := time.Hour, time.Duration(0)
		for range 1000 {
			d := f.pause(failures, 0)
			low, high = min(low, d), max(high, d)
		}
		if high >= bound || high < bound*9/10 || low > bound/10 {
			t.Errorf("after %d failures: %v to %v, want all of 0 to %v", failures, low, high, bound)
		}
	}
}

// TestAgents sends what an agent sends through the sidecar: the golden bytes of the agent's module.
func TestAgents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUpstream()
		s := start(t, u, faultfs.New(), nil)
		h := s.Handler()
		process := `{"labels":{"service_name":"braked"},"boot_id":"boot","pid_ns":5,"start_ticks":77,"pid":3,"ns_pids":[100,3]}`
		post := func(window int, withProcess bool) (int, string) {
			var body bytes.Buffer
			if err := profiles.WriteProfile(&body, cpuProfile(int64(window))); err != nil {
				t.Fatal(err)
			}
			now := time.Now().UnixMilli()
			meta := map[string]any{"v": 1, "instance": instance(9), "window": window, "part": 0, "start": now - 1000, "end": now, "process_hash": hashOf(process), "capture": "c1",
				"profiles": []map[string]any{{"part": "cpu", "type": "cpu", "start": now - 1000, "end": now}}}
			if withProcess {
				meta["process"] = json.RawMessage(process)
			}
			raw, err := json.Marshal(meta)
			if err != nil {
				t.Fatal(err)
			}
			text := "--b\r\nContent-Disposition: form-data; name=\"meta\"\r\n\r\n" + string(raw) + "\r\n--b\r\nContent-Disposition: form-data; name=\"cpu\"\r\n\r\n" + body.String() + "\r\n--b--\r\n"
			r := httptest.NewRequest("POST", "/api/v1/push", strings.NewReader(text))
			r.Header.Set("Content-Type", "multipart/form-data; boundary=b")
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			return w.Code, w.Body.String()
		}
		if code, text := post(1, false); code != 428 {
			t.Fatalf("an unknown process: %d %s", code, text)
		}
		if code, text := post(1, true); code != 200 || !strings.Contains(text, `"settings":null`) {
			t.Fatalf("%d %s", code, text)
		}
		agent := discover.Identity{BootID: "boot", PIDNS: 5, StartTicks: 77, PIDs: []int{3}}
		other := agent
		other.StartTicks++
		row, known := s.AgentOf(agent)
		if _, wrong := s.AgentOf(other); !known || wrong || row.Instance != instance(9) || row.Service != "braked" || !slices.Equal(s.Agents(), []string{instance(9)}) {
			t.Error("the agent's process is not known")
		}
		pass(2 * time.Second)
		if code, text := post(2, false); code != 200 || !strings.Contains(text, `"settings":{"rev":"r1","enabled":false}`) {
			t.Fatalf("%d %s", code, text)
		}
		pass(2 * time.Second)
		if u.values[instance(9)] != 3 || u.procs[instance(9)].StartTicks != 77 {
			t.Errorf("values %v, process %+v", u.values, u.procs[instance(9)])
		}
		// The upstream forgets everything: it asks for the process object, and gets it out of the spool's table.
		u.set(func() { u.procs, u.keys = map[string]catalog.Process{}, map[catalog.Key]int{} })
		fresh := newUpstream()
		u.set(func() { u.handler = fresh.handler })
		if code, text := post(3, false); code != 200 {
			t.Fatalf("%d %s", code, text)
		}
		pass(5 * time.Second)
		if fresh.values[instance(9)] != 3 || fresh.procs[instance(9)].StartTicks != 77 {
			t.Errorf("values %v, process %+v", fresh.values, fresh.procs)
		}
		time.Sleep(agentsRecent)
		if _, known := s.AgentOf(agent); known {
			t.Error("an agent that has been silent for long counts")
		}
	})
}

func TestFullDiskAnswers503(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u, fs := newUpstream(), faultfs.New()
		s := start(t, u, fs, nil)
		fs.Inject(faultfs.Fault{Ops: faultfs.Write, N: 1, Sticky: true, Err: fmt.Errorf("write: %w", errNoSpace)})
		r := httptest.NewRequest("POST", "/api/v1/profiles?service=cart&type=cpu&start=now-10s&end=now", bytes.NewReader(profiles.AppendProfile(nil, cpuProfile(5))))
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		if w.Code != 503 || w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), "spool_bytes") {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		fs.Inject()
		r = httptest.NewRequest("POST", "/api/v1/profiles?service=cart&type=cpu&start=now-10s&end=now", bytes.NewReader(profiles.AppendProfile(nil, cpuProfile(5))))
		w = httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		if w.Code != 200 {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		pass(5 * time.Second)
		if u.values[""] != 5 {
			t.Errorf("values %v", u.values)
		}
	})
}
