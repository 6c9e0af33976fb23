package rules

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-io/sonde/collector/series"
)

// metrics counts what becomes of profile series.
type metrics struct {
	evaluations *prometheus.CounterVec
	seconds     prometheus.Counter
	missed      prometheus.Counter
	left        prometheus.Counter
	samples     prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		evaluations: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sonde_profile_series_evaluations_total", Help: "Windows for which a profile series was computed, by result."}, []string{"result"}),
		seconds:     prometheus.NewCounter(prometheus.CounterOpts{Name: "sonde_profile_series_seconds_total", Help: "Time spent in computing profile series."}),
		missed:      prometheus.NewCounter(prometheus.CounterOpts{Name: "sonde_profile_series_missed_total", Help: "Windows for which no profile series was computed, because others took too long."}),
		left:        prometheus.NewCounter(prometheus.CounterOpts{Name: "sonde_profile_series_left_out_total", Help: "Samples of profile series left out because a rule gives more series than its top."}),
		samples:     prometheus.NewCounter(prometheus.CounterOpts{Name: "sonde_profile_series_samples_total", Help: "Samples of profile series recorded."}),
	}
	m.evaluations.WithLabelValues("ok")
	m.evaluations.WithLabelValues("error")
	if reg != nil {
		reg.MustRegister(m.evaluations, m.seconds, m.missed, m.left, m.samples)
	}
	return m
}

// backoff is the longest that an agent waits before it tries again to send what it could not.
const backoff = time.Minute

// knows reports whether it can be known what c asks of the window that ends at end. After a start everybody is silent whose agent waits to try again.
func (m *Manager) knows(c *compiled, end time.Time) bool {
	return c.stat != statSilent || !end.Before(m.started.Add(c.delay+backoff))
}

// recordProfiles computes profile series, one window of one after the other, until ctx ends.
func (m *Manager) recordProfiles(ctx context.Context, all []*compiled) {
	if len(all) == 0 {
		return
	}
	now := time.Now()
	next := make([]time.Time, len(all)) // ends of the windows that are due next
	for i, c := range all {
		next[i] = now.Add(-c.delay).Truncate(c.every).Add(c.every)
	}
	failing := make([]bool, len(all))
	for {
		first := 0
		for i, c := range all {
			if next[i].Add(c.delay).Before(next[first].Add(all[first].delay)) {
				first = i
			}
		}
		c := all[first]
		if !sleepUntil(ctx, next[first].Add(c.delay)) {
			return
		}
		end := next[first]
		if last := time.Now().Add(-c.delay).Truncate(c.every); last.After(end) {
			m.metrics.missed.Add(float64(last.Sub(end) / c.every))
			end = last
		}
		next[first] = end.Add(c.every)
		if !m.knows(c, end) {
			continue
		}
		err := m.record(ctx, c, end)
		if err != nil && ctx.Err() != nil {
			return
		}
		if err != nil != failing[first] {
			failing[first] = err != nil
			if err != nil {
				m.log.Warn("cannot record a profile series", "record", c.name, "error", err)
			} else {
				m.log.Info("a profile series is recorded again", "record", c.name)
			}
		}
	}
}

// sleepUntil waits for t, and reports whether ctx is still in force then.
func sleepUntil(ctx context.Context, t time.Time) bool {
	timer := time.NewTimer(time.Until(t))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// record computes one window of c and keeps it.
func (m *Manager) record(ctx context.Context, c *compiled, end time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, m.cfg.Timeout)
	defer cancel()
	began := time.Now()
	out, err := c.eval(ctx, m.cfg.Profiles, end)
	m.metrics.seconds.Add(time.Since(began).Seconds())
	if err == nil && len(out.samples) > 0 {
		if err = m.cfg.Series.AppendSeries(ctx, series.Batch{Samples: out.samples}); err != nil {
			err = fmt.Errorf("append: %w", err)
		}
	}
	if err != nil {
		m.metrics.evaluations.WithLabelValues("error").Inc()
		return err
	}
	m.metrics.evaluations.WithLabelValues("ok").Inc()
	m.metrics.samples.Add(float64(len(out.samples)))
	m.metrics.left.Add(float64(out.left))
	return nil
}
