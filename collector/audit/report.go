package audit

import (
	"cmp"
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/symbols/vulns"
)

// Report is what is wrong with the builds that ran since a time.
type Report struct {
	From        int64         `json:"from"` // Unix ms
	To          int64         `json:"to"`
	Vulns       []Vuln        `json:"vulns"` // those seen running first, then those that are in the binary
	Unsupported []Unsupported `json:"unsupported"`
	Unknown     []Unknown     `json:"unknown"`        // builds of which it is not known what is in them
	Types       []string      `json:"types"`          // of the profiles that were looked at
	Database    *Database     `json:"database"`       // nil: there is none
	Note        string        `json:"note,omitempty"` // why there is none
	Releases    string        `json:"releases"`       // the day to which the table of Go releases is true
	More        bool          `json:"more,omitempty"` // there are more processes than were looked at
}

// Database says which copy of the database answered.
type Database struct {
	Modified time.Time `json:"modified"`
	Entries  int       `json:"entries"`
}

// Vuln is one vulnerability of one build.
type Vuln struct {
	ID       string   `json:"id"`
	Aliases  []string `json:"aliases"`
	Summary  string   `json:"summary"`
	URL      string   `json:"url"`
	Module   string   `json:"module"`
	Replaces string   `json:"replaces,omitempty"` // the module that it was put in the place of
	Found    string   `json:"found"`
	Fixed    string   `json:"fixed"` // "": not yet
	Build    string   `json:"build"`
	Version  string   `json:"version"` // of the build
	Go       string   `json:"go_version"`
	Services []string `json:"services"`
	Symbols  []string `json:"symbols"`   // the vulnerable functions, PACKAGE.* for a whole package; none: the whole module
	InBinary string   `json:"in_binary"` // yes, no, unknown: whether one of them is in the binary
	Present  []string `json:"present"`   // those that are
	Seen     []Seen   `json:"seen"`
}

// Seen is a vulnerable function that ran, in processes of the build.
type Seen struct {
	Function  string   `json:"function"` // as profiles have it: net/http.(*conn).serve
	Symbol    string   `json:"symbol"`   // as the database has it: net/http.conn.serve
	Service   string   `json:"service"`
	Instances int      `json:"instances"`
	First     int64    `json:"first"` // Unix ms
	Last      int64    `json:"last"`
	Types     []string `json:"types"` // of the profiles that show it
}

// Unsupported is a build whose Go version is out of support.
type Unsupported struct {
	Build    string   `json:"build"`
	Version  string   `json:"version"`
	Go       string   `json:"go_version"`
	Since    string   `json:"since"` // the day
	Services []string `json:"services"`
}

// Unknown is a build that cannot be judged, or not all of it.
type Unknown struct {
	Build    string   `json:"build"`
	Services []string `json:"services"`
	Why      string   `json:"why"`
}

// ran is a build that ran.
type ran struct {
	catalog.Build
	services []string
	content  vulns.Build
	findings []vulns.Finding
	seen     map[seenKey]*Seen
}

// ReportBy makes a report by a database that is not the configured one.
func (a *Auditor) ReportBy(ctx context.Context, db *vulns.Database, service string, from, to time.Time) (*Report, error) {
	if err := a.wait(ctx); err != nil {
		return nil, err
	}
	defer func() { <-a.turn }()
	r, err := a.report(ctx, db, service, from, to)
	if err != nil {
		return nil, fmt.Errorf("look for vulnerabilities: %w", err)
	}
	return r, nil
}

// Report makes the report about what ran in [from, to), of one service or ("") of all.
func (a *Auditor) Report(ctx context.Context, service string, from, to time.Time) (*Report, error) {
	if err := a.wait(ctx); err != nil {
		return nil, err
	}
	defer func() { <-a.turn }()
	key := service + "\x00" + from.Truncate(time.Minute).String()
	if k, ok := a.reports[key]; ok && a.cfg.Now().Sub(k.at) < fresh {
		return k.report, nil
	}
	problem := a.load()
	r, err := a.report(ctx, a.database, service, from, to)
	if err != nil {
		return nil, fmt.Errorf("look for vulnerabilities: %w", err)
	}
	if a.database == nil {
		r.Note = a.noDatabase(problem)
	}
	if len(a.reports) >= maxReports {
		clear(a.reports)
	}
	a.reports[key] = kept{r, a.cfg.Now()}
	return r, nil
}

func (a *Auditor) report(ctx context.Context, db *vulns.Database, service string, from, to time.Time) (*Report, error) {
	r := &Report{From: from.UnixMilli(), To: to.UnixMilli(), Vulns: []Vuln{}, Unsupported: []Unsupported{}, Unknown: []Unknown{}, Types: []string{}, Releases: a.releases.AsOf().Format(time.DateOnly)}
	f, err := a.fleet(ctx, service, r)
	if err != nil {
		return nil, err
	}
	if db != nil {
		r.Database = &Database{db.Modified(), db.Entries()}
	}
	for _, b := range f.builds {
		a.judge(db, b, to, r)
	}
	if err := a.look(ctx, f, r); err != nil {
		return nil, err
	}
	for _, b := range f.builds {
		a.list(db, b, r)
	}
	slices.SortFunc(r.Vulns, order)
	return r, nil
}

