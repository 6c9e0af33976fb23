package api

import (
	"cmp"
	"context"
	"net/http"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles"
	"github.com/sonde-io/sonde/profiles/store"
	"github.com/sonde-io/sonde/symbols/binaries"
	"github.com/sonde-io/sonde/symbols/pclntab"
)

// BuildCatalog is what a report on a PGO profile reads of the catalogue; catalog.Catalog is one.
type BuildCatalog interface {
	FleetProcesses(ctx context.Context, since int64, limit int) ([]catalog.FleetProcess, error)
	Builds(ctx context.Context, service string) ([]catalog.Build, error)
}

// Binaries opens the names of the functions of binaries; *binaries.Store is one.
type Binaries interface {
	Functions(id string) (binaries.Functions, error)
}

// RegisterPGO adds the endpoint that says what a PGO profile is made of. b may be nil.
func (h *Handler) RegisterPGO(mux *http.ServeMux, c BuildCatalog, b Binaries) {
	mux.Handle("GET /api/v1/pgo", h.handle("pgo", func(ctx context.Context, r *http.Request) (any, error) {
		p := h.params(r, common...)
		q := p.query()
		if p.err == nil && q.Type.Profile != "cpu" {
			p.fail("parameter type: a PGO profile is made of cpu, not %s", q.Type)
		}
		if p.err != nil {
			return nil, p.err
		}
		return (&pgoReport{h: h, catalog: c, binaries: b, q: q}).run(ctx)
	}))
}

// PGOReport says whose profile a PGO profile is, and how much of it is about the code of now.
type PGOReport struct {
	Type      profiles.TypeDesc `json:"type"`
	From      int64             `json:"from"` // Unix ms
	To        int64             `json:"to"`
	Total     int64             `json:"total"`   // of the type's unit; what was profiled for less of its time counts as much more (store.Estimate.Even)
	Samples   int64             `json:"samples"` // about: what was counted by the sampling period; 0: not known
	Period    int64             `json:"period"`
	Profiles  int               `json:"profiles"`
	Processes int               `json:"processes"`
	Builds    []PGOBuild        `json:"builds"`  // the largest share first; of what no build is known of, the one without id
	Newest    []PGOBuild        `json:"newest"`  // of each service the build that was first seen last
	Source    string            `json:"source"`  // what tells the newest build's functions: binary, profiles (those it was seen running), none
	Exists    float64           `json:"exists"`  // share of the hot code, by the function that ran, that the newest builds still have
	Missing   []PGOFunction     `json:"missing"` // the hottest functions that they do not have
}

// PGOBuild is a build that a profile is of.
type PGOBuild struct {
	ID           string  `json:"id"`
	Service      string  `json:"service,omitempty"`
	Version      string  `json:"version"`
	GoVersion    string  `json:"go_version"`
	FirstSeen    int64   `json:"first_seen"` // Unix ms
	Revision     string  `json:"vcs_revision,omitempty"`
	RevisionTime string  `json:"vcs_time,omitempty"`
	Processes    int     `json:"processes"`
	Share        float64 `json:"share"` // of the total
}

// PGOFunction is a function and its share of the total.
type PGOFunction struct {
	Function string  `json:"function"`
	Share    float64 `json:"share"`
}

const (
	maxPGOProcesses = 150_000
	maxMissing      = 10
)

// pgoReport makes one report.
type pgoReport struct {
	h        *Handler
	catalog  BuildCatalog
	binaries Binaries
	q        store.Query

	out     PGOReport
	top     *profiles.Top
	builds  map[string]*PGOBuild // by id
	running map[string]catalog.FleetProcess
}

func (p *pgoReport) run(ctx context.Context) (*PGOReport, error) {
	e, err := p.h.cfg.Store.Estimate(ctx, p.q)
	if err != nil {
		return nil, err
	}
	s, own, err := p.h.mergeEven(ctx, p.q, e)
	if err != nil {
		return nil, err
	}
	p.top = profiles.NewTop(s, nil, profiles.TopOptions{Limit: -1, OwnModule: own})
	p.out = PGOReport{Type: p.top.Type, From: p.q.From, To: p.q.To, Total: p.top.Total, Period: s.Stats.Period, Profiles: s.Stats.Profiles, Builds: []PGOBuild{}, Newest: []PGOBuild{}, Source: "none", Missing: []PGOFunction{}}
	counted, err := p.whose(ctx, e)
	if err != nil {
		return nil, err
	}
	switch {
	case p.q.Type.Sample == "samples":
		p.out.Samples = int64(counted)
	case p.out.Period > 0:
		p.out.Samples = int64(counted) / p.out.Period
	}
	return &p.out, p.still(ctx)
}

