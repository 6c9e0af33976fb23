package kube

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// pod makes a running pod with containers of these names, of which the first declares port 8080 as http and 6060 as pprof.
func pod(name string, edit func(*corev1.Pod), containers ...string) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID("uid-" + name), Labels: map[string]string{}, Annotations: map[string]string{}},
		Spec:       corev1.PodSpec{NodeName: "n1"},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.1.0.5", HostIP: "192.0.2.7"},
	}
	for i, c := range containers {
		ct := corev1.Container{Name: c, Image: "registry.test/" + c}
		if i == 0 {
			ct.Ports = []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}, {Name: "pprof", ContainerPort: 6060}, {Name: "dns", ContainerPort: 53, Protocol: corev1.ProtocolUDP}}
		}
		p.Spec.Containers = append(p.Spec.Containers, ct)
		p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, corev1.ContainerStatus{Name: c, ContainerID: "containerd://" + name + "-" + c})
	}
	if edit != nil {
		edit(p)
	}
	return p
}

func ownedBy(kind, name string, labels ...string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		yes := true
		p.OwnerReferences = []metav1.OwnerReference{{Kind: "Unrelated", Name: "x"}, {Kind: kind, Name: name, Controller: &yes}}
		for i := 0; i+1 < len(labels); i += 2 {
			p.Labels[labels[i]] = labels[i+1]
		}
	}
}

func TestOwner(t *testing.T) {
	for _, tt := range []struct {
		name    string
		pod     *corev1.Pod
		label   string
		service string
	}{
		{"deployment", pod("cart-6d4f8b7c9d-x2x4z", ownedBy("ReplicaSet", "cart-6d4f8b7c9d", "pod-template-hash", "6d4f8b7c9d"), "app"), "k8s_deployment_name=cart", "cart"},
		{"rollout", pod("cart-6d4f8b7c9d-x2x4z", ownedBy("ReplicaSet", "cart-6d4f8b7c9d", "rollouts-pod-template-hash", "6d4f8b7c9d"), "app"), "k8s_rollout_name=cart", "cart"},
		{"replica set of its own", pod("cart-abc", ownedBy("ReplicaSet", "cart"), "app"), "k8s_replicaset_name=cart", "cart"},
		{"stateful set", pod("db-0", ownedBy("StatefulSet", "db"), "app"), "k8s_statefulset_name=db", "db"},
		{"daemon set", pod("agent-x", ownedBy("DaemonSet", "agent"), "app"), "k8s_daemonset_name=agent", "agent"},
		{"job", pod("import-x", ownedBy("Job", "import"), "app"), "k8s_job_name=import", "import"},
		{"cron job", pod("backup-28391040-x", ownedBy("Job", "backup-28391040"), "app"), "k8s_cronjob_name=backup", "backup"},
		{"static pod", pod("etcd-n1", ownedBy("Node", "n1"), "app"), "", "etcd"},
		{"another controller", pod("x-1", ownedBy("CloneSet", "x"), "app"), "", "x"},
		{"nobody", pod("alone", nil, "app"), "", "alone"},
		{"named by its label", pod("db-0", ownedBy("StatefulSet", "db", "app.kubernetes.io/name", "postgres"), "app"), "k8s_statefulset_name=db", "postgres"},
	} {
		p := placement(tt.pod, "app")
		got := ""
		for k, v := range p.Labels {
			if k != "k8s_namespace_name" && !strings.HasPrefix(k, "k8s_pod_") && k != "k8s_node_name" && k != "k8s_container_name" {
				got = k + "=" + v
			}
		}
		if got != tt.label || p.Service != tt.service || p.Named {
			t.Errorf("%s: %q, service %q; want %q, %q", tt.name, got, p.Service, tt.label, tt.service)
		}
		if p.Labels["k8s_pod_name"] != tt.pod.Name || p.Labels["k8s_namespace_name"] != "shop" || p.Labels["k8s_node_name"] != "n1" || p.Labels["k8s_pod_uid"] != string(tt.pod.UID) || p.Labels["k8s_container_name"] != "app" {
			t.Errorf("%s: %v", tt.name, p.Labels)
		}
	}
}

