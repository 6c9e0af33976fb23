package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// versionInfo is what the binary knows of its own making.
type versionInfo struct {
	Version  string `json:"version"` // of the module; "devel" where it was built from a working tree without a tag
	Revision string `json:"revision,omitempty"`
	Time     string `json:"time,omitempty"` // of the revision
	Modified bool   `json:"modified,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func currentVersion() versionInfo {
	info, ok := debug.ReadBuildInfo()
	return readVersion(info, ok)
}

func readVersion(info *debug.BuildInfo, ok bool) versionInfo {
	v := versionInfo{Version: "devel", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if !ok {
		return v
	}
	if m := info.Main.Version; m != "" && m != "(devel)" {
		v.Version = m
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Revision = s.Value
		case "vcs.time":
			v.Time = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	return v
}

func (v versionInfo) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "sonde %s", v.Version)
	if v.Revision != "" {
		fmt.Fprintf(&b, " (%.12s", v.Revision)
		if v.Modified {
			b.WriteString(", modified")
		}
		if v.Time != "" {
			b.WriteString(", " + v.Time)
		}
		b.WriteString(")")
	}
	fmt.Fprintf(&b, " %s %s", v.Go, v.Platform)
	return b.String()
}

func (a *app) versionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version of this binary",
		Args:  cobra.NoArgs,
	}
	out := outputFlag(cmd, "table", "json")
	cmd.RunE = func(*cobra.Command, []string) error {
		v := currentVersion()
		if out.value == "json" {
			return writeJSON(a.stdout, v)
		}
		_, err := fmt.Fprintln(a.stdout, v)
		return err
	}
	return cmd
}
