package agent

import "time"

// Stats is the agent's account of itself. Counters count from Start.
type Stats struct {
	Instance string // the process's instance id; "" where the agent is disabled

	WindowsSent    uint64 // accepted by the collector
	WindowsDropped uint64 // the oldest ones, for which the queue had no room
	WindowsFailed  uint64 // refused by the collector, or not encoded
	WindowsWaiting int    // in the queue
	QueueBytes     int    // that they take
	QueueLimit     int    // Config.QueueBytes

	CPU            time.Duration // that the agent used, as far as it can count it
	Budget         time.Duration // of CPU that it may still use; below 0 it owes some, and skips captures
	Skipped        map[Type]uint64
	LabelsStripped uint64

	Enabled  bool      // whether it profiles: not paused, closed, disabled, or turned off by the collector
	Paused   bool      // by Pause
	LastSent time.Time // of the newest window that the collector accepted; zero: none was
}

// Stats returns the agent's account of itself. It waits for a capture that runs, some milliseconds.
func (a *Agent) Stats() Stats {
	if a == nil || a.rec == nil {
		return Stats{}
	}
	s := Stats{Instance: a.instance, WindowsDropped: a.up.dropped.Load(), WindowsFailed: a.up.failed.Load(), QueueLimit: a.cfg.QueueBytes,
		LabelsStripped: a.stripped.Load() + strippedInDo.Load() - a.strippedBefore}
	a.rec.account(&s)
	a.up.account(&s)
	return s
}

// account fills in what the recorder knows.
func (r *recorder) account(s *Stats) {
	r.mu.Lock()
	defer r.mu.Unlock()
	unpaid := time.Duration(r.a.up.spent.Load())
	s.CPU, s.Budget = r.total+r.cost+unpaid, r.budget.purse-unpaid
	s.Paused = r.paused && !r.closed
	s.Enabled = r.plan.enabled && !r.paused && !r.closed
	s.LabelsStripped += uint64(r.scrub.stripped)
	s.Skipped = make(map[Type]uint64, len(r.skips))
	for t, n := range r.skips {
		s.Skipped[t] = n
	}
}

// account fills in what the uploader knows.
func (u *uploader) account(s *Stats) {
	u.mu.Lock()
	defer u.mu.Unlock()
	s.WindowsWaiting, s.QueueBytes = len(u.waiting), u.bytes
	s.WindowsSent, s.LastSent = u.accepts, u.lastOK
}