// fleet is what ran.
type fleet struct {
	builds   []*ran          // by id
	services map[string]bool // that ran one of them
	buildOf  map[string]*ran // by instance
}

// fleet finds the builds that ran since the start of the report's range.
func (a *Auditor) fleet(ctx context.Context, service string, r *Report) (*fleet, error) {
	ps, err := a.cfg.Catalog.FleetProcesses(ctx, r.From, maxProcesses)
	if err != nil {
		return nil, err
	}
	if r.More = len(ps) == maxProcesses; r.More {
		a.cut.Inc()
	}
	all, err := a.cfg.Catalog.Builds(ctx, service)
	if err != nil {
		return nil, err
	}
	known := map[string]*ran{}
	for _, b := range all {
		known[b.ID] = &ran{Build: b, seen: map[seenKey]*Seen{}}
	}
	f := &fleet{services: map[string]bool{}, buildOf: map[string]*ran{}}
	for i := range ps {
		p := &ps[i]
		b := known[p.BuildID]
		if b == nil || service != "" && p.Service != service || p.FirstSeen >= r.To {
			continue
		}
		if len(b.services) == 0 {
			f.builds = append(f.builds, b)
		}
		if !slices.Contains(b.services, p.Service) {
			b.services = append(b.services, p.Service)
		}
		f.services[p.Service] = true
		f.buildOf[p.Instance] = b
	}
	slices.SortFunc(f.builds, func(x, y *ran) int { return strings.Compare(x.ID, y.ID) })
	for _, b := range f.builds {
		slices.Sort(b.services)
	}
	return f, nil
}

// judge finds out what is wrong with b by what it is made of.
func (a *Auditor) judge(db *vulns.Database, b *ran, now time.Time, r *Report) {
	if since, out := a.releases.Unsupported(b.GoVersion, now); out {
		r.Unsupported = append(r.Unsupported, Unsupported{b.ID, b.Version, b.GoVersion, since.Format(time.DateOnly), b.services})
	}
	info, err := debug.ParseBuildInfo(b.Info)
	switch {
	case b.Info == "":
		info = nil
		r.Unknown = append(r.Unknown, Unknown{b.ID, b.services, "whoever reported it did not say what is in it: only its Go version is judged"})
	case err != nil:
		info = nil
		r.Unknown = append(r.Unknown, Unknown{b.ID, b.services, fmt.Sprintf("what is in it cannot be read: %v", err)})
	}
	if info != nil && info.Main.Path == "" && len(info.Deps) == 0 {
		r.Unknown = append(r.Unknown, Unknown{b.ID, b.services, "it was built without modules, as distributions do: only its Go version is judged"})
	}
	b.content = vulns.ReadBuild(b.GoVersion, info)
	// The program's own module rarely has a version, and rarely an entry.
	missing := slices.DeleteFunc(slices.Clone(b.content.Unknown), func(m string) bool { return info != nil && m == info.Main.Path })
	if len(missing) > 0 {
		r.Unknown = append(r.Unknown, Unknown{b.ID, b.services, "no version is known of " + strings.Join(missing, ", ")})
	}
	if db == nil {
		return
	}
	if b.findings, err = db.Find(&b.content); err != nil {
		r.Unknown = append(r.Unknown, Unknown{b.ID, b.services, err.Error()})
	}
}

// list adds the vulnerabilities of b to the report.
func (a *Auditor) list(db *vulns.Database, b *ran, r *Report) {
	if len(b.findings) == 0 {
		return
	}
	in := a.binary(db, b)
	for i := range b.findings {
		f := &b.findings[i]
		var functions vulns.Functions
		v := Vuln{ID: f.Entry.ID, Aliases: list(f.Entry.Aliases), Summary: f.Entry.Title(), URL: f.Entry.URL(), Module: f.Module.Path, Replaces: f.Module.Replaces, Found: f.Module.Version,
			Fixed: f.Fixed, Build: b.ID, Version: b.Version, Go: b.GoVersion, Services: b.services, Symbols: []string{}, InBinary: "unknown", Present: []string{}, Seen: []Seen{}}
		for _, id := range functions.Add(f) {
			v.Symbols = append(v.Symbols, functions.Name(id))
		}
		for _, name := range v.Symbols {
			seen := false
			for _, service := range b.services {
				if s := b.seen[seenKey{name, service}]; s != nil {
					v.Seen, seen = append(v.Seen, *s), true
				}
			}
			if seen || in.names[name] {
				v.Present = append(v.Present, name)
			}
		}
		switch {
		case len(v.Present) > 0:
			v.InBinary = "yes"
		case in.known && len(v.Symbols) > 0:
			v.InBinary = "no"
		}
		r.Vulns = append(r.Vulns, v)
	}
}

func list(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

// order puts what matters most first.
func order(x, y Vuln) int {
	rank := func(v Vuln) int {
		switch {
		case len(v.Seen) > 0:
			return 0
		case v.InBinary == "yes":
			return 1
		case v.InBinary == "unknown":
			return 2
		}
		return 3
	}
	return cmp.Or(cmp.Compare(rank(x), rank(y)), strings.Compare(x.ID, y.ID), strings.Compare(x.Module, y.Module), strings.Compare(x.Build, y.Build))
}
