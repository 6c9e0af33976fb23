package agent

import (
	"encoding/json"
	"io"
	"net/http"
	"runtime/pprof"
	"strings"
	"testing"
	"time"
)

func TestLocalSwitchBeatsTheCollector(t *testing.T) {
	c := newCollector(t)
	c.set(func(w http.ResponseWriter, p push) bool {
		_, _ = io.WriteString(w, `{"status":"ok","settings":{"rev":"1","enabled":true,"types":["cpu"],"period_ms":1000}}`)
		return true
	})
	a := quick(t, c, 30*time.Millisecond, Config{})
	wait(t, "a push", func() bool { return len(c.tried()) > 0 })
	a.Pause()
	// The program has the CPU profile for itself now, whatever the collector wants.
	if err := pprof.StartCPUProfile(io.Discard); err != nil {
		t.Errorf("while paused: %v", err)
	}
	wait(t, "what was queued to be sent", func() bool { return a.up.left() == 0 })
	n := len(c.tried())
	a.obey(&settings{PeriodMS: ptr(int64(1000))})
	time.Sleep(100 * time.Millisecond)
	if m := len(c.tried()); m != n {
		t.Errorf("%d windows were sent while paused", m-n)
	}
	pprof.StopCPUProfile()
	a.Resume()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if len(c.tried()) == n {
		t.Error("no window after Resume")
	}
}

func ptr[T any](v T) *T { return &v }

func TestRemoteSettings(t *testing.T) {
	now := time.UnixMilli(1_000_000)
	a := &Agent{cfg: Config{Types: []Type{CPU, Heap, Goroutine}, CPURate: 100, Period: 15 * time.Second}}
	a.privacy, _ = newPrivacy(&a.cfg)
	a.rec, a.taker = newRecorder(a, mappingForTest), newTaker(a)
	own := plan{enabled: true, metrics: true, types: a.cfg.Types, rate: 100, period: 15 * time.Second}
	for _, tc := range []struct {
		name, json string
		want       plan
	}{
		{"none", `null`, own},
		{"empty leaves everything", `{"rev":"a"}`, own},
		{"off", `{"enabled":false}`, plan{metrics: true, types: own.types, rate: 100, period: own.period}},
		{"types are taken away, never added", `{"types":["cpu","mutex","nonsense"]}`, plan{enabled: true, metrics: true, types: []Type{CPU}, rate: 100, period: own.period}},
		{"no metrics", `{"metrics":false}`, plan{enabled: true, types: own.types, rate: 100, period: own.period}},
		{"no types", `{"types":[]}`, plan{enabled: true, metrics: true, rate: 100, period: own.period}},
		{"rate and period", `{"cpu_rate":19,"period_ms":60000}`, plan{enabled: true, metrics: true, types: own.types, rate: 19, period: time.Minute}},
		{"out of bounds", `{"cpu_rate":-4,"period_ms":9223372036854775807}`, plan{enabled: true, metrics: true, types: own.types, rate: 1, period: time.Hour}},
		{"still valid", `{"enabled":false,"until":1000001}`, plan{metrics: true, types: own.types, rate: 100, period: own.period, until: time.UnixMilli(1_000_001)}},
		{"expired", `{"enabled":false,"until":1000000}`, own},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var s *settings
			if err := json.Unmarshal([]byte(tc.json), &s); err != nil {
				t.Fatal(err)
			}
			a.obey(s)
			if got := a.plan(now); !got.equal(tc.want) || !got.until.Equal(tc.want.until) {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
		})
	}
	a.cfg.Metrics = Off
	a.obey(&settings{Metrics: ptr(true)})
	if a.plan(now).metrics {
		t.Error("the collector turned metrics on that the program has off")
	}
}

func TestCollectorTurnsOffAndOnAgain(t *testing.T) {
	c := newCollector(t)
	c.set(func(w http.ResponseWriter, p push) bool {
		enabled := "true"
		if p.meta.Window < 3 {
			enabled = "false"
		}
		c.mu.Lock()
		c.pushes = append(c.pushes, p)
		c.mu.Unlock()
		_, _ = io.WriteString(w, `{"status":"ok","settings":{"enabled":`+enabled+`}}`)
		return true
	})
	quick(t, c, 100*time.Millisecond, Config{Types: []Type{Heap}})
	with := func() (windows []uint64) {
		for _, p := range c.stored() {
			if len(p.data) > 0 {
				windows = append(windows, p.meta.Window)
			}
		}
		return windows
	}
	wait(t, "profiles after the collector allowed them again", func() bool { w := with(); return len(w) > 1 && w[len(w)-1] > 3 })
	for _, w := range with() {
		if w == 3 {
			t.Error("window 3 holds profiles, though the collector had turned the agent off")
		}
	}
}

func TestWrongSettingsAreReportedOnce(t *testing.T) {
	c := newCollector(t)
	var log logBuffer
	a := start(Config{Logger: log.logger(), Types: []Type{"cpu", "nonsense"}, Labels: map[string]string{"x": strings.Repeat("y", 5000)}}, effects{first: time.Hour,
		getenv: env("SONDE_PERIOD", "soon", "SONDE_CPU_RATE", "1000", "SONDE_QUEUE_BYTES", "-1", "SONDE_URL", c.URL)})
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	for _, s := range []string{"SONDE_PERIOD", "SONDE_CPU_RATE=1000: above 100", "SONDE_QUEUE_BYTES", "nonsense"} {
		if n := strings.Count(log.String(), s); n != 1 {
			t.Errorf("%q is logged %d times, want once", s, n)
		}
	}
	if a.cfg.Period != defaultPeriod || a.cfg.CPURate != 100 || a.cfg.QueueBytes != 64<<10 {
		t.Errorf("settings in force: %+v", a.cfg)
	}
	p := c.stored()[0]
	if p.process.Labels["sonde_stripped"] != "1" || p.process.Labels["x"] != "" || p.meta.Stats.LabelsStripped != 1 {
		t.Errorf("labels %v, stats %+v", p.process.Labels, p.meta.Stats)
	}
}
