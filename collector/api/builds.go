package api

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/sonde-io/sonde/collector/reply"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/symbols/build"
)

const (
	maxUses        = 50_000 // rows of services, builds and versions that one answer is made of
	defaultBuilds  = 1000
	maxBuilds      = 10_000 // of one answer
	maxBuildNodes  = 16     // that are named of those that run a build
	minBuildPrefix = 4      // of an id, in letters
	// maxRanBy bounds the processes that are listed of one build, those seen last.
	maxRanBy = 1000
)

// buildJSON is a build in a list, and who runs it.
type buildJSON struct {
	ID           string          `json:"id"`
	GoVersion    string          `json:"go_version"`
	Module       string          `json:"module"`
	Version      string          `json:"version"` // of the main module
	Revision     string          `json:"vcs_revision,omitempty"`
	RevisionTime string          `json:"vcs_time,omitempty"`
	Modified     bool            `json:"vcs_modified,omitempty"`
	Modules      int             `json:"modules"` // besides the main module
	Size         int64           `json:"size,omitempty"`
	Stripped     string          `json:"stripped,omitempty"`
	Known        bool            `json:"known"` // whether more than its id is
	FirstSeen    int64           `json:"first_seen"`
	LastSeen     int64           `json:"last_seen"` // 0: nobody ran it
	Services     []buildUserJSON `json:"services"`
}

// buildUserJSON is what one service did with a build.
type buildUserJSON struct {
	Service   string   `json:"service"`
	Version   string   `json:"version"`
	Running   int      `json:"running"`
	Processes int      `json:"processes"` // all that ran it; one that several see counts for each
	Nodes     []string `json:"nodes,omitempty"`
	First     int64    `json:"first"`
	Last      int64    `json:"last"`
}

// builds answers which versions run where.
func (h *Handler) builds(ctx context.Context, r *http.Request) (any, error) {
	p := h.params(r, "service", "module", "version", "since", "limit")
	since, limit := p.time("since", "now-30d"), p.number("limit", defaultBuilds, 1, maxBuilds)
	if p.err != nil {
		return nil, p.err
	}
	all, more, err := h.knownBuilds(ctx, since, nil)
	if err != nil {
		return nil, err
	}
	var with map[string]bool
	if module := p.str("module"); module != "" {
		if with, err = h.idsWith(ctx, module); err != nil {
			return nil, err
		}
	}
	service, version := p.str("service"), p.str("version")
	out := []buildJSON{}
	for _, b := range all {
		if with != nil && !with[b.ID] && b.Module != p.str("module") {
			continue
		}
		own := version != "" && b.Version == version
		b.Services = slices.DeleteFunc(b.Services, func(u buildUserJSON) bool {
			return service != "" && u.Service != service || version != "" && !own && u.Version != version
		})
		if len(b.Services) > 0 || service == "" && (version == "" || own) {
			out = append(out, b)
		}
	}
	if len(out) > limit {
		out, more = out[:limit], true
	}
	if err := h.describeBuilds(ctx, out); err != nil {
		return nil, err
	}
	return map[string]any{"builds": out, "more": more}, nil
}

// idsWith returns the builds that a module is in, compiled or declared.
func (h *Handler) idsWith(ctx context.Context, module string) (map[string]bool, error) {
	ms, err := h.cfg.Catalog.BuildsWith(ctx, module)
	if err != nil {
		return nil, err
	}
	ids := make(map[string]bool, len(ms))
	for _, m := range ms {
		ids[m.Build] = true
	}
	return ids, nil
}

// knownBuilds returns the builds that ran, or became known, at or after since, those that run first, then the one seen last; only those of ids where that is not nil. more says that
// there are more uses than are looked at.
func (h *Handler) knownBuilds(ctx context.Context, since int64, ids map[string]bool) (out []buildJSON, more bool, err error) {
	uses, err := h.cfg.Catalog.BuildUses(ctx, "", since, maxUses+1)
	if err != nil {
		return nil, false, err
	}
	if more = len(uses) > maxUses; more {
		uses = uses[:maxUses]
	}
	rows, err := h.cfg.Catalog.BuildHeads(ctx)
	if err != nil {
		return nil, false, err
	}
	runs, err := h.runsNow(ctx)
	if err != nil {
		return nil, false, err
	}
	at := map[string]int{}
	add := func(b buildJSON) *buildJSON {
		i, ok := at[b.ID]
		if !ok {
			i = len(out)
			at[b.ID], out = i, append(out, b)
		}
		return &out[i]
	}
	ran := map[string]bool{}
	for _, u := range uses {
		ran[u.Build] = true
	}
	for i := range rows {
		if b := &rows[i]; (ids == nil || ids[b.ID]) && (ran[b.ID] || b.FirstSeen >= since) {
			add(buildJSON{ID: b.ID, GoVersion: b.GoVersion, Module: b.Module, Version: released(b.Version), Size: b.Size, Stripped: b.Stripped, Known: b.Known, FirstSeen: b.FirstSeen, Services: []buildUserJSON{}})
		}
	}
	for _, u := range uses {
		if ids != nil && !ids[u.Build] {
			continue
		}
		add(buildJSON{ID: u.Build, GoVersion: u.GoVersion, FirstSeen: u.First, Services: []buildUserJSON{}}).use(u, runs)
	}
	slices.SortStableFunc(out, func(a, b buildJSON) int {
		return cmp.Or(cmp.Compare(min(b.running(), 1), min(a.running(), 1)), cmp.Compare(b.LastSeen, a.LastSeen), cmp.Compare(b.FirstSeen, a.FirstSeen), cmp.Compare(a.ID, b.ID))
	})
	return out, more, nil
}

