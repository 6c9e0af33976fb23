package main

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sonde-io/sonde/profiles"
	"github.com/sonde-io/sonde/symbols/build"
)

// ranBuild is a build in a list as the collector answers it. Times are Unix ms.
type ranBuild struct {
	ID        string       `json:"id"`
	GoVersion string       `json:"go_version"`
	Module    string       `json:"module"`
	Version   string       `json:"version"`
	Revision  string       `json:"vcs_revision,omitempty"`
	Time      string       `json:"vcs_time,omitempty"`
	Modified  bool         `json:"vcs_modified,omitempty"`
	Modules   int          `json:"modules"`
	Size      int64        `json:"size,omitempty"`
	Stripped  string       `json:"stripped,omitempty"`
	Known     bool         `json:"known"`
	FirstSeen int64        `json:"first_seen"`
	LastSeen  int64        `json:"last_seen"`
	Services  []buildUse   `json:"services"`
	Found     *foundModule `json:"found,omitempty"` // of `sonde builds with`
}

// buildUse is what a service did with a build.
type buildUse struct {
	Service   string   `json:"service"`
	Version   string   `json:"version"`
	Running   int      `json:"running"`
	Processes int      `json:"processes"`
	Nodes     []string `json:"nodes,omitempty"`
	First     int64    `json:"first"`
	Last      int64    `json:"last"`
}

// foundModule is the module that was asked for.
type foundModule struct {
	Path     string `json:"path"`
	Version  string `json:"version"`
	Main     bool   `json:"main,omitempty"`
	Declared string `json:"declared,omitempty"`
	Unknown  bool   `json:"unknown,omitempty"`
}

type buildList struct {
	Builds  []ranBuild      `json:"builds"`
	More    bool            `json:"more"`
	Similar []similarModule `json:"similar,omitempty"` // modules that may have been meant by one that no build has
}

type similarModule struct {
	Path   string `json:"path"`
	Builds int    `json:"builds"`
}

func (a *app) buildsCommand() *cobra.Command {
	var service, module, version, since string
	cmd := &cobra.Command{
		Use:   "builds",
		Short: "List the builds of the fleet: which versions run where",
		Long: `List the builds of the fleet: which versions of which service run where, those that run first, then the one seen last.

A build is one binary, known by its GNU build ID, else by a hash of its Go build ID. What it is made of comes from the agents in
its processes, from the executables that nodes see, and from sonde builds add.`,
		Example: `  sonde builds
  sonde builds --service cart
  sonde builds --module golang.org/x/text
  sonde builds show 3f2a1b9c
  sonde builds diff 3f2a1b9c 77d0e1aa
  sonde builds with golang.org/x/text '<v0.3.8'`,
		Args: knownCommand,
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVarP(&service, "service", "s", "", "only builds of this service")
	fs.StringVar(&module, "module", "", "only builds with this module in them, as the main module or as a dependency")
	fs.StringVar(&version, "version", "", "only this version, of the service or of the main module")
	sinceFlag(cmd, &since)
	out := outputFlag(cmd, "table", "json")
	a.clientFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		params, err := sinceParam(cmd, since)
		if err != nil {
			return err
		}
		for name, value := range map[string]string{"service": service, "module": module, "version": version} {
			if value != "" {
				params.Set(name, value)
			}
		}
		var l buildList
		if err := a.ask(cmd.Context(), "/api/v1/builds", params, &l); err != nil {
			return err
		}
		if out.value == "json" {
			return writeJSON(a.stdout, l)
		}
		return a.writeBuilds(&l)
	}
	cmd.AddCommand(a.buildsShowCommand(), a.buildsDiffCommand(), a.buildsWithCommand(), a.buildsAddCommand())
	return cmd
}

// sinceFlag adds --since to a command that asks for what ran.
func sinceFlag(cmd *cobra.Command, since *string) {
	cmd.Flags().StringVar(since, "since", "", "only what ran, or became known, since then: 1h, 7d (default 30d)")
}

func sinceParam(cmd *cobra.Command, since string) (url.Values, error) {
	v := url.Values{}
	if since == "" {
		return v, nil
	}
	d, err := profiles.ParseDuration(since)
	if err != nil {
		return nil, usage(cmd, "read --since: %w", err)
	}
	v.Set("since", fmt.Sprintf("now-%dms", d.Milliseconds()))
	return v, nil
}

func (a *app) writeBuilds(l *buildList) error {
	if len(l.Builds) == 0 {
		_, err := fmt.Fprintln(a.stderr, "this collector knows no such build; sonde ps lists what runs, sonde builds add FILE tells it of a binary")
		return err
	}
	tab := a.newTable("SERVICE", "VERSION", ">RUNNING", "BUILD", "GO", "REVISION", ">MODULES", "SEEN", "MODULE")
	for i := range l.Builds {
		b := &l.Builds[i]
		uses := b.Services
		if len(uses) == 0 {
			uses = []buildUse{{First: b.FirstSeen, Last: b.LastSeen}}
		}
		for _, u := range uses {
			modules := ""
			if b.Known {
				modules = fmt.Sprint(b.Modules)
			}
			tab.add(dash(u.Service), dash(firstOf(u.Version, b.Version)), dash(number(u.Running)), shortBuild(clean(b.ID)), dash(b.GoVersion), dash(b.revision()), dash(modules), a.seen(u), dash(b.Module))
		}
	}
	if err := tab.write(a.stdout); err != nil {
		return err
	}
	return a.noteMore(l)
}