func TestServiceOfContainers(t *testing.T) {
	own := func(p *corev1.Pod) {
		ownedBy("StatefulSet", "db", "app.kubernetes.io/version", "v3")(p)
		p.Annotations["sonde.io/service"] = "store"
	}
	p := pod("db-0", own, "app", "istio-proxy")
	if m := placement(p, "app"); m.Service != "store" || !m.Named || m.Version != "v3" {
		t.Errorf("main container: %+v", m)
	}
	if m := placement(p, "istio-proxy"); m.Service != "istio-proxy" || m.Named || m.Version != "" {
		t.Errorf("beside it: %+v", m)
	}
	p.Annotations["kubectl.kubernetes.io/default-container"] = "istio-proxy"
	if m := placement(p, "app"); m.Service != "app" {
		t.Errorf("the pod says that another is the main one: %+v", m)
	}
	p.Annotations["sonde.io/profile"] = "false"
	if m := placement(p, "app"); m.Off != "denied by its pod: sonde.io/profile is false" {
		t.Errorf("to be left alone: %q", m.Off)
	}
}

func TestAnnotations(t *testing.T) {
	for _, tt := range []struct {
		name        string
		annotations map[string]string
		containers  []string
		want        []string // address scheme path types
		err         string
	}{
		{"nothing", nil, []string{"app"}, nil, ""},
		{"ours", map[string]string{"sonde.io/scrape": "true"}, []string{"app"}, []string{"10.1.0.5:6060 http /debug/pprof "}, ""},
		{"ours, in full", map[string]string{"sonde.io/scrape": "True", "sonde.io/port": "9000", "sonde.io/path": "/x/pprof/", "sonde.io/scheme": "HTTPS", "sonde.io/types": "cpu, heap"}, []string{"app"},
			[]string{"10.1.0.5:9000 https /x/pprof cpu,heap"}, ""},
		{"ours, by name", map[string]string{"sonde.io/scrape": "true", "sonde.io/port-name": "http"}, []string{"app"}, []string{"10.1.0.5:8080 http /debug/pprof "}, ""},
		{"a name for a number", map[string]string{"sonde.io/scrape": "true", "sonde.io/port": "http"}, []string{"app"}, []string{"10.1.0.5:8080 http /debug/pprof "}, ""},
		{"ours says no, whatever others say", map[string]string{"sonde.io/scrape": "false", "profiles.grafana.com/cpu.scrape": "true", "prometheus.io/scrape": "true"}, []string{"app"}, nil, ""},
		{"left alone", map[string]string{"sonde.io/profile": "false", "sonde.io/scrape": "true", "prometheus.io/scrape": "true"}, []string{"app"}, nil, ""},
		{"a port that is none", map[string]string{"sonde.io/scrape": "true", "sonde.io/port": "70000"}, []string{"app"}, nil, "is no port"},
		{"a name that is none", map[string]string{"sonde.io/scrape": "true", "sonde.io/port-name": "nope"}, []string{"app"}, nil, `no container declares a port named "nope"`},
		{"a scheme that is none", map[string]string{"sonde.io/scrape": "true", "sonde.io/scheme": "file"}, []string{"app"}, nil, "neither http nor https"},
		{"a path that is none", map[string]string{"sonde.io/scrape": "true", "sonde.io/path": "http://elsewhere/"}, []string{"app"}, nil, "is no path"},
		{"a path with a query", map[string]string{"sonde.io/scrape": "true", "sonde.io/path": "/x?y"}, []string{"app"}, nil, "is no path"},
		{"no port at all", map[string]string{"sonde.io/scrape": "true"}, nil, nil, "it is not set"},
		{"grafana", map[string]string{"profiles.grafana.com/cpu.scrape": "true", "profiles.grafana.com/cpu.port": "8080", "profiles.grafana.com/memory.scrape": "true", "profiles.grafana.com/memory.port": "8080",
			"profiles.grafana.com/goroutine.scrape": "true", "profiles.grafana.com/goroutine.port_name": "pprof"}, []string{"app"},
			[]string{"10.1.0.5:8080 http /debug/pprof cpu,heap", "10.1.0.5:6060 http /debug/pprof goroutine"}, ""},
		{"grafana, paths", map[string]string{"profiles.grafana.com/cpu.scrape": "true", "profiles.grafana.com/cpu.path": "/p/profile", "profiles.grafana.com/memory.scrape": "true", "profiles.grafana.com/memory.path": "/p/heap",
			"profiles.grafana.com/block.scrape": "true", "profiles.grafana.com/block.path": "/custom"}, []string{"app"}, []string{"10.1.0.5:6060 http /p cpu,heap"}, `path "/custom" does not end in /block`},
		{"prometheus", map[string]string{"prometheus.io/scrape": "true", "prometheus.io/port": "8080", "prometheus.io/path": "/metrics"}, []string{"app"}, []string{"10.1.0.5:8080 http /debug/pprof "}, ""},
		{"prometheus, no", map[string]string{"prometheus.io/scrape": "false"}, []string{"app"}, nil, ""},
	} {
		p := pod("cart-1", func(p *corev1.Pod) { p.Annotations = tt.annotations }, tt.containers...)
		ts, err := targets(p, &Config{})
		var got []string
		for _, x := range ts {
			got = append(got, fmt.Sprint(x["__address__"], " ", x["__scheme__"], " ", x["__profile_path__"], " ", x["__profile_types__"]))
		}
		if !slices.Equal(got, tt.want) || (tt.err == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %q, %v; want %q, %q", tt.name, got, err, tt.want, tt.err)
		}
	}
}

