package kube

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// The prefixes of annotations by which a pod asks to be scraped. The first of them in this order that says anything about it counts.
const (
	prefixSonde      = "sonde.io"             // scrape, port, port-name, path, scheme, types; and service, profile
	prefixGrafana    = "profiles.grafana.com" // {cpu,memory,goroutine,block,mutex}.{scrape,port,port_name,scheme,path}
	prefixPrometheus = "prometheus.io"        // scrape, port, path, scheme: of metrics, taken as a hint
)

const defaultPath = "/debug/pprof"

// endpoint is what a pod asks to be scraped at.
type endpoint struct {
	port      int
	container string // "" where the port is not declared
	scheme    string
	path      string   // base, such as /debug/pprof
	metrics   string   // path of the metrics; "": as usual
	types     []string // nil: all
}

// grafanaTypes are the types of profiles.grafana.com with the end of their paths and our word for them.
var grafanaTypes = []struct{ name, end, ours string }{
	{"cpu", "profile", "cpu"}, {"memory", "allocs", "heap"}, {"goroutine", "goroutine", "goroutine"}, {"mutex", "mutex", "mutex"}, {"block", "block", "block"},
}

// isTrue and isFalse read an annotation, which is often written by hand.
func isTrue(s string) bool {
	v, err := strconv.ParseBool(strings.ToLower(strings.TrimSpace(s)))
	return err == nil && v
}

func isFalse(s string) bool {
	v, err := strconv.ParseBool(strings.ToLower(strings.TrimSpace(s)))
	return err == nil && !v
}

// annotated returns the endpoints that a pod's annotations ask to be scraped. An error says what of them cannot be used; the endpoints are good all the same.
func annotated(pod *corev1.Pod, prefixes []string) ([]endpoint, error) {
	a := pod.Annotations
	if isFalse(a[prefixSonde+"/profile"]) {
		return nil, nil
	}
	if _, ok := a[prefixSonde+"/scrape"]; ok && slices.Contains(prefixes, prefixSonde) {
		if !isTrue(a[prefixSonde+"/scrape"]) {
			return nil, nil
		}
		return one(sondeEndpoint(pod))
	}
	if slices.Contains(prefixes, prefixGrafana) {
		if eps, err := grafanaEndpoints(pod); len(eps) > 0 || err != nil {
			return eps, err
		}
	}
	if isTrue(a[prefixPrometheus+"/scrape"]) && slices.Contains(prefixes, prefixPrometheus) {
		return one(prometheusEndpoint(pod))
	}
	return nil, nil
}

func one(ep endpoint, err error) ([]endpoint, error) {
	if err != nil {
		return nil, err
	}
	return []endpoint{ep}, nil
}

func sondeEndpoint(pod *corev1.Pod) (ep endpoint, err error) {
	get := func(name string) string { return strings.TrimSpace(pod.Annotations[prefixSonde+"/"+name]) }
	if ep.port, ep.container, err = findPort(pod, get("port"), get("port-name")); err != nil {
		return ep, fmt.Errorf("annotation %s/port: %w", prefixSonde, err)
	}
	if ep.scheme, err = scheme(get("scheme")); err != nil {
		return ep, fmt.Errorf("annotation %s/scheme: %w", prefixSonde, err)
	}
	if ep.path, err = basePath(get("path")); err != nil {
		return ep, fmt.Errorf("annotation %s/path: %w", prefixSonde, err)
	}
	for t := range strings.SplitSeq(get("types"), ",") {
		if t = strings.TrimSpace(t); t != "" && len(ep.types) < 16 {
			ep.types = append(ep.types, t)
		}
	}
	return ep, nil
}

// grafanaEndpoints gathers the types that are served under one base path of one port.
func grafanaEndpoints(pod *corev1.Pod) (eps []endpoint, err error) {
	for _, t := range grafanaTypes {
		get := func(name string) string {
			return strings.TrimSpace(pod.Annotations[prefixGrafana+"/"+t.name+"."+name])
		}
		if !isTrue(get("scrape")) {
			continue
		}
		ep, e := grafanaEndpoint(pod, get, t.end)
		if e != nil {
			err = errors.Join(err, fmt.Errorf("annotations %s/%s.*: %w", prefixGrafana, t.name, e))
			continue
		}
		i := slices.IndexFunc(eps, func(o endpoint) bool { return o.port == ep.port && o.scheme == ep.scheme && o.path == ep.path })
		if i < 0 {
			i, eps = len(eps), append(eps, ep)
		}
		eps[i].types = append(eps[i].types, t.ours)
	}
	return eps, err
}

