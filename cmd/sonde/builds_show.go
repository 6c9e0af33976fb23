package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sonde-io/sonde/symbols/build"
)

// shownBuild is all that is known of a build.
type shownBuild struct {
	Build     build.Inventory `json:"build"`
	Known     bool            `json:"known"`
	FirstSeen int64           `json:"first_seen,omitempty"`
	LastSeen  int64           `json:"last_seen,omitempty"`
	Services  []buildUse      `json:"services,omitempty"`
	Processes []buildProcess  `json:"processes,omitempty"`
	More      bool            `json:"more,omitempty"`
}

// buildProcess is a process that ran a build.
type buildProcess struct {
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

func (a *app) buildsShowCommand() *cobra.Command {
	var deps, processes bool
	cmd := &cobra.Command{
		Use:   "show BUILD|FILE",
		Short: "Show what a build is made of, and who ran it",
		Long: `Show what a build is made of (the version of Go, modules, settings) and which processes ran it when, and what they were started with.

BUILD is its id or the beginning of it. A FILE, which is an executable or what go version -m printed of one, is read here, and no collector is asked.`,
		Example: `  sonde builds show 3f2a1b9c
  sonde builds show 3f2a1b9c --deps --processes
  sonde builds show ./cart`,
		Args: cobra.ExactArgs(1),
	}
	cmd.Flags().BoolVar(&deps, "deps", false, "list every dependency, with its sum")
	cmd.Flags().BoolVar(&processes, "processes", false, "list every process that ran it, with what it was started with")
	out := outputFlag(cmd, "table", "json")
	a.clientFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		a.started = true
		s, err := a.showBuild(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		if out.value == "json" {
			return writeJSON(a.stdout, s)
		}
		return a.writeBuild(s, deps, processes)
	}
	return cmd
}

// showBuild reads a file where name is one, else asks the collector.
func (a *app) showBuild(ctx context.Context, name string) (*shownBuild, error) {
	if st, err := os.Stat(name); err == nil && !st.IsDir() {
		bs, err := readBuilds(name)
		if err != nil {
			return nil, err
		}
		if len(bs) > 1 {
			return nil, fmt.Errorf("read %s: it lists %d programs", name, len(bs))
		}
		return &shownBuild{Build: *bs[0].inventory, Known: true}, nil
	}
	var s shownBuild
	if err := a.ask(ctx, "/api/v1/builds/"+url.PathEscape(name), nil, &s); err != nil {
		if strings.ContainsAny(name, "/.") {
			err = withHint(err, "there is no file %s either", name)
		}
		return nil, err
	}
	return &s, nil
}

// told are the settings that a reader asks for first, in this order, and their words.
var told = []struct{ name, word string }{{"vcs.revision", "revision"}, {"vcs.time", "committed"}, {"vcs.modified", "modified"}}

func (a *app) writeBuild(s *shownBuild, deps, processes bool) error {
	b := &s.Build
	var w strings.Builder
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&w, "%-12s %s\n", name, clean(value))
		}
	}
	line("build", b.ID)
	line("go", b.GoVersion)
	line("module", strings.TrimSpace(b.Main.Path+" "+b.Main.Version))
	if b.Path != b.Main.Path {
		line("package", b.Path)
	}
	for _, t := range told {
		line(t.word, b.Settings[t.name])
	}
	if b.Size > 0 {
		line("size", formatValue(b.Size, "bytes"))
	}
	line("stripped", b.Stripped)
	line("go build id", b.GoBuildID)
	if b.GNUBuildID != b.ID {
		line("gnu build id", b.GNUBuildID)
	}
	if s.FirstSeen > 0 {
		line("first seen", stamp(s.FirstSeen))
	}
	if s.LastSeen > 0 {
		line("last seen", stamp(s.LastSeen))
	}
	for _, name := range slices.Sorted(maps.Keys(b.Settings)) {
		if !strings.HasPrefix(name, "vcs") {
			line("setting", name+"="+b.Settings[name])
		}
	}
	if !s.Known {
		w.WriteString("only its id is known; sonde builds add FILE tells the collector of the binary\n")
	}
	if _, err := fmt.Fprint(a.stdout, w.String()); err != nil {
		return err
	}
	if err := a.writeDeps(b, deps); err != nil {
		return err
	}
	return a.writeRanBy(s, processes)
}

func (a *app) writeDeps(b *build.Inventory, all bool) error {
	if !all {
		replaced := 0
		for i := range b.Deps {
			if b.Deps[i].Replace != nil {
				replaced++
			}
		}
		_, err := fmt.Fprintf(a.stdout, "%-12s %s, %d replaced (--deps lists them)\n", "depends on", plural(int64(len(b.Deps)), "module"), replaced)
		return err
	}
	if len(b.Deps) == 0 {
		return nil
	}
	tab := a.newTable("MODULE", "VERSION", "REPLACED BY", "SUM")
	for i := range b.Deps {
		m := &b.Deps[i]
		by, sum := "", m.Sum
		if r := m.Replace; r != nil {
			by, sum = strings.TrimSpace(r.Path+" "+r.Version), r.Sum
		}
		tab.add(clean(m.Path), dash(m.Version), dash(by), dash(sum))
	}
	fmt.Fprintln(a.stdout)
	return tab.write(a.stdout)
}