// use adds what a service did with the build.
func (b *buildJSON) use(u catalog.BuildUse, runs map[user]*runners) {
	j := buildUserJSON{Service: u.Service, Version: u.Version, Processes: u.Processes, First: u.First, Last: u.Last}
	if r := runs[user{u.Service, u.Build, u.Version}]; r != nil {
		j.Running, j.Nodes = r.n, r.nodes
	}
	b.Services = append(b.Services, j)
	b.LastSeen = max(b.LastSeen, u.Last)
	if b.FirstSeen == 0 || u.First > 0 && u.First < b.FirstSeen {
		b.FirstSeen = u.First
	}
}

func (b *buildJSON) running() (n int) {
	for _, s := range b.Services {
		n += s.Running
	}
	return n
}

// user is a service that runs a build under a version.
type user struct{ service, build, version string }

// runners are the processes that run now.
type runners struct {
	n     int
	nodes []string // at most maxBuildNodes, sorted
}

// runsNow counts the processes of the fleet by what they run, each once whoever sees it.
func (h *Handler) runsNow(ctx context.Context) (map[user]*runners, error) {
	f, err := h.fleet(ctx, &params{v: url.Values{}, now: h.cfg.Now(), ctx: ctx, catalog: h.cfg.Catalog})
	if err != nil {
		return nil, err
	}
	runs := map[user]*runners{}
	for i := range f.members {
		m := &f.members[i]
		if m.State != "running" || m.BuildID == "" {
			continue
		}
		key := user{m.Service, m.BuildID, m.Version}
		r := runs[key]
		if r == nil {
			r = &runners{}
			runs[key] = r
		}
		r.n++
		if at, found := slices.BinarySearch(r.nodes, m.Node); !found && m.Node != "" && len(r.nodes) < maxBuildNodes {
			r.nodes = slices.Insert(r.nodes, at, m.Node)
		}
	}
	return runs, nil
}

// inventoryOf returns what is known of b: where its text cannot be read, what its row says.
func inventoryOf(b *catalog.Build) *build.Inventory {
	inv, err := build.OfText(b.Info)
	if b.Info == "" || err != nil {
		inv = &build.Inventory{Main: build.Module{Path: b.Module, Version: b.Version}, Deps: []build.Module{}, Settings: build.Settings{}}
	}
	inv.ID, inv.GoBuildID, inv.GNUBuildID, inv.Size, inv.Stripped = b.ID, b.GoBuildID, b.GNUBuildID, b.Size, b.Stripped
	inv.GoVersion = cmp.Or(b.GoVersion, inv.GoVersion)
	return inv
}

// released leaves out what Go calls a version and is none.
func released(version string) string {
	if version == "(devel)" {
		return ""
	}
	return version
}

// describeBuilds adds what only the texts of the builds say: of those that are shown, since texts are long.
func (h *Handler) describeBuilds(ctx context.Context, bs []buildJSON) error {
	for i := range bs {
		j := &bs[i]
		if !j.Known {
			continue
		}
		b, err := h.cfg.Catalog.Build(ctx, j.ID)
		if errors.Is(err, catalog.ErrNotFound) {
			continue // it has just expired
		}
		if err != nil {
			return err
		}
		inv := inventoryOf(&b)
		j.GoVersion, j.Module, j.Modules = inv.GoVersion, cmp.Or(inv.Main.Path, j.Module), len(inv.Deps)
		j.Revision, j.RevisionTime, j.Modified = inv.Settings["vcs.revision"], inv.Settings["vcs.time"], inv.Settings["vcs.modified"] == "true"
	}
	return nil
}

// ranBy is a process that ran a build, and what it was started with.
type ranBy struct {
	Instance   string            `json:"instance"`
	Service    string            `json:"service"`
	Version    string            `json:"version"`
	Node       string            `json:"node"`
	Pod        string            `json:"pod,omitempty"`
	PID        int               `json:"pid"`
	State      string            `json:"state"`
	Started    int64             `json:"started"`
	FirstSeen  int64             `json:"first_seen"`
	LastSeen   int64             `json:"last_seen"`
	Conditions map[string]string `json:"conditions,omitempty"`
}