func grafanaEndpoint(pod *corev1.Pod, get func(string) string, end string) (ep endpoint, err error) {
	if ep.port, ep.container, err = findPort(pod, get("port"), get("port_name")); err != nil {
		return ep, err
	}
	if ep.scheme, err = scheme(get("scheme")); err != nil {
		return ep, err
	}
	path := get("path")
	if path == "" {
		path = defaultPath + "/" + end
	}
	base, ok := strings.CutSuffix(path, "/"+end)
	if !ok && end == "allocs" { // both have what is asked for
		base, ok = strings.CutSuffix(path, "/heap")
	}
	if !ok {
		return ep, fmt.Errorf("path %q does not end in /%s, as net/http/pprof names it", path, end)
	}
	ep.path, err = basePath(base)
	return ep, err
}

func prometheusEndpoint(pod *corev1.Pod) (ep endpoint, err error) {
	get := func(name string) string { return strings.TrimSpace(pod.Annotations[prefixPrometheus+"/"+name]) }
	if ep.port, ep.container, err = findPort(pod, get("port"), ""); err != nil {
		return ep, fmt.Errorf("annotation %s/port: %w", prefixPrometheus, err)
	}
	if ep.scheme, err = scheme(get("scheme")); err != nil {
		return ep, fmt.Errorf("annotation %s/scheme: %w", prefixPrometheus, err)
	}
	path := get("path")
	if !strings.Contains(path, "pprof") { // it is that of the metrics
		if ep.metrics, err = basePath(path); err != nil || path == "" {
			ep.metrics = "/metrics"
		}
		path = ""
	}
	if ep.path, err = basePath(path); err != nil {
		return ep, fmt.Errorf("annotation %s/path: %w", prefixPrometheus, err)
	}
	return ep, nil
}

func scheme(s string) (string, error) {
	switch strings.ToLower(s) {
	case "", "http":
		return "http", nil
	case "https":
		return "https", nil
	}
	return "", fmt.Errorf("%.64q is neither http nor https", s)
}

func basePath(s string) (string, error) {
	s = strings.TrimRight(s, "/")
	switch {
	case s == "":
		return defaultPath, nil
	case !strings.HasPrefix(s, "/") || strings.ContainsAny(s, "?#%\\ \t\r\n\x00") || strings.Contains(s, "/../") || strings.HasSuffix(s, "/.."):
		return "", fmt.Errorf("%.64q is no path such as %s", s, defaultPath)
	}
	return s, nil
}

// findPort returns the port that number or name says; with neither the one that is called pprof, or the only one that is declared.
func findPort(pod *corev1.Pod, number, name string) (port int, container string, err error) {
	type declared struct {
		corev1.ContainerPort
		container string
	}
	var all []declared
	for _, c := range slices.Concat(pod.Spec.Containers, pod.Spec.InitContainers) {
		for _, p := range c.Ports {
			if p.Protocol == corev1.ProtocolTCP || p.Protocol == "" {
				all = append(all, declared{p, c.Name})
			}
		}
	}
	if number != "" {
		n, err := strconv.Atoi(number)
		if err != nil || n < 1 || n > 65535 {
			if name == "" && err != nil { // many write a name there
				return findPort(pod, "", number)
			}
			return 0, "", fmt.Errorf("%.64q is no port", number)
		}
		for _, p := range all {
			if int(p.ContainerPort.ContainerPort) == n {
				return n, p.container, nil
			}
		}
		return n, "", nil
	}
	want := name
	if want == "" {
		want = "pprof"
	}
	for _, p := range all {
		if p.Name == want {
			return int(p.ContainerPort.ContainerPort), p.container, nil
		}
	}
	switch {
	case name != "":
		return 0, "", fmt.Errorf("no container declares a port named %.64q", name)
	case len(all) == 1:
		return int(all[0].ContainerPort.ContainerPort), all[0].container, nil
	}
	return 0, "", fmt.Errorf("it is not set, none of the %d declared ports is named pprof, and there is not just one", len(all))
}

// Target is something to scrape, as labels in the manner of Prometheus: __address__, __scheme__, __profile_path__, __profile_types__ (joined by commas), __meta_kubernetes_*, and
// labels for the series.
type Target map[string]string