func (a *app) writeRanBy(s *shownBuild, all bool) error {
	if len(s.Services) == 0 {
		return nil
	}
	fmt.Fprintln(a.stdout)
	if !all {
		tab := a.newTable("SERVICE", "VERSION", ">RUNNING", ">PROCESSES", "SEEN", "NODES")
		for _, u := range s.Services {
			tab.add(dash(u.Service), dash(u.Version), dash(number(u.Running)), dash(number(u.Processes)), a.seen(u), dash(strings.Join(u.Nodes, " ")))
		}
		return tab.write(a.stdout)
	}
	tab := a.newTable("SERVICE", "NODE", "POD", ">PID", "STATE", "STARTED", "SEEN", "STARTED WITH")
	for _, p := range s.Processes {
		started := ""
		if p.Started > 0 {
			started = stamp(p.Started)
		}
		var with []string
		for _, name := range slices.Sorted(maps.Keys(p.Conditions)) {
			with = append(with, name+"="+p.Conditions[name])
		}
		tab.add(dash(p.Service), dash(p.Node), dash(p.Pod), number(p.PID), dash(p.State), dash(started), stamp(p.LastSeen), dash(strings.Join(with, " ")))
	}
	if err := tab.write(a.stdout); err != nil {
		return err
	}
	if s.More {
		fmt.Fprintf(a.stderr, "the %d seen last are listed\n", len(s.Processes))
	}
	return nil
}

func (a *app) buildsDiffCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "diff A B",
		Short: "Say what changed from build A to build B",
		Long: `Say what changed from build A to build B: modules added, removed, up, down or replaced, the version of Go, and the build's settings.

Each is the id of a build, or the beginning of it, or a file as sonde builds show takes one.`,
		Example: `  sonde builds diff 3f2a1b9c 77d0e1aa
  sonde builds diff 3f2a1b9c ./cart`,
		Args: cobra.ExactArgs(2),
	}
	out := outputFlag(cmd, "table", "json")
	a.clientFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		a.started = true
		var two [2]*build.Inventory
		for i, name := range args {
			s, err := a.showBuild(cmd.Context(), name)
			if err != nil {
				return err
			}
			if !s.Known {
				return withHint(fmt.Errorf("compare builds: of build %s only the id is known", s.Build.ID), "`sonde builds add FILE` tells the collector of the binary")
			}
			two[i] = &s.Build
		}
		d := build.Diff(two[0], two[1])
		if out.value == "json" {
			return writeJSON(a.stdout, map[string]any{"a": two[0].ID, "b": two[1].ID, "modules": d.Modules, "settings": d.Settings})
		}
		return a.writeBuildDiff(d)
	}
	return cmd
}

func (a *app) writeBuildDiff(d build.Difference) error {
	if len(d.Modules)+len(d.Settings) == 0 {
		_, err := fmt.Fprintln(a.stdout, "they are built of the same modules with the same settings")
		return err
	}
	if len(d.Modules) > 0 {
		tab := a.newTable("CHANGE", "MODULE", "FROM", "TO")
		for _, m := range d.Modules {
			tab.add(m.Change, clean(m.Path), dash(m.From), dash(m.To))
		}
		if err := tab.write(a.stdout); err != nil {
			return err
		}
	}
	if len(d.Settings) == 0 {
		return nil
	}
	if len(d.Modules) > 0 {
		fmt.Fprintln(a.stdout)
	}
	tab := a.newTable("SETTING", "FROM", "TO")
	for _, s := range d.Settings {
		tab.add(clean(s.Name), dash(s.From), dash(s.To))
	}
	return tab.write(a.stdout)
}

// fileBuild is a build that was read from a file.
type fileBuild struct {
	name      string
	inventory *build.Inventory
	info      string
}

// readBuilds reads an executable, or what go version -m printed of one or more.
func readBuilds(file string) ([]fileBuild, error) {
	info, err := build.ReadFile(file)
	if err == nil {
		return []fileBuild{{file, info.Inventory(), info.Mod.String()}}, nil
	}
	if !errors.Is(err, build.ErrNotGo) {
		return nil, noSuchFile(err, "a FILE is a Go executable on this machine, the core of a Go program, or what `go version -m` printed of one")
	}
	st, serr := os.Stat(file)
	if serr != nil || st.Size() > 8*build.MaxText {
		return nil, err
	}
	text, rerr := os.ReadFile(file)
	if rerr != nil {
		return nil, rerr
	}
	listed, lerr := build.SplitVersionM(text)
	if lerr != nil {
		return nil, withHint(err, "want a Go program, or what `go version -m FILE` prints of one")
	}
	var out []fileBuild
	for _, l := range listed {
		inv, err := build.OfText(l.Text)
		if err != nil {
			return nil, fmt.Errorf("read %s in %s: %w", l.File, file, err)
		}
		out = append(out, fileBuild{l.File, inv, l.Text})
	}
	return out, nil
}

// body is what the collector is told of the build.
func (f *fileBuild) body(id string) ([]byte, error) {
	b := f.inventory
	v := map[string]any{"go_build_id": b.GoBuildID, "gnu_build_id": b.GNUBuildID, "size": b.Size, "stripped": b.Stripped, "info": f.info}
	if id != "" {
		v["id"] = id
	}
	return json.Marshal(v)
}
