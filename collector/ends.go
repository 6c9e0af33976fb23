package collector

import (
	"context"
	"log/slog"
	"time"

	"github.com/sonde-io/sonde/collector/metrics"
	"github.com/sonde-io/sonde/internal/catalog"
)

// lifeCatalog is the catalogue, which learns of all ends and deletions whoever tells of them, with the time series that end and are deleted with their processes.
type lifeCatalog struct {
	*catalog.DB
	metrics *metrics.Store // set before anything runs
	log     *slog.Logger
}

var _ catalog.Catalog = (*lifeCatalog)(nil)

// Register implements catalog.Catalog.
func (c *lifeCatalog) Register(ctx context.Context, r catalog.Registration) error {
	if err := c.DB.Register(ctx, r); err != nil {
		return err
	}
	c.ended(ctx, r.Processes, r.Events)
	return nil
}

// PutProcesses implements catalog.Catalog.
func (c *lifeCatalog) PutProcesses(ctx context.Context, ps []catalog.Process) error {
	if err := c.DB.PutProcesses(ctx, ps); err != nil {
		return err
	}
	c.ended(ctx, ps, nil)
	return nil
}

// AddEvents implements catalog.Catalog.
func (c *lifeCatalog) AddEvents(ctx context.Context, es []catalog.Event) error {
	if err := c.DB.AddEvents(ctx, es); err != nil {
		return err
	}
	c.ended(ctx, nil, es)
	return nil
}

// FinishDeletion implements catalog.Catalog. A deletion is not finished before its series are gone: where that fails, or is interrupted, the store carries it on.
func (c *lifeCatalog) FinishDeletion(ctx context.Context, d catalog.Deletion, seenBefore int64) (catalog.Removed, error) {
	if err := c.metrics.Delete(ctx, seriesOf(d)); err != nil {
		return catalog.Removed{}, err
	}
	return c.DB.FinishDeletion(ctx, d, seenBefore)
}

// seriesOf returns what d deletes of the time series: as of profiles nothing of after it was asked for.
func seriesOf(d catalog.Deletion) metrics.Deletion {
	return metrics.Deletion{Service: d.Service, Instance: d.Instance, From: d.Start, To: min(d.End, d.Created)}
}

// ended ends the series of processes that are said to have ended. That they cannot be is no error of who says it: they end by themselves when nothing comes any more, only later.
func (c *lifeCatalog) ended(ctx context.Context, ps []catalog.Process, es []catalog.Event) {
	var ends []metrics.End
	for i := range ps {
		if p := &ps[i]; p.State == "exited" || p.State == "crashed" {
			ends = append(ends, metrics.End{Instance: p.Instance, At: p.LastSeen})
		}
	}
	for i := range es {
		switch e := &es[i]; e.Kind {
		case "exit", "oom_kill", "crash":
			ends = append(ends, metrics.End{Instance: e.Attrs["instance"], At: e.Time})
		}
	}
	c.end(ctx, ends)
}

// renamed ends the series of instances whose processes go on under the names that their agents gave them.
func (c *lifeCatalog) renamed(ctx context.Context, instances []string) {
	ends := make([]metrics.End, len(instances))
	for i, instance := range instances {
		ends[i] = metrics.End{Instance: instance, At: time.Now().UnixMilli()}
	}
	c.end(ctx, ends)
}

func (c *lifeCatalog) end(ctx context.Context, ends []metrics.End) {
	if len(ends) == 0 || c.metrics == nil {
		return
	}
	if err := c.metrics.Ended(context.WithoutCancel(ctx), ends...); err != nil {
		c.log.Warn("cannot end the series of processes that ended", "processes", len(ends), "error", err)
	}
}

// silence looks every minute for restarts that nobody saw, once this collector has listened for long enough to know who is silent.
func (c *lifeCatalog) silence(ctx context.Context) error {
	t := time.NewTimer(catalog.Silence)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		if err := c.Silent(ctx); err != nil && ctx.Err() == nil {
			c.log.Warn("cannot look for restarts that nobody saw", "error", err)
		}
		t.Reset(time.Minute)
	}
}
