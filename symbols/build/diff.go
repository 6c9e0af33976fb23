package build

import (
	"maps"
	"slices"
	"strings"

	"golang.org/x/mod/semver"
)

// The kinds of a ModuleChange.
const (
	Added   = "added"
	Removed = "removed"
	Up      = "up"
	Down    = "down"
	Changed = "changed" // of another order: a replacement, a folder, or the same version with another sum
)

// ModuleChange is a module that two builds do not share. From and To are versions; where a module is replaced "PATH VERSION", or the folder.
type ModuleChange struct {
	Path   string `json:"path"`
	Change string `json:"change"`
	From   string `json:"from"`
	To     string `json:"to"`
}

// SettingChange is a build setting that two builds do not share; "" where it is not there.
type SettingChange struct {
	Name string `json:"name"`
	From string `json:"from"`
	To   string `json:"to"`
}

// Difference is what changed from one build to another. Its fields are never nil.
type Difference struct {
	Modules  []ModuleChange  `json:"modules"`  // by path
	Settings []SettingChange `json:"settings"` // by name; the version of Go comes first, as "go", then the main package's path
}

// Diff compares two builds. The main module counts as a module.
func Diff(a, b *Inventory) Difference {
	d := Difference{Modules: []ModuleChange{}, Settings: []SettingChange{}}
	was, is := modules(a), modules(b)
	paths := maps.Clone(was)
	maps.Copy(paths, is)
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		from, before := was[path]
		to, now := is[path]
		c := ModuleChange{Path: path, From: from.describe(), To: to.describe()}
		switch {
		case !before:
			c.Change = Added
		case !now:
			c.Change = Removed
		default:
			if c.Change = compare(from, to); c.Change == "" {
				continue
			}
		}
		d.Modules = append(d.Modules, c)
	}
	set := func(name, from, to string) {
		if from != to {
			d.Settings = append(d.Settings, SettingChange{name, from, to})
		}
	}
	set("go", a.GoVersion, b.GoVersion)
	set("path", a.Path, b.Path)
	names := maps.Clone(a.Settings)
	if names == nil {
		names = Settings{}
	}
	maps.Copy(names, b.Settings)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		set(name, a.Settings[name], b.Settings[name])
	}
	return d
}

func modules(i *Inventory) map[string]Module {
	out := make(map[string]Module, len(i.Deps)+1)
	for _, m := range i.Deps {
		out[m.Path] = m
	}
	if i.Main.Path != "" {
		out[i.Main.Path] = i.Main
	}
	return out
}

// compare says how a module changed, "" where it did not.
func compare(from, to Module) string {
	wasPath, was := from.Compiled()
	isPath, is := to.Compiled()
	switch n := semver.Compare(was, is); {
	case wasPath == isPath && semver.IsValid(was) && semver.IsValid(is) && n < 0:
		return Up
	case wasPath == isPath && semver.IsValid(was) && semver.IsValid(is) && n > 0:
		return Down
	case from.describe() != to.describe() || from.sum() != "" && to.sum() != "" && from.sum() != to.sum():
		return Changed
	}
	return ""
}

func (m *Module) sum() string {
	if m.Replace != nil {
		return m.Replace.Sum
	}
	return m.Sum
}

// describe is what was compiled, in a word.
func (m *Module) describe() string {
	if m.Replace != nil {
		return strings.TrimSpace(m.Replace.Path + " " + m.Replace.Version)
	}
	if m.Path != "" && m.Version == "" {
		return "(devel)"
	}
	return m.Version
}