// whose finds the builds whose profile it is, and what was counted of them.
func (p *pgoReport) whose(ctx context.Context, e *store.Estimate) (counted float64, err error) {
	series, err := p.h.cfg.Store.Series(ctx, store.SeriesQuery{Query: p.q, Step: p.q.To - p.q.From, By: []string{"service_name", "service_instance_id"}})
	if err != nil {
		return 0, err
	}
	ps, err := p.catalog.FleetProcesses(ctx, p.q.From, maxPGOProcesses)
	if err != nil {
		return 0, err
	}
	p.running = map[string]catalog.FleetProcess{}
	for _, proc := range ps {
		p.running[proc.Instance] = proc
	}
	p.builds = map[string]*PGOBuild{}
	services := map[string]bool{}
	weighed := 0.0
	for _, s := range series {
		services[s.Labels.Get("service_name")] = true
		proc := p.running[s.Labels.Get("service_instance_id")]
		b := p.builds[proc.BuildID]
		if b == nil {
			b = &PGOBuild{ID: proc.BuildID, Service: s.Labels.Get("service_name"), Version: proc.Version, GoVersion: proc.GoVersion}
			p.builds[proc.BuildID] = b
		}
		b.Processes++
		p.out.Processes++
		counted += s.Total
		weighed += s.Total * e.Even(s.Labels)
		b.Share += s.Total * e.Even(s.Labels)
	}
	for _, b := range p.builds {
		if weighed > 0 {
			b.Share /= weighed
		}
	}
	for service := range services {
		if err := p.describe(ctx, service); err != nil {
			return 0, err
		}
	}
	for _, b := range p.builds {
		p.out.Builds = append(p.out.Builds, *b)
	}
	slices.SortFunc(p.out.Builds, func(x, y PGOBuild) int { return cmp.Or(cmp.Compare(y.Share, x.Share), strings.Compare(x.ID, y.ID)) })
	slices.SortFunc(p.out.Newest, func(x, y PGOBuild) int { return strings.Compare(x.Service, y.Service) })
	return counted, nil
}

// describe adds what the catalogue knows of a service's builds, and which of them is the newest of those that ran in the range.
func (p *pgoReport) describe(ctx context.Context, service string) error {
	known, err := p.catalog.Builds(ctx, service)
	if err != nil {
		return err
	}
	ran := map[string]string{} // version by build
	for _, proc := range p.running {
		if proc.Service == service && proc.BuildID != "" {
			ran[proc.BuildID] = cmp.Or(proc.Version, ran[proc.BuildID])
		}
	}
	var newest *PGOBuild
	for i := range known {
		c := &known[i]
		version, ok := ran[c.ID]
		if !ok {
			continue
		}
		b := p.builds[c.ID]
		if b == nil {
			b = &PGOBuild{ID: c.ID, Service: service}
		}
		b.Version, b.GoVersion, b.FirstSeen = cmp.Or(version, c.Version), c.GoVersion, c.FirstSeen
		if info, err := debug.ParseBuildInfo(c.Info); err == nil {
			for _, s := range info.Settings {
				switch s.Key {
				case "vcs.revision":
					b.Revision = s.Value
				case "vcs.time":
					b.RevisionTime = s.Value
				}
			}
		}
		if newest == nil || b.FirstSeen >= newest.FirstSeen {
			newest = b
		}
	}
	if newest != nil {
		p.out.Newest = append(p.out.Newest, *newest)
	}
	return nil
}

// still finds out how much of the hot code the newest builds have.
func (p *pgoReport) still(ctx context.Context) error {
	has := map[string]bool{}
	for _, b := range p.out.Newest {
		source, err := p.functions(ctx, &b, has)
		if err != nil {
			return err
		}
		if p.out.Source == "none" || source == "profiles" {
			p.out.Source = source
		}
	}
	if p.out.Source == "none" {
		return nil
	}
	there, all := int64(0), int64(0)
	for _, row := range p.top.Rows { // by self, the largest first
		all += row.Self
		if has[pclntab.WithoutTypes(row.Function)] {
			there += row.Self
		} else if row.Self > 0 && len(p.out.Missing) < maxMissing && p.top.Total > 0 {
			p.out.Missing = append(p.out.Missing, PGOFunction{row.Function, float64(row.Self) / float64(p.top.Total)})
		}
	}
	if all > 0 {
		p.out.Exists = float64(there) / float64(all)
	}
	return nil
}

// functions adds the functions that a build has: by its binary, else by what it was seen running.
func (p *pgoReport) functions(ctx context.Context, b *PGOBuild, has map[string]bool) (source string, err error) {
	if p.binaries != nil {
		if table, err := p.binaries.Functions(b.ID); err == nil {
			defer table.Close()
			table.EachName(func(name string) bool {
				has[pclntab.WithoutTypes(name)] = true
				return true
			})
			return "binary", nil
		}
	}
	var instances []string
	for _, proc := range p.running {
		if proc.BuildID == b.ID && len(instances) < maxBuildProcesses {
			instances = append(instances, regexp.QuoteMeta(proc.Instance))
		}
	}
	m, err := labels.NewMatcher(labels.MatchRegexp, "service_instance_id", strings.Join(instances, "|"))
	if err != nil {
		return "", err
	}
	q := p.q
	q.Matchers = append(slices.Clone(q.Matchers), m)
	s, err := p.h.cfg.Store.Merge(ctx, q) // which functions there are is all that is asked for
	if err != nil {
		return "", err
	}
	top := profiles.NewTop(s, nil, profiles.TopOptions{Limit: -1})
	if len(top.Rows) == 0 {
		return "none", nil
	}
	for _, row := range top.Rows {
		has[pclntab.WithoutTypes(row.Function)] = true
	}
	return "profiles", nil
}
