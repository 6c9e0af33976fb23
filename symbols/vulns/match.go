package vulns

import (
	"cmp"
	"fmt"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"

	"golang.org/x/mod/semver"
)

const (
	stdlib      = "stdlib"    // the database's name for the standard library
	toolchain   = "toolchain" // and for the go command
	rangeSemver = "SEMVER"
)

// Module is a module of a build, as it is in the program: a replaced one is what replaced it.
type Module struct {
	Path, Version string // the version with its "v"
	Replaces      string // path of the module that it was put in the place of, "" for none
}

// Build is what vulnerabilities are looked up by.
type Build struct {
	Main         string // import path of the main package
	GOOS, GOARCH string // "": not known
	Modules      []Module
	Unknown      []string // modules of which no version is known
}

// Finding is a vulnerability that a build has, by the version of a module.
type Finding struct {
	Entry    *Entry
	Module   Module
	Fixed    string    // the smallest version that has it no more, "" for none
	Packages []Package // what is affected on the build's platform; none: the whole module
}

// ReadBuild returns what is in a build, by its Go version and its module information, which may be nil.
func ReadBuild(goVersion string, info *debug.BuildInfo) Build {
	b := Build{}
	if v := GoSemver(goVersion); v != "" {
		b.Modules = append(b.Modules, Module{Path: stdlib, Version: v})
	} else {
		b.Unknown = append(b.Unknown, stdlib)
	}
	if info == nil {
		return b
	}
	b.Main = info.Path
	for _, s := range info.Settings {
		switch s.Key {
		case "GOOS":
			b.GOOS = s.Value
		case "GOARCH":
			b.GOARCH = s.Value
		}
	}
	if strings.HasPrefix(info.Path, "cmd/") && len(b.Modules) > 0 {
		b.Modules = append(b.Modules, Module{Path: toolchain, Version: b.Modules[0].Version})
	}
	if info.Main.Path != "" {
		b.add(&info.Main)
	}
	for _, d := range info.Deps {
		b.add(d)
	}
	return b
}

func (b *Build) add(m *debug.Module) {
	mod := Module{Path: m.Path, Version: m.Version}
	if m.Replace != nil {
		mod = Module{Path: m.Replace.Path, Version: m.Replace.Version, Replaces: m.Path}
	}
	if !semver.IsValid(mod.Version) {
		b.Unknown = append(b.Unknown, m.Path)
		return
	}
	b.Modules = append(b.Modules, mod)
}

// Find returns what the database has on the modules of a build, by module and id.
func (d *Database) Find(b *Build) ([]Finding, error) {
	var out []Finding
	for _, m := range b.Modules {
		entries, err := d.Module(m.Path)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if f, ok := e.find(b, m); ok {
				out = append(out, f)
			}
		}
	}
	slices.SortFunc(out, func(x, y Finding) int {
		return cmp.Or(strings.Compare(x.Module.Path, y.Module.Path), strings.Compare(x.Entry.ID, y.Entry.ID))
	})
	return out, nil
}

// find says whether the entry affects module m of b.
func (e *Entry) find(b *Build, m Module) (Finding, bool) {
	f := Finding{Entry: e, Module: m}
	found, whole := false, false
	for i := range e.Affected {
		a := &e.Affected[i]
		if a.Module.Path != m.Path || !a.affects(m.Version) {
			continue
		}
		packages := slices.DeleteFunc(slices.Clone(a.Specific.Packages), func(p Package) bool {
			return !allows(p.GOOS, b.GOOS) || !allows(p.GOARCH, b.GOARCH)
		})
		if len(packages) == 0 && len(a.Specific.Packages) > 0 {
			continue // other platforms
		}
		found = true
		whole = whole || len(packages) == 0
		f.Packages = append(f.Packages, packages...)
		if v := a.fixed(m.Version); f.Fixed == "" || v != "" && semver.Compare(v, f.Fixed) < 0 {
			f.Fixed = v
		}
	}
	if whole {
		f.Packages = nil
	}
	return f, found
}

// allows reports whether a list of platforms, none for all, has one that may be the build's.
func allows(list []string, platform string) bool {
	return len(list) == 0 || platform == "" || slices.Contains(list, platform)
}

// affects reports whether the module has the vulnerability at version v. No ranges that are understood mean every version.
func (a *Affected) affects(v string) bool {
	known := false
	for _, r := range a.Ranges {
		if r.Type != rangeSemver {
			continue
		}
		known = true
		if r.contains(v) {
			return true
		}
	}
	return !known
}

// contains reports whether v is behind an introduction and before the fix that follows it.
func (r *Range) contains(v string) bool {
	if len(r.Events) == 0 {
		return true
	}
	affected := false
	for _, e := range r.sorted() {
		switch {
		case !affected && e.Introduced != "":
			affected = e.Introduced == "0" || semver.Compare(v, "v"+e.Introduced) >= 0
		case affected && e.Fixed != "":
			affected = semver.Compare(v, "v"+e.Fixed) < 0
		}
	}
	return affected
}

func (r *Range) sorted() []Event {
	at := func(e Event) string {
		if e.Introduced == "0" {
			return "" // no version: before all others
		}
		return "v" + cmp.Or(e.Introduced, e.Fixed)
	}
	return slices.SortedStableFunc(slices.Values(r.Events), func(x, y Event) int { return semver.Compare(at(x), at(y)) })
}

// fixed returns the smallest version after v that has the vulnerability no more, "" for none.
func (a *Affected) fixed(v string) string {
	best := ""
	for _, r := range a.Ranges {
		for _, e := range r.Events {
			if f := "v" + e.Fixed; e.Fixed != "" && semver.Compare(f, v) > 0 && (best == "" || semver.Compare(f, best) < 0) {
				best = f
			}
		}
	}
	return best
}

var goTag = regexp.MustCompile(`^go(\d+\.\d+)(\.\d+)?(?:(beta|rc)(\d+))?$`)

// GoSemver returns a Go version as the database writes it: go1.26.8 is v1.26.8, go1.26rc1 is v1.26.0-rc.1. It is "" for a development version, of
// which nobody knows what is in it. What was set with -X or GOEXPERIMENT does not count.
func GoSemver(version string) string {
	tag, _, _ := strings.Cut(strings.TrimSpace(version), " ")
	tag, _, _ = strings.Cut(tag, "-") // go1.26.8-custom
	m := goTag.FindStringSubmatch(tag)
	if m == nil {
		return ""
	}
	v := "v" + m[1] + cmp.Or(m[2], ".0")
	if m[3] != "" {
		v += fmt.Sprintf("-%s.%s", m[3], m[4])
	}
	return v
}
