package forward

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/sonde-io/sonde/collector/wire"
)

// parkPause is how long an instance is left alone whose push was refused for now, where the upstream does not say.
const parkPause = 5 * time.Second

// ofInstance reports whether a refusal for now is about what was sent, as a limit on a service's series is, and not about the upstream as a whole.
func ofInstance(r wire.Result) bool {
	if r.Status != wire.StatusRefused || !r.Retry || r.Code != http.StatusTooManyRequests {
		return false
	}
	var e struct{ Limit string }
	return json.Unmarshal(r.Error, &e) == nil && e.Limit != "" && e.Limit != "max_inflight_bytes" && e.Limit != "max_concurrent_pushes"
}

// refusedForNow parks a push: those of other instances need not wait for it. One that was refused for too long is given up.
func (l *lane) refusedForNow(o *outbound, r wire.Result) {
	now := l.f.cfg.Now()
	if o.refused.IsZero() {
		o.refused = now
	}
	if now.Sub(o.refused) > l.f.cfg.ParkFor {
		l.f.refuse(o, r.Code, string(r.Error))
		return
	}
	who := o.Instance
	if who == "" { // nothing else is of the same
		who = "\x00" + o.Hash + string(o.Meta[:min(len(o.Meta), 200)])
	}
	p := l.parked[who]
	if p == nil {
		p = new(parking)
		l.parked[who] = p
	}
	asked := time.Duration(r.RetryAfter) * time.Second
	if asked <= 0 {
		asked = parkPause
	}
	p.until = now.Add(l.f.pause(1, min(asked, maxRetryAfter)))
	l.park(o, p)
}

// park puts a push behind the others of its instance. Where too much is parked, that which was refused first is given up.
func (l *lane) park(o *outbound, p *parking) {
	p.pushes = append(p.pushes, o)
	l.parkedBytes += int(o.weight)
	for l.parkedBytes > l.f.cfg.BatchBytes/2 {
		var oldest string
		for who, q := range l.parked {
			if oldest == "" || q.pushes[0].refused.Before(l.parked[oldest].pushes[0].refused) {
				oldest = who
			}
		}
		for _, o := range l.parked[oldest].pushes {
			l.parkedBytes -= int(o.weight)
			l.f.refuse(o, http.StatusTooManyRequests, "refused again and again")
		}
		delete(l.parked, oldest)
	}
}

// unpark takes what may be tried again into the batch.
func (l *lane) unpark() {
	now := l.f.cfg.Now()
	for who, p := range l.parked {
		if now.Before(p.until) || l.full() {
			continue
		}
		for _, o := range p.pushes {
			l.parkedBytes -= int(o.weight)
			l.batch = append(l.batch, o)
			l.bytes += int(o.Bytes)
		}
		delete(l.parked, who)
	}
}

// nextPark is how long to wait until something parked may be tried again.
func (l *lane) nextPark() time.Duration {
	now := l.f.cfg.Now()
	d := time.Minute
	for _, p := range l.parked {
		d = min(d, p.until.Sub(now))
	}
	return max(d, 10*time.Millisecond)
}
