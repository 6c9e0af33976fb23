package collector

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"

	"github.com/sonde-io/sonde/collector/audit"
	"github.com/sonde-io/sonde/collector/godebug"
	"github.com/sonde-io/sonde/collector/metrics"
	"github.com/sonde-io/sonde/collector/metrics/rules"
	"github.com/sonde-io/sonde/internal/rungroup"
)

// MetricsDir is the folder of the time series database in a data directory.
const MetricsDir = "metrics"

// measured are the parts of a collector that keep what is no profile: time series, the lines that runtimes print, and what is known of builds.
type measured struct {
	metrics *metrics.Store
	lines   *godebug.Keeper
	writer  *metrics.RemoteWriter // nil: nothing is sent on
	alerts  *rules.Manager
	audit   *audit.Auditor
}

// openMetrics opens the time series database, and what is evaluated over it and over builds.
func (p *parts) openMetrics(ctx context.Context) (err error) {
	c := p.cfg
	deletions, err := p.cat.Deletions(ctx)
	if err != nil {
		return err
	}
	var deleted []metrics.Deletion
	for _, d := range deletions {
		deleted = append(deleted, seriesOf(d))
	}
	p.metrics, err = metrics.Open(ctx, metrics.Config{Dir: filepath.Join(c.Data, MetricsDir), Settings: c.Metrics, Version: p.opts.Version, Logger: p.log, Registerer: p.registry,
		Deleted: deleted})
	if err != nil {
		return err
	}
	p.life.metrics = p.metrics
	p.closers = append(p.closers, p.metrics.Close)
	p.backups.Metrics = func(_ context.Context, dir string) (string, error) { return dir, p.metrics.Snapshot(dir) }
	if len(c.Metrics.RemoteWrite) > 0 {
		if p.writer, err = p.metrics.NewRemoteWriter(metrics.RemoteWriterConfig{To: c.Metrics.RemoteWrite, Dir: filepath.Dir(c.file), FlushDeadline: c.ShutdownTimeout.D(), Logger: p.log,
			Registerer: p.registry}); err != nil {
			return err
		}
		p.closers = append(p.closers, p.writer.Close)
	}
	p.lines = godebug.NewKeeper(p.cat, c.Godebug, p.log, p.registry)
	if p.audit, err = audit.New(audit.Config{Catalog: p.cat, Profiles: p.store, Binaries: p.binaries, Settings: c.Builds.Settings, Logger: p.log, Registerer: p.registry}); err != nil {
		return err
	}
	p.closers = append(p.closers, p.audit.Close)
	c.Rules.SetDirectory(filepath.Dir(c.file))
	warnRuleFiles(p.log, c.Rules.Files)
	query, err := p.metrics.RuleQuery()
	if err != nil {
		return err
	}
	p.alerts, err = rules.New(rules.Config{Settings: c.Rules, Query: query, Queryable: p.metrics.Queryable(), Appendable: p.metrics.Appendable(), Series: p.metrics, Profiles: p.store,
		Timeout: c.QueryTimeout.D(), Log: metrics.Quiet(p.log), Registerer: p.registry})
	if err != nil {
		return fmt.Errorf("setting %w", err)
	}
	p.metrics.ShowRules(p.alerts, p.alerts)
	return nil
}

// addTo adds what runs of m. Rules come before what they read.
func (m *measured) addTo(g *rungroup.Group) {
	g.Add("rules", m.alerts.Run)
	if m.writer != nil {
		g.Add("remote write", m.writer.Run)
	}
	g.Add("lines", m.lines.Run)
	g.Add("metrics", m.metrics.Run)
}

// register adds the endpoints of m to mux, and those that only answer to queries.
func (m *measured) register(mux, queries *http.ServeMux) error {
	m.audit.Register(queries)
	return m.metrics.Register(mux)
}