func TestTargetsOfPods(t *testing.T) {
	asks := func(p *corev1.Pod) {
		ownedBy("StatefulSet", "db", "app.kubernetes.io/version", "v3", "team", "a")(p)
		p.Annotations["sonde.io/scrape"] = "true"
	}
	ts, err := targets(pod("db-0", asks, "app", "side"), &Config{})
	if err != nil || len(ts) != 1 {
		t.Fatalf("%d targets, %v", len(ts), err)
	}
	want := map[string]string{
		"service_name": "db", "service_version": "v3", "k8s_statefulset_name": "db", "k8s_container_name": "app", "__meta_kubernetes_namespace": "shop", "__meta_kubernetes_pod_name": "db-0",
		"__meta_kubernetes_pod_label_team": "a", "__meta_kubernetes_pod_labelpresent_team": "true", "__meta_kubernetes_pod_annotation_sonde_io_scrape": "true", "__meta_kubernetes_pod_container_name": "app",
		"__meta_kubernetes_pod_container_port_name": "pprof", "__meta_kubernetes_pod_container_port_number": "6060", "__meta_kubernetes_pod_controller_kind": "StatefulSet", "__meta_kubernetes_pod_node_name": "n1",
		"__meta_kubernetes_pod_ip": "10.1.0.5", "__meta_kubernetes_pod_container_image": "registry.test/app", "__meta_kubernetes_pod_container_id": "containerd://db-0-app", "__meta_kubernetes_pod_phase": "Running",
	}
	for k, v := range want {
		if ts[0][k] != v {
			t.Errorf("%s=%q, want %q", k, ts[0][k], v)
		}
	}
	pending := pod("db-1", asks, "app")
	pending.Status.Phase = corev1.PodPending
	over := pod("db-2", asks, "app")
	over.Status.Phase = corev1.PodSucceeded
	for _, p := range []*corev1.Pod{pending, over, pod("db-3", func(p *corev1.Pod) { asks(p); p.Status.PodIP = "" }, "app")} {
		if ts, err := targets(p, &Config{}); len(ts) > 0 || err != nil {
			t.Errorf("%s: %v, %v", p.Name, ts, err)
		}
	}
	if ts, _ := targets(pod("x", nil, "app"), &Config{Scrape: ScrapeAll}); len(ts) != 2 {
		t.Errorf("all ports: %v", ts)
	}
	if ts, _ := targets(pod("db-0", asks, "app"), &Config{Scrape: ScrapeNone}); len(ts) != 0 {
		t.Errorf("none: %v", ts)
	}
	if ts, _ := targets(pod("db-0", asks, "app"), &Config{Prefixes: []string{"prometheus.io"}}); len(ts) != 0 {
		t.Errorf("another prefix: %v", ts)
	}
}