// targets returns what is to be scraped of a pod.
func targets(pod *corev1.Pod, cfg *Config) ([]Target, error) {
	if pod.Status.PodIP == "" || pod.Status.Phase != corev1.PodRunning || cfg.Scrape == ScrapeNone {
		return nil, nil
	}
	var eps []endpoint
	var err error
	if cfg.Scrape == ScrapeAll {
		eps = declaredPorts(pod)
	} else {
		prefixes := cfg.Prefixes
		if len(prefixes) == 0 {
			prefixes = knownPrefixes
		}
		eps, err = annotated(pod, prefixes)
	}
	var out []Target
	for _, ep := range eps {
		container := ep.container
		if container == "" && len(pod.Spec.Containers) == 1 {
			container = pod.Spec.Containers[0].Name
		}
		t := Target(meta(pod, container, ep.port))
		maps.Copy(t, podLabels(pod, container))
		t["__address__"] = net.JoinHostPort(pod.Status.PodIP, strconv.Itoa(ep.port))
		t["__scheme__"], t["__profile_path__"], t["__profile_types__"] = ep.scheme, ep.path, strings.Join(ep.types, ",")
		if ep.metrics != "" {
			t["__metrics_path__"] = ep.metrics
		}
		t["service_name"], _ = service(pod, container)
		if v := pod.Labels["app.kubernetes.io/version"]; v != "" && container == mainContainer(pod) {
			t["service_version"] = v
		}
		out = append(out, t)
	}
	return out, err
}

// declaredPorts returns every TCP port of a pod's containers.
func declaredPorts(pod *corev1.Pod) (eps []endpoint) {
	if isFalse(pod.Annotations[prefixSonde+"/profile"]) {
		return nil
	}
	for _, c := range pod.Spec.Containers {
		for _, p := range c.Ports {
			if p.Protocol == corev1.ProtocolTCP || p.Protocol == "" {
				eps = append(eps, endpoint{port: int(p.ContainerPort), container: c.Name, scheme: "http", path: defaultPath})
			}
		}
	}
	return eps
}

// meta are the labels that Prometheus' role pod gives a target.
func meta(pod *corev1.Pod, container string, port int) map[string]string {
	const p = "__meta_kubernetes_"
	m := map[string]string{
		p + "namespace": pod.Namespace, p + "pod_name": pod.Name, p + "pod_ip": pod.Status.PodIP, p + "pod_uid": string(pod.UID), p + "pod_node_name": pod.Spec.NodeName,
		p + "pod_host_ip": pod.Status.HostIP, p + "pod_phase": string(pod.Status.Phase), p + "pod_ready": "unknown",
	}
	if port != 0 {
		m[p+"pod_container_port_number"] = strconv.Itoa(port)
	}
	for _, c := range pod.Status.Conditions {
		m[p+"pod_ready"] = strings.ToLower(string(c.Status))
	}
	if o := ownerOf(pod); o.kind != "" {
		m[p+"pod_controller_kind"], m[p+"pod_controller_name"] = o.kind, o.name
	}
	for k, v := range pod.Labels {
		m[p+"pod_label_"+sanitize(k)], m[p+"pod_labelpresent_"+sanitize(k)] = v, "true"
	}
	for k, v := range pod.Annotations {
		m[p+"pod_annotation_"+sanitize(k)], m[p+"pod_annotationpresent_"+sanitize(k)] = v, "true"
	}
	for i, c := range slices.Concat(pod.Spec.Containers, pod.Spec.InitContainers) {
		if c.Name != container {
			continue
		}
		m[p+"pod_container_name"], m[p+"pod_container_image"] = c.Name, c.Image
		m[p+"pod_container_init"] = strconv.FormatBool(i >= len(pod.Spec.Containers))
		for _, cp := range c.Ports {
			if port != 0 && int(cp.ContainerPort) == port {
				m[p+"pod_container_port_name"], m[p+"pod_container_port_protocol"] = cp.Name, string(cp.Protocol)
			}
		}
	}
	for _, c := range statuses(pod) {
		if c.Name == container {
			m[p+"pod_container_id"] = c.ContainerID
		}
	}
	return m
}

// sanitize makes a name fit for a label, as Prometheus does.
func sanitize(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, s)
}

func statuses(pod *corev1.Pod) []corev1.ContainerStatus {
	return slices.Concat(pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses, pod.Status.EphemeralContainerStatuses)
}
