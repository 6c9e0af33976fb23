package build

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
)

// Inventory is all that is known of what went into a binary, as it is shown and sent.
type Inventory struct {
	ID         string   `json:"id"` // Key, or what OfText says
	GoBuildID  string   `json:"go_build_id,omitempty"`
	GNUBuildID string   `json:"gnu_build_id,omitempty"`
	GoVersion  string   `json:"go_version"`
	Path       string   `json:"path,omitempty"` // of the main package
	Main       Module   `json:"main"`           // Path "" for a program built without modules
	Deps       []Module `json:"deps"`
	Settings   Settings `json:"settings"`
	Size       int64    `json:"size,omitempty"`     // of the file in bytes, 0: unknown
	Stripped   string   `json:"stripped,omitempty"` // yes, no, "": unknown
}

// Module is one module of a build as go.mod declares it. Replace is what was compiled in its place, nil for itself.
type Module struct {
	Path    string  `json:"path"`
	Version string  `json:"version,omitempty"` // "" for a folder, and for a main module from a working tree without a version
	Sum     string  `json:"sum,omitempty"`
	Replace *Module `json:"replace,omitempty"`
}

// Compiled returns the path and version of the code that was compiled: those of the replacement, but for a folder's, which has no version and keeps the declared path.
func (m *Module) Compiled() (path, version string) {
	switch r := m.Replace; {
	case r == nil:
		return m.Path, m.Version
	case r.Version == "":
		return m.Path, ""
	default:
		return r.Path, r.Version
	}
}

// Settings are the build settings by name: -race, -tags, -trimpath, -pgo, CGO_ENABLED, GOAMD64, GOEXPERIMENT, DefaultGODEBUG, vcs.revision, …
type Settings map[string]string

// Inventory returns what i says, in its normal form.
func (i *Info) Inventory() *Inventory {
	inv := inventoryOf(i.Mod)
	inv.ID, inv.GoBuildID, inv.GNUBuildID, inv.Size, inv.Stripped = i.Key(), i.GoBuildID, i.GNUBuildID, i.Size, i.Stripped
	if i.GoVersion != "" {
		inv.GoVersion = i.GoVersion
	}
	return inv
}

// OfText returns the inventory that the text of a debug.BuildInfo describes. Its ID is a hash of the text, which says nothing of the binary's ids: whoever knows them sets them.
func OfText(text string) (*Inventory, error) {
	if len(text) > MaxText {
		return nil, fmt.Errorf("read build info: %d bytes, at most %d are read", len(text), MaxText)
	}
	mod, err := debug.ParseBuildInfo(text)
	if err != nil {
		return nil, fmt.Errorf("read build info: %w", err)
	}
	for line := range strings.Lines(text) { // which ParseBuildInfo passes by
		if v, ok := strings.CutPrefix(strings.TrimRight(line, "\r\n"), "go\t"); ok && mod.GoVersion == "" {
			mod.GoVersion = v
		}
	}
	inv := inventoryOf(mod)
	sum := sha256.Sum256([]byte(mod.String()))
	inv.ID = hex.EncodeToString(sum[:20])
	return inv, nil
}

// MaxText bounds the text of a build info, in bytes: a hundred times what the largest programs have.
const MaxText = 4 << 20

func inventoryOf(mod *debug.BuildInfo) *Inventory {
	inv := &Inventory{GoVersion: mod.GoVersion, Path: mod.Path, Main: moduleOf(&mod.Main), Deps: make([]Module, 0, len(mod.Deps)), Settings: Settings{}}
	for _, d := range mod.Deps {
		if d != nil {
			inv.Deps = append(inv.Deps, moduleOf(d))
		}
	}
	for _, s := range mod.Settings {
		inv.Settings[s.Key] = s.Value
	}
	return inv
}

func moduleOf(m *debug.Module) Module {
	out := Module{Path: m.Path, Version: m.Version, Sum: m.Sum}
	if out.Version == "(devel)" {
		out.Version = ""
	}
	if m.Replace != nil {
		r := moduleOf(m.Replace)
		r.Replace = nil // go.mod knows no chains
		out.Replace = &r
	}
	return out
}

// Module returns the path of the main module, or what stands for it: see ModuleOf.
func (inv *Inventory) Module() string {
	return ModuleOf(&debug.BuildInfo{Path: inv.Path, Main: debug.Module{Path: inv.Main.Path}})
}

// Listed is one program of the output of `go version -m`.
type Listed struct {
	File string
	Text string // of its debug.BuildInfo, the Go version included
}

// ErrNoVersionM says that a text is not what `go version -m` prints.
var ErrNoVersionM = errors.New("not the output of go version -m")

// SplitVersionM takes the output of `go version -m` apart, of one or more files. Programs without build info have a text of one line.
func SplitVersionM(text []byte) ([]Listed, error) {
	var out []Listed
	for line := range bytes.Lines(text) {
		line = bytes.TrimRight(line, "\r\n")
		rest, indented := bytes.CutPrefix(line, []byte("\t"))
		switch {
		case len(bytes.TrimSpace(line)) == 0:
		case indented && len(out) > 0:
			out[len(out)-1].Text += string(rest) + "\n"
		case indented:
			return nil, fmt.Errorf("%w: it does not begin with FILE: goVERSION", ErrNoVersionM)
		default:
			i := bytes.LastIndex(line, []byte(": "))
			if i < 0 || !strings.HasPrefix(string(line[i+2:]), "go") && !strings.HasPrefix(string(line[i+2:]), "devel") {
				return nil, fmt.Errorf("%w: %.80q is not FILE: goVERSION", ErrNoVersionM, line)
			}
			if len(out) >= maxListed {
				return nil, fmt.Errorf("%w: more than %d files", ErrNoVersionM, maxListed)
			}
			out = append(out, Listed{File: string(line[:i]), Text: "go\t" + string(line[i+2:]) + "\n"})
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: it is empty", ErrNoVersionM)
	}
	return out, nil
}

// maxListed bounds the files of one output of `go version -m`.
const maxListed = 10_000
