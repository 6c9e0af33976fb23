package discover

import (
	"bytes"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sonde-io/sonde/symbols/build"
)

// environ is what a process's environment says about its name. Only these variables are kept: an environment holds secrets.
type environ struct {
	sonde     map[string]string // SONDE_* without the prefix, SONDE_TOKEN left out
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
		case "SONDE_SERVICE", "SONDE_VERSION", "SONDE_SERVICE_VERSION", "SONDE_NAMESPACE", "SONDE_ENVIRONMENT", "SONDE_LABELS":
			if e.sonde == nil {
				e.sonde = map[string]string{}
			}
			e.sonde[strings.TrimPrefix(k, "SONDE_")] = v
		}
	}
	return e
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
// file's name and the main module's version.
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
	set("service_version", e.sonde["SERVICE_VERSION"], e.sonde["VERSION"])
	set("service_namespace", e.sonde["NAMESPACE"])
	set("deployment_environment_name", e.sonde["ENVIRONMENT"])
	if labels["service_name"] == "" {
		set("service_name", filepath.Base(exe))
	}
	if labels["service_version"] == "" && info != nil {
		set("service_version", info.Version())
	}
	return labels["service_name"], labels["service_version"], labels
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
