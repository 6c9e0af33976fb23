package discover

import (
	"bytes"
	"maps"
	"net/url"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/sonde-io/sonde/symbols/build"
)

// environ is what a process's environment says about its name. Only these variables are kept: an environment holds secrets.
type environ struct {
	sonde     map[string]string // those that name the process or turn Sonde off, without SONDE_
	otelName  string
	otelAttrs string
	gopsDir   string
	xdgConfig string
	home      string
}

func parseEnviron(b []byte) environ {
	var e environ
	for kv := range bytes.SplitSeq(b, []byte{0}) {
		k, v, ok := strings.Cut(string(kv), "=")
		if !ok {
			continue
		}
		switch k {
		case "OTEL_SERVICE_NAME":
			e.otelName = v
		case "OTEL_RESOURCE_ATTRIBUTES":
			e.otelAttrs = v
		case "GOPS_CONFIG_DIR":
			e.gopsDir = v
		case "XDG_CONFIG_HOME":
			e.xdgConfig = v
		case "HOME":
			e.home = v
		case "SONDE_SERVICE", "SONDE_SERVICE_VERSION", "SONDE_NAMESPACE", "SONDE_ENVIRONMENT", "SONDE_LABELS", "SONDE_DISABLED":
			if e.sonde == nil {
				e.sonde = map[string]string{}
			}
			e.sonde[strings.TrimPrefix(k, "SONDE_")] = v
		}
	}
	return e
}

// named reports whether the environment names the service.
func (e environ) named() bool {
	return clean(e.sonde["SERVICE"]) != "" || clean(e.otelName) != "" || parseAttrs(e.otelAttrs)["service_name"] != "" || parseAttrs(e.sonde["LABELS"])["service_name"] != ""
}

// versioned reports whether the environment tells the service's version.
func (e environ) versioned() bool {
	return clean(e.sonde["SERVICE_VERSION"]) != "" || parseAttrs(e.otelAttrs)["service_version"] != "" || parseAttrs(e.sonde["LABELS"])["service_version"] != ""
}

// disabled reports whether the process's owner turned Sonde off for it, by the variable that its agent obeys too.
func (e environ) disabled() bool {
	v := e.sonde["DISABLED"]
	off, err := strconv.ParseBool(v)
	return v != "" && (err != nil || off) // who sets it at all wants it off
}

// configDir is where a gops agent of this process puts its port file; the rule is gops's own (internal.ConfigDir), on Linux.
func (e environ) configDir() string {
	switch {
	case e.gopsDir != "":
		return e.gopsDir
	case filepath.IsAbs(e.xdgConfig):
		return filepath.Join(e.xdgConfig, "gops")
	case e.home != "":
		return filepath.Join(e.home, ".config", "gops")
	}
	return ""
}

// names returns the service, its version and the further labels of a process. SONDE_ variables win over OpenTelemetry's; then come the
// defaults.
func (e environ) names(exe string, info *build.Info) (service, version string, labels map[string]string) {
	labels = parseAttrs(e.otelAttrs)
	maps.Copy(labels, parseAttrs(e.sonde["LABELS"]))
	set := func(label string, values ...string) {
		for _, v := range values {
			if v = clean(v); v != "" {
				labels[label] = v
				return
			}
		}
	}
	set("service_name", e.sonde["SERVICE"], e.otelName)
	set("service_version", e.sonde["SERVICE_VERSION"])
	set("service_namespace", e.sonde["NAMESPACE"])
	set("deployment_environment_name", e.sonde["ENVIRONMENT"])
	if labels["service_name"] == "" {
		set("service_name", defaultService(info, exe))
	}
	if labels["service_version"] == "" {
		set("service_version", defaultVersion(info))
	}
	return labels["service_name"], labels["service_version"], labels
}

// defaultService names a process as the agent in it would: after its main package, else after its file. So a program that gets the agent later
// keeps its name.
func defaultService(info *build.Info, exe string) string {
	if info != nil && info.Mod.Path != "" && info.Mod.Path != "command-line-arguments" {
		base := path.Base(info.Mod.Path)
		if isMajor(base) {
			base = path.Base(path.Dir(info.Mod.Path))
		}
		if base != "." && base != "/" {
			return base
		}
	}
	return filepath.Base(exe)
}

// isMajor reports whether s is the v2 at the end of a module's path.
func isMajor(s string) bool {
	rest, ok := strings.CutPrefix(s, "v")
	_, err := strconv.Atoi(rest)
	return ok && err == nil
}

// defaultVersion is the main module's version, else the start of the commit that was built.
func defaultVersion(info *build.Info) string {
	if info == nil {
		return ""
	}
	if v := info.Version(); v != "" {
		return v
	}
	rev := info.Setting("vcs.revision")
	return rev[:min(12, len(rev))]
}

// parseAttrs reads OTEL_RESOURCE_ATTRIBUTES: key=value pairs separated by commas, values percent-encoded. Names get underscores for dots. What cannot be a label is
// left out, and what is beyond maxAttrs, by name.
func parseAttrs(s string) map[string]string {
	all := map[string]string{}
	for pair := range strings.SplitSeq(s, ",") {
		k, v, ok := strings.Cut(pair, "=")
		k = labelName(strings.TrimSpace(k))
		if d, err := url.PathUnescape(strings.TrimSpace(v)); err == nil {
			v = d
		}
		if v = clean(v); ok && k != "" && v != "" {
			all[k] = v
		}
	}
	if len(all) > maxAttrs {
		for _, k := range slices.Sorted(maps.Keys(all))[maxAttrs:] {
			delete(all, k)
		}
	}
	return all
}

// labelName turns an attribute's name into a label's, "" where it cannot be one. Names that Sonde sets itself are not taken from outside.
func labelName(s string) string {
	s = strings.NewReplacer(".", "_", "-", "_", "/", "_").Replace(s)
	if s == "" || len(s) > 128 || strings.HasPrefix(s, "__") || s == "service_instance_id" {
		return ""
	}
	for i, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '_' && (i == 0 || c < '0' || c > '9') {
			return ""
		}
	}
	return s
}

// clean makes a value fit to be a label's: valid UTF-8 without control characters, at most maxValue bytes.
func clean(s string) string {
	s = strings.ToValidUTF8(s, "")
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, s)
	if len(s) > maxValue {
		s = strings.ToValidUTF8(s[:maxValue], "")
	}
	return strings.TrimSpace(s)
}
