package kube

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	ktesting "k8s.io/client-go/testing"

	"github.com/sonde-io/sonde/collector/discover/discovertest"
	"github.com/sonde-io/sonde/collector/discover/kube/kubetest"
)

// watching is a Watcher that runs, and what it told last.
type watching struct {
	*Watcher
	tellMu sync.Mutex
	told   []Target
	n      int
}

func (w *watching) last() ([]Target, int) {
	w.tellMu.Lock()
	defer w.tellMu.Unlock()
	return w.told, w.n
}

// watchers counts those that run: the last one looks for goroutines.
var watchers atomic.Int32

// watch runs a Watcher until the test ends.
func watch(t *testing.T, cfg Config, client Client) *watching {
	t.Helper()
	w, err := New(cfg, Options{Client: client, Settle: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	out := &watching{Watcher: w}
	watchers.Add(1)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() {
		done <- w.Run(ctx, func(ts []Target) {
			out.tellMu.Lock()
			defer out.tellMu.Unlock()
			out.told = ts
			out.n++
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
		if watchers.Add(-1) > 0 {
			return
		}
		if stacks := discovertest.Leaked("discover/kube"); stacks != "" {
			t.Errorf("goroutines left behind:\n%s", stacks)
		}
	})
	return out
}

// until waits until ok says so. The limit only ends a test that would hang.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(90 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func asking(p *corev1.Pod) { p.Annotations["sonde.io/scrape"] = "true" }

func TestWatchFollowsPods(t *testing.T) {
	first := pod("cart-0", func(p *corev1.Pod) { ownedBy("StatefulSet", "cart")(p); asking(p) }, "app", "side")
	client := fake.NewSimpleClientset(first)
	var mu sync.Mutex
	var asked []string
	client.PrependReactor("list", "pods", func(a ktesting.Action) (bool, runtime.Object, error) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, a.(ktesting.ListAction).GetListRestrictions().Fields.String())
		return false, nil, nil
	})
	w := watch(t, Config{Node: "n1"}, kubetest.Client{Interface: client})
	until(t, "the first pod", func() bool { ts, _ := w.last(); return len(ts) == 1 })
	mu.Lock()
	if len(asked) == 0 || asked[0] != "spec.nodeName=n1" {
		t.Errorf("asked for %q", asked)
	}
	mu.Unlock()

	app := w.Placed("cart-0-app", string(first.UID), "")
	if app == nil || app.Labels["k8s_container_name"] != "app" || app.Service != "cart" {
		t.Fatalf("by its id: %+v", app)
	}
	if p := w.Placed("", string(first.UID), "side"); p == nil || p.Labels["k8s_container_name"] != "side" {
		t.Errorf("by its name: %+v", p)
	}
	if p := w.Placed("sandbox", string(first.UID), ""); p == nil || p.Labels["k8s_container_name"] != "" || p.Labels["k8s_pod_name"] != "cart-0" {
		t.Errorf("by the pod alone: %+v", p)
	}
	if p := w.Placed("docker", "", ""); p != nil {
		t.Errorf("of a container of nobody: %+v", p)
	}
	if p := w.Placed("", "", ""); p != nil {
		t.Errorf("of no container: %+v", p)
	}

	pods := client.CoreV1().Pods("shop")
	ctx := context.Background()
	first.Status.PodIP = "10.1.0.6"
	if _, err := pods.Update(ctx, first, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	until(t, "its new address", func() bool { ts, _ := w.last(); return len(ts) == 1 && ts[0]["__address__"] == "10.1.0.6:6060" })
	if again := w.Placed("cart-0-app", string(first.UID), ""); again != app {
		t.Error("what did not change of a pod is told anew")
	}

	young := pod("cart-1", ownedBy("StatefulSet", "cart"), "app", "side")
	young.Status.ContainerStatuses = nil
	static := pod("etcd-n1", func(p *corev1.Pod) {
		ownedBy("Node", "n1")(p)
		p.Annotations["kubernetes.io/config.hash"] = "e5ad1a8ee9c31ea2f4d4bd4bdbb0e5cd"
	}, "etcd")
	for _, p := range []*corev1.Pod{young, static} {
		if _, err := pods.Create(ctx, p, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "a static pod", func() bool {
		p := w.Placed("x", "e5ad1a8ee9c31ea2f4d4bd4bdbb0e5cd", "")
		return p != nil && p.Service == "etcd"
	})
	if p := w.Placed("new", string(young.UID), ""); p != nil {
		t.Errorf("a container that the API server does not know yet: %+v", p)
	}
	if err := pods.Delete(ctx, "cart-0", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	until(t, "the end of the first pod", func() bool {
		ts, _ := w.last()
		return len(ts) == 0 && w.Placed("cart-0-app", string(first.UID), "") == nil
	})
	w.mu.RLock()
	defer w.mu.RUnlock()
	if len(w.ids) != 1 || len(w.pods) != 3 || len(w.byName) != 2 {
		t.Errorf("kept %d containers, %d uids, %d names", len(w.ids), len(w.pods), len(w.byName))
	}
}

func TestWatchSaysWhatItMayNot(t *testing.T) {
	client := fake.NewSimpleClientset(pod("cart-0", asking, "app"))
	var mu sync.Mutex
	refuse := true
	client.PrependReactor("list", "pods", func(ktesting.Action) (bool, runtime.Object, error) {
		mu.Lock()
		defer mu.Unlock()
		if refuse {
			return true, nil, apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "", errors.New("no role"))
		}
		return false, nil, nil
	})
	w := watch(t, Config{Node: "*"}, kubetest.Client{Interface: client})
	until(t, "the refusal", func() bool { return w.Failing() != "" })
	if _, n := w.last(); n != 0 {
		t.Error("targets were told although none could be read")
	}
	mu.Lock()
	refuse = false
	mu.Unlock()
	until(t, "the pods once they may be read", func() bool { ts, _ := w.last(); return len(ts) == 1 && w.Failing() == "" })
}

func TestWatchNamespaces(t *testing.T) {
	other := pod("cart-1", asking, "app")
	other.Namespace = "bank"
	left := pod("cart-2", asking, "app")
	left.Namespace = "left"
	w := watch(t, Config{Node: "*", Namespaces: []string{"shop", "bank"}}, kubetest.Client{Interface: fake.NewSimpleClientset(pod("cart-0", asking, "app"), other, left)})
	until(t, "two namespaces", func() bool { ts, _ := w.last(); return len(ts) == 2 })
	ts, _ := w.last()
	if ts[0]["k8s_namespace_name"] != "bank" || ts[1]["k8s_namespace_name"] != "shop" {
		t.Errorf("%v", ts)
	}
}

func TestNewWithoutACluster(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	if _, err := New(Config{}, Options{}); !errors.Is(err, errNoCluster) {
		t.Errorf("%v", err)
	}
	if _, err := New(Config{Kubeconfig: "/none"}, Options{}); err == nil {
		t.Error("no error of a kubeconfig that is not there")
	}
}
