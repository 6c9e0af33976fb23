package agent

import (
	"maps"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sonde-io/sonde/agent/internal/buildid"
)

// loaded is about when the program started, for systems that do not tell.
var loaded = time.Now()

// describeProcess gathers everything that is known about this process, and how many of its labels were stripped.
func describeProcess(c *Config, getenv func(string) string) (*processInfo, int) {
	p := &processInfo{GoVersion: runtime.Version(), PID: os.Getpid(), Started: loaded.UnixMilli(), Agent: Version}
	if exe, err := os.Executable(); err == nil {
		p.Exe = exe
	}
	info, _ := debug.ReadBuildInfo()
	if info != nil {
		p.BuildInfo = info.String()
	}
	ids := buildid.Self()
	p.GoBuildID, p.GNUBuildID = ids.Go, ids.GNU
	p.system()

	m := &labelMap{labels: map[string]string{}}
	found := map[string]string{
		"service_name":    defaultService(info, p.Exe),
		"service_version": defaultVersion(info),
		"process_pid":     strconv.Itoa(p.PID),
		"container_id":    containerID(),
	}
	found["host_name"], _ = os.Hostname()
	maps.Copy(found, kubernetes(getenv, found["host_name"]))
	for name, value := range found {
		m.set(name, value)
	}
	user := listed(c, os.Args[1:], os.Environ()) // the later wins
	for _, s := range []string{getenv("OTEL_RESOURCE_ATTRIBUTES"), getenv("SONDE_LABELS")} {
		pairs, wrong := parsePairs(s)
		m.stripped += len(wrong)
		maps.Copy(user, pairs)
	}
	for name, value := range map[string]string{"service_name": c.Service, "service_version": c.ServiceVersion,
		"deployment_environment_name": c.Environment, "service_namespace": c.Namespace} {
		if value != "" {
			delete(user, name)
			m.set(name, value)
		}
	}
	for name, value := range c.Labels {
		user[labelName(name)] = value
	}
	m.add(user, slices.Sorted(maps.Keys(user)))
	m.mark()
	p.Labels = m.labels
	p.Conditions = conditions(c, os.Args[1:], os.Environ())
	return p, m.stripped
}

// defaultService names the service after the main module, else after the executable.
func defaultService(info *debug.BuildInfo, exe string) string {
	if info != nil && info.Path != "" && info.Path != "command-line-arguments" {
		// The main package's path: its last element is the program's name, a module can hold many programs.
		if base := path.Base(info.Path); base != "." && base != "/" && !isMajor(base) {
			return base
		}
		if base := path.Base(path.Dir(info.Path)); base != "." && base != "/" {
			return base
		}
	}
	if exe != "" {
		return strings.TrimSuffix(filepath.Base(exe), ".exe")
	}
	return "unknown_service"
}

// isMajor reports whether s is the v2 at the end of a module path.
func isMajor(s string) bool {
	if len(s) < 2 || s[0] != 'v' {
		return false
	}
	_, err := strconv.Atoi(s[1:])
	return err == nil
}

func defaultVersion(info *debug.BuildInfo) string {
	if info == nil {
		return ""
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value[:min(12, len(s.Value))]
		}
	}
	return ""
}

// kubernetes returns the labels of a pod from the variables that manifests usually set through the downward API.
func kubernetes(getenv func(string) string, host string) map[string]string {
	first := func(names ...string) string {
		for _, n := range names {
			if v := getenv(n); v != "" {
				return v
			}
		}
		return ""
	}
	labels := map[string]string{
		"k8s_pod_name":       first("K8S_POD_NAME", "POD_NAME", "MY_POD_NAME"),
		"k8s_namespace_name": first("K8S_NAMESPACE_NAME", "K8S_NAMESPACE", "POD_NAMESPACE", "MY_POD_NAMESPACE"),
		"k8s_node_name":      first("K8S_NODE_NAME", "NODE_NAME", "MY_NODE_NAME"),
		"k8s_container_name": first("K8S_CONTAINER_NAME", "CONTAINER_NAME"),
	}
	if getenv("KUBERNETES_SERVICE_HOST") == "" {
		return labels
	}
	if labels["k8s_pod_name"] == "" {
		labels["k8s_pod_name"] = host // a pod's host name is its name, unless the manifest says otherwise
	}
	if labels["k8s_namespace_name"] == "" {
		if b, err := os.ReadFile("/var/run/secrets/kubernetes.io/serviceaccount/namespace"); err == nil {
			labels["k8s_namespace_name"] = strings.TrimSpace(string(b))
		}
	}
	return labels
}