// TestSlimKeepsWhatIsUsed: a pod says the same before and after.
func TestSlimKeepsWhatIsUsed(t *testing.T) {
	full := pod("db-0", func(p *corev1.Pod) {
		ownedBy("StatefulSet", "db", "team", "a")(p)
		p.Annotations["sonde.io/scrape"] = "true"
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: "True"}, {Type: corev1.PodReady, Status: "True"}}
		p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "SECRET", Value: "hunter2"}}
		p.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubectl"}}
	}, "app", "side")
	obj, err := slim(full)
	if err != nil {
		t.Fatal(err)
	}
	small := obj.(*corev1.Pod)
	a, _ := targets(full, &Config{})
	b, _ := targets(small, &Config{})
	a[0]["__meta_kubernetes_pod_ready"] = "true" // slim keeps that condition only
	if !maps.Equal(a[0], b[0]) {
		t.Errorf("before %v\nafter  %v", a[0], b[0])
	}
	if !same(placement(full, "side"), placement(small, "side")) {
		t.Error("placements differ")
	}
	if strings.Contains(small.String(), "hunter2") || small.ManagedFields != nil {
		t.Error("what is not used is kept")
	}
}

func TestConfigValidate(t *testing.T) {
	for name, c := range map[string]Config{
		"scrape": {Scrape: "some"}, "namespace": {Namespaces: []string{"a b"}}, "node": {Node: "a/b"}, "prefix": {Prefixes: []string{"example.com"}}, "too many": {Namespaces: make([]string, 101)},
	} {
		if err := c.Validate(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if err := (&Config{Node: "ip-10-0-0-1.ec2.internal", Namespaces: []string{"shop"}, Scrape: "all", Prefixes: []string{"sonde.io"}}).Validate(); err != nil {
		t.Error(err)
	}
}

// FuzzAnnotations reads annotations as anybody may write them.
func FuzzAnnotations(f *testing.F) {
	f.Add("true", "6060", "pprof", "/debug/pprof", "http", "cpu,heap")
	f.Add("TRUE", "-1", "", "/../x", "javascript", ",,")
	f.Add("1", "http", "nope", "/a/profile", "HTTPS", "cpu")
	f.Fuzz(func(t *testing.T, yes, port, name, path, scheme, types string) {
		p := pod("x", func(p *corev1.Pod) {
			for _, prefix := range []string{"sonde.io/", "prometheus.io/", "profiles.grafana.com/cpu.", "profiles.grafana.com/memory."} {
				for k, v := range map[string]string{"scrape": yes, "port": port, "port-name": name, "port_name": name, "path": path, "scheme": scheme, "types": types} {
					p.Annotations[prefix+k] = v
				}
			}
		}, "app")
		for _, prefixes := range [][]string{nil, {"profiles.grafana.com"}, {"prometheus.io"}} {
			ts, _ := targets(p, &Config{Prefixes: prefixes})
			for _, x := range ts {
				if !strings.HasPrefix(x["__address__"], "10.1.0.5:") || x["__scheme__"] != "http" && x["__scheme__"] != "https" ||
					!strings.HasPrefix(x["__profile_path__"], "/") || strings.ContainsAny(x["__profile_path__"], "?#\r\n ") {
					t.Errorf("%q %q %q", x["__address__"], x["__scheme__"], x["__profile_path__"])
				}
			}
		}
	})
}