// noteMore says on standard error that a list is not whole.
func (a *app) noteMore(l *buildList) error {
	if !l.More {
		return nil
	}
	_, err := fmt.Fprintln(a.stderr, "there are more than are listed: --service or a shorter --since shows the rest")
	return err
}

// seen says when a service ran a build: now, or from when to when.
func (a *app) seen(u buildUse) string {
	switch {
	case u.Running > 0 && u.First > 0:
		return "since " + day(u.First)
	case u.Last == 0 && u.First > 0:
		return "told " + day(u.First)
	case u.First == 0:
		return "-"
	}
	return day(u.First) + " to " + day(u.Last)
}

// day prints a time to the minute.
func day(ms int64) string { return stamp(ms)[:len("2006-01-02 15:04")] }

func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

// revision is the start of the commit, with a + where the tree had changes.
func (b *ranBuild) revision() string {
	r := b.Revision[:min(len(b.Revision), 12)]
	if b.Modified {
		r += "+"
	}
	return r
}

func (a *app) buildsWithCommand() *cobra.Command {
	var since string
	cmd := &cobra.Command{
		Use:   "with MODULE [VERSIONS]",
		Short: "Say who runs a module, in a range of versions",
		Long: `Say who runs a module, in a range of versions: the question of a bad morning.

VERSIONS are one or more of <V, <=V, >V, >=V, =V and !=V with commas between, all of which must hold; none: every version. The standard
library is the module std, whose version is Go's. A module that go.mod replaces is found by both paths; where what was compiled has no
version to compare, because it is a folder or another module, the row says so rather than leave it out. Programs that were built
without modules, as distributions do, do not say what is in them. MODULE is the whole path; of one that is in no build, where others
have it in their paths, these are named, and the exit code is 1.`,
		Example: `  sonde builds with golang.org/x/text '<v0.3.8'
  sonde builds with golang.org/x/net '>=v0.20.0,<v0.23.0' -o json
  sonde builds with std '<go1.25.4'`,
		Args: cobra.RangeArgs(1, 2),
	}
	sinceFlag(cmd, &since)
	out := outputFlag(cmd, "table", "json")
	a.clientFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		a.started = true
		params, err := sinceParam(cmd, since)
		if err != nil {
			return err
		}
		params.Set("module", args[0])
		if len(args) == 2 {
			if _, err := build.ParseConstraint(args[1]); err != nil {
				return withHint(usage(cmd, "%w", err), "'<v1.2.3', or '>=v1.0.0,<v1.2.3'")
			}
			params.Set("version", args[1])
		}
		var l buildList
		if err := a.ask(cmd.Context(), "/api/v1/builds/with", params, &l); err != nil {
			return err
		}
		if out.value == "json" {
			return errors.Join(writeJSON(a.stdout, l), l.meant(args[0]))
		}
		if err := l.meant(args[0]); err != nil {
			return err
		}
		return a.writeWith(args, &l)
	}
	return cmd
}

// meant is an error where the module that was asked for is in no build at all and others have a path like it: that nobody runs it is no all-clear then.
func (l *buildList) meant(module string) error {
	if len(l.Builds) > 0 || len(l.Similar) == 0 {
		return nil
	}
	var like []string
	for _, s := range l.Similar {
		like = append(like, fmt.Sprintf("%s, in %s", clean(s.Path), plural(int64(s.Builds), "build")))
	}
	return withHint(fmt.Errorf("no build that is known has a module with the path %s", clean(module)), "did you mean %s?", strings.Join(like, "; or "))
}

func (a *app) writeWith(args []string, l *buildList) error {
	if len(l.Builds) == 0 {
		_, err := fmt.Fprintf(a.stdout, "no build that is known has %s in it\n", clean(strings.Join(args, " ")))
		return err
	}
	tab := a.newTable("SERVICE", "VERSION", ">RUNNING", "FOUND", "BUILD", "SEEN", "NODES")
	running := 0
	for i := range l.Builds {
		b := &l.Builds[i]
		uses := b.Services
		if len(uses) == 0 {
			uses = []buildUse{{First: b.FirstSeen}}
		}
		for _, u := range uses {
			running += u.Running
			tab.add(dash(u.Service), dash(firstOf(u.Version, b.Version)), dash(number(u.Running)), clean(b.Found.String()), shortBuild(clean(b.ID)), a.seen(u), dash(strings.Join(u.Nodes, " ")))
		}
	}
	if err := tab.write(a.stdout); err != nil {
		return err
	}
	if err := a.noteMore(l); err != nil {
		return err
	}
	_, err := fmt.Fprintf(a.stderr, "%s, run by %d now\n", plural(int64(len(l.Builds)), "build"), running)
	return err
}

// String says which version was found, and why nobody knows whether it is in the range.
func (f *foundModule) String() string {
	if f == nil {
		return "-"
	}
	text := firstOf(f.Version, "no version")
	if f.Declared != "" {
		text += " (" + f.Path + ", in place of " + f.Declared + ")"
	}
	if f.Unknown {
		text += " ?"
	}
	return text
}
