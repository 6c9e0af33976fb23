package exposed

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/series"
)

// Own is this program as a target: all that its registry has is kept, without a request.
type Own struct {
	Gatherer prometheus.Gatherer
	Process  func() labels.Labels // of the process that it is; empty: not known yet
}

// gatherOwn hands on what the own registry has, in every period, until ctx ends.
func (m *Manager) gatherOwn(ctx context.Context, batches chan<- series.Batch) {
	for sleep(ctx, m.cfg.Every) {
		process := m.cfg.Own.Process()
		if process.IsEmpty() {
			continue
		}
		at := time.Now()
		families, err := m.cfg.Own.Gatherer.Gather() // what is right comes beside the error
		if err != nil {
			m.cfg.Logger.Warn("cannot read all of the own metrics", "error", err)
		}
		b, left, err := convert(families, process, at.UnixMilli(), m.cfg.MaxSamples)
		if err != nil {
			m.cfg.Logger.Warn("cannot keep the own metrics", "error", err)
			continue
		}
		m.metrics.left.Add(float64(left))
		m.mu.Lock()
		m.states[process.Get("service_instance_id")] = &state{given: givenBy(b), until: at.Add(3 * m.cfg.Every)}
		m.mu.Unlock()
		batches <- b
	}
}
