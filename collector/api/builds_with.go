package api

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/sonde-io/sonde/collector/reply"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/symbols/build"
)

// foundJSON is the module that a build was asked for.
type foundJSON struct {
	Path    string `json:"path"`
	Version string `json:"version"` // of what was compiled; "" for a folder, and for a main module without one
	Main    bool   `json:"main,omitempty"`
	// Declared is what go.mod asks for where that was replaced: "PATH VERSION".
	Declared string `json:"declared,omitempty"`
	// Unknown says that nobody knows whether the version is in the range: there is none, or it is that of a replacement.
	Unknown bool `json:"unknown,omitempty"`
}

// withJSON is a build with the module that was asked for.
type withJSON struct {
	buildJSON
	Found foundJSON `json:"found"`
}

// buildsWith answers who runs a module in a range of versions.
func (h *Handler) buildsWith(ctx context.Context, r *http.Request) (any, error) {
	p := h.params(r, "module", "version", "since")
	since, module := p.time("since", "now-30d"), p.str("module")
	if module == "" {
		p.fail("parameter module is missing: the path of a module, or %s for the standard library", build.Std)
	}
	c, err := build.ParseConstraint(p.str("version"))
	if err != nil {
		return nil, &reply.Error{Status: http.StatusBadRequest, Message: "parameter version: " + err.Error(), Hint: "<v1.2.3, or >=v1.0.0,<v1.2.3"}
	}
	if p.err != nil {
		return nil, p.err
	}
	found, err := h.modulesFound(ctx, module, c)
	if err != nil {
		return nil, err
	}
	ids := make(map[string]bool, len(found))
	for id := range found {
		ids[id] = true
	}
	known, more, err := h.knownBuilds(ctx, since, ids)
	if err != nil {
		return nil, err
	}
	if len(known) > maxBuilds {
		known, more = known[:maxBuilds], true
	}
	if err := h.describeBuilds(ctx, known); err != nil {
		return nil, err
	}
	out := make([]withJSON, 0, len(known))
	for _, b := range known {
		out = append(out, withJSON{b, found[b.ID]})
	}
	answer := map[string]any{"module": module, "version": c.String(), "builds": out, "more": more}
	if len(out) == 0 && module != build.Std {
		similar, err := h.similarModules(ctx, module)
		if err != nil {
			return nil, err
		}
		answer["similar"] = similar
	}
	return answer, nil
}

// similarJSON is a module whose path has in it what was asked for.
type similarJSON struct {
	Path   string `json:"path"`
	Builds int    `json:"builds"`
}

// maxSimilar bounds the modules that are named in place of one that nobody knows.
const maxSimilar = 5

// similarModules returns the modules that may have been meant by one that is in no build; none where it is in some. That no build has a module which there is not is no answer to be content with.
func (h *Handler) similarModules(ctx context.Context, module string) ([]similarJSON, error) {
	if ms, err := h.cfg.Catalog.BuildsWith(ctx, module); err != nil || len(ms) > 0 {
		return nil, err
	}
	all, err := h.cfg.Catalog.BuildsWith(ctx, "")
	if err != nil {
		return nil, err
	}
	builds := map[string]int{}
	for _, m := range all {
		if strings.Contains(strings.ToLower(m.Path), strings.ToLower(module)) {
			builds[m.Path]++
		}
	}
	out := make([]similarJSON, 0, len(builds))
	for path, n := range builds {
		out = append(out, similarJSON{path, n})
	}
	inside := func(s similarJSON) int { // what ends so first
		if strings.HasSuffix(s.Path, "/"+module) {
			return 0
		}
		return 1
	}
	slices.SortFunc(out, func(a, b similarJSON) int {
		return cmp.Or(cmp.Compare(inside(a), inside(b)), cmp.Compare(b.Builds, a.Builds), cmp.Compare(a.Path, b.Path))
	})
	return out[:min(len(out), maxSimilar)], nil
}

// modulesFound returns the builds whose module is in the range, or may be.
func (h *Handler) modulesFound(ctx context.Context, module string, c build.Constraint) (map[string]foundJSON, error) {
	out := map[string]foundJSON{}
	if module == build.Std {
		return out, h.goFound(ctx, c, out)
	}
	ms, err := h.cfg.Catalog.BuildsWith(ctx, module)
	if err != nil {
		return nil, err
	}
	for _, m := range ms {
		f := foundJSON{Path: m.Path, Version: m.Version, Main: m.Main}
		if m.Declared != "" {
			f.Declared = m.Declared + " " + m.DeclaredVersion
		}
		holds, sure := c.Holds(m.Version)
		if m.Path != module { // another module was compiled in its place, whose versions are its own
			holds, sure = false, false
		}
		if f.Unknown = !sure; holds || !sure {
			out[m.Build] = f
		}
	}
	return out, nil
}

// goFound adds the builds whose version of Go is in the range.
func (h *Handler) goFound(ctx context.Context, c build.Constraint, out map[string]foundJSON) error {
	bs, err := h.cfg.Catalog.BuildHeads(ctx)
	if err != nil {
		return err
	}
	uses, err := h.cfg.Catalog.BuildUses(ctx, "", 0, maxUses)
	if err != nil {
		return err
	}
	add := func(id, version string) {
		holds, sure := c.Holds(build.GoSemver(version))
		if holds || !sure {
			out[id] = foundJSON{Path: build.Std, Version: version, Unknown: !sure}
		}
	}
	known := map[string]bool{}
	for i := range bs {
		v := cmp.Or(bs[i].GoVersion, versionOf(uses, bs[i].ID))
		known[bs[i].ID] = true
		add(bs[i].ID, v)
	}
	for _, u := range uses {
		if !known[u.Build] {
			known[u.Build] = true
			add(u.Build, u.GoVersion)
		}
	}
	return nil
}

// versionOf returns the version of Go that processes of the build say.
func versionOf(uses []catalog.BuildUse, id string) string {
	for _, u := range uses {
		if u.Build == id && u.GoVersion != "" {
			return u.GoVersion
		}
	}
	return ""
}
