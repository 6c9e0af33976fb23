package discover

import (
	"runtime/debug"
	"testing"
	"time"

	"github.com/sonde-io/sonde/symbols/build"
)

func TestPlacedNamesProcess(t *testing.T) {
	var at *Placement
	s := &Scanner{self: -1, cfg: Config{Placed: func(id, uid, _ string) *Placement {
		if id != idA || uid != uidDashes {
			t.Errorf("asked for container %q of pod %q", id, uid)
		}
		return at
	}, AgentGrace: 10 * time.Second}}
	process := func(env string) *proc {
		p := &proc{env: parseEnviron([]byte(env)), seen: time.Unix(100, 0)}
		p.base = Process{ContainerID: idA, PodUID: uidDashes, Build: &build.Info{Mod: &debug.BuildInfo{}}}
		s.label(&p.base, p.env, nil)
		return p
	}
	early, late := time.Unix(105, 0), time.Unix(111, 0)

	p := process("")
	if s.leftAlone(p) || !s.awaited(p, early) || s.awaited(p, late) || p.state != Waiting {
		t.Errorf("before its pod is known: state %q: %s", p.state, p.reason)
	}
	at = &Placement{Service: "cart", Version: "v3", Labels: map[string]string{"k8s_pod_name": "cart-1"}}
	if s.leftAlone(p) || s.awaited(p, early) {
		t.Errorf("once it is known: state %q: %s", p.state, p.reason)
	}
	for _, tt := range []struct {
		name, env        string
		named            bool
		service, version string
	}{
		{"nothing else", "", false, "cart", "v3"},
		{"its environment names it", "OTEL_SERVICE_NAME=a\x00OTEL_RESOURCE_ATTRIBUTES=service.version=v1", false, "a", "v1"},
		{"its pod names it for Sonde", "OTEL_SERVICE_NAME=a", true, "cart", "v3"},
		{"so does its environment", "SONDE_SERVICE=b", true, "b", "v3"},
	} {
		at = &Placement{Service: "cart", Named: tt.named, Version: "v3", Labels: map[string]string{"k8s_pod_name": "cart-1"}}
		p := process(tt.env)
		s.leftAlone(p)
		r := p.report()
		if r.Service != tt.service || r.Version != tt.version || r.Labels["service_name"] != tt.service || r.Labels["service_version"] != tt.version || r.Labels["k8s_pod_name"] != "cart-1" {
			t.Errorf("%s: %q %q %v", tt.name, r.Service, r.Version, r.Labels)
		}
	}
	at = nil // the pod is gone, the process ends a moment later
	s.leftAlone(p)
	if r := p.report(); r.Service != "cart" {
		t.Errorf("a pod that is gone: service %q", r.Service)
	}
	at = &Placement{Off: "denied by its pod"}
	if !s.leftAlone(p) || p.state != Denied || p.reason != "denied by its pod" || !p.barred {
		t.Errorf("a pod that is to be left alone: state %q: %s", p.state, p.reason)
	}
}