// build answers all that is known of one build, and which processes ran it.
func (h *Handler) build(ctx context.Context, r *http.Request) (any, error) {
	p := h.params(r, "since")
	since := p.time("since", "now-30d")
	if p.err != nil {
		return nil, p.err
	}
	inv, err := h.inventory(ctx, r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	found, _, err := h.knownBuilds(ctx, since, map[string]bool{inv.ID: true})
	if err != nil {
		return nil, err
	}
	brief := buildJSON{ID: inv.ID, Services: []buildUserJSON{}}
	if len(found) > 0 {
		brief = found[0]
	}
	ps, err := h.cfg.Catalog.Processes(ctx, catalog.ProcessFilter{Build: inv.ID, Since: since, Limit: maxRanBy + 1, MaxBytes: maxLabelsBytes})
	if err != nil {
		return nil, err
	}
	more := len(ps) > maxRanBy
	procs := make([]ranBy, 0, min(len(ps), maxRanBy))
	for i := range ps[:min(len(ps), maxRanBy)] {
		q := &ps[i]
		node, pod, _ := catalog.PlaceOf(q)
		procs = append(procs, ranBy{q.Instance, q.Service, q.Version, node, pod, q.PID, q.State, q.Started, q.FirstSeen, q.LastSeen, q.Conditions})
	}
	return map[string]any{"build": inv, "known": brief.Known, "first_seen": brief.FirstSeen, "last_seen": brief.LastSeen, "services": brief.Services, "processes": procs, "more": more}, nil
}

// inventory returns the build with this id, or the only one whose id begins so.
func (h *Handler) inventory(ctx context.Context, id string) (*build.Inventory, error) {
	id = strings.ToLower(id)
	if len(id) < minBuildPrefix || len(id) > 128 {
		return nil, &reply.Error{Status: http.StatusBadRequest, Message: "a build is named by its id or at least four letters of its beginning", Hint: "`sonde builds` lists them (GET /api/v1/builds)"}
	}
	ids, err := h.cfg.Catalog.BuildIDs(ctx, id, 8)
	switch {
	case err != nil:
		return nil, err
	case len(ids) == 0:
		return nil, &reply.Error{Status: http.StatusNotFound, Message: "no build is known whose id begins with " + id, Hint: "`sonde builds` lists them (GET /api/v1/builds); `sonde builds add FILE` adds one"}
	case len(ids) > 1 && ids[0] != id:
		return nil, &reply.Error{Status: http.StatusUnprocessableEntity, Message: "several builds begin with " + id + ": " + strings.Join(ids, ", "), Hint: "more of its id"}
	}
	b, err := h.cfg.Catalog.Build(ctx, ids[0])
	if errors.Is(err, catalog.ErrNotFound) { // processes run it, and nobody has told more of it
		b.ID = ids[0]
		b.GoVersion, err = h.goVersionOf(ctx, b.ID)
	}
	if err != nil {
		return nil, err
	}
	return inventoryOf(&b), nil
}

// goVersionOf returns the version of Go that the processes of a build say, "" for none.
func (h *Handler) goVersionOf(ctx context.Context, id string) (string, error) {
	uses, err := h.cfg.Catalog.BuildUses(ctx, id, 0, maxUses)
	return versionOf(uses, id), err
}

// buildDiff answers what changed from build a to build b.
func (h *Handler) buildDiff(ctx context.Context, r *http.Request) (any, error) {
	p := h.params(r, "a", "b")
	if p.err != nil {
		return nil, p.err
	}
	var two [2]*build.Inventory
	for i, name := range []string{"a", "b"} {
		if p.str(name) == "" {
			return nil, reply.Errorf(http.StatusBadRequest, "parameter %s is missing: the id of a build", name)
		}
		var err error
		if two[i], err = h.inventory(ctx, p.str(name)); err != nil {
			return nil, err
		}
		if len(two[i].Settings) == 0 {
			return nil, &reply.Error{Status: http.StatusUnprocessableEntity, Message: "of build " + two[i].ID + " only the id is known", Hint: "`sonde builds add FILE` tells the collector of the binary"}
		}
	}
	d := build.Diff(two[0], two[1])
	side := func(i *build.Inventory) map[string]any {
		return map[string]any{"id": i.ID, "go_version": i.GoVersion, "module": cmp.Or(i.Main.Path, i.Path), "version": i.Main.Version, "size": i.Size, "stripped": i.Stripped}
	}
	return map[string]any{"a": side(two[0]), "b": side(two[1]), "modules": d.Modules, "settings": d.Settings}, nil
}
