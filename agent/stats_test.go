package agent

import (
	"net/http"
	"testing"
	"time"
)

func TestStats(t *testing.T) {
	c := newCollector(t)
	c.set(func(w http.ResponseWriter, p push) bool {
		if p.meta.Window == 2 {
			http.Error(w, "no", http.StatusUnprocessableEntity)
		}
		return p.meta.Window == 2
	})
	a := quick(t, c, 50*time.Millisecond, Config{Types: []Type{Heap}, QueueBytes: 1 << 20})
	if s := a.Stats(); !s.Enabled || s.Paused || s.Instance != a.instance || s.QueueLimit != 1<<20 {
		t.Errorf("at the start %+v", s)
	}
	wait(t, "3 accepted windows", func() bool { return a.Stats().WindowsSent >= 3 })
	s := a.Stats()
	if s.WindowsFailed != 1 || s.LastSent.IsZero() || time.Since(s.LastSent) > time.Minute {
		t.Errorf("while it runs %+v", s)
	}
	a.Pause()
	if s := a.Stats(); s.Enabled || !s.Paused {
		t.Errorf("paused %+v", s)
	}
	a.Resume()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if s := a.Stats(); s.Enabled || s.Paused || s.WindowsWaiting != 0 || s.QueueBytes != 0 {
		t.Errorf("closed %+v", s)
	}
}

// TestStatsCountWhatIsSkipped: types that the budget does not cover, and the CPU that the agent used.
func TestStatsCountWhatIsSkipped(t *testing.T) {
	a := idle(t, Config{Types: []Type{Heap}, Period: time.Hour})
	now := time.Now()
	a.rec.begin(now, time.Hour)
	a.rec.budget.purse, a.rec.cost = -time.Hour, time.Second
	a.rec.capture(now.Add(time.Second), false)
	s := a.Stats()
	if s.Skipped[Heap] != 1 || s.Budget > -time.Minute || s.CPU < time.Second || s.WindowsWaiting != 1 || s.QueueBytes == 0 {
		t.Errorf("got %+v", s)
	}
}

func TestStatsOfNothing(t *testing.T) {
	var none *Agent
	off := start(Config{}, effects{first: time.Second, getenv: env("SONDE_DISABLED", "1")})
	for _, a := range []*Agent{none, off} {
		if s := a.Stats(); s.Instance != "" || s.Enabled || s.Skipped != nil {
			t.Errorf("got %+v", s)
		}
	}
}
