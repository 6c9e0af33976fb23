package sd

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/sonde-io/sonde/collector/discover"
	"github.com/sonde-io/sonde/collector/discover/discovertest"
	"github.com/sonde-io/sonde/collector/discover/kube/kubetest"
	"github.com/sonde-io/sonde/collector/scrape"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles/store"
)

func TestMain(m *testing.M) { os.Exit(discovertest.Main(m)) }

type nowhere struct{}

func (nowhere) Append(context.Context, store.Push) error { return nil }

// inPod moves a process into a cgroup that is named as the kubelet and containerd would, or skips the test.
func inPod(t *testing.T, pid int, uid, container string) {
	t.Helper()
	root := "/sys/fs/cgroup"
	if _, err := os.Stat(root + "/cgroup.controllers"); err != nil {
		root = "/sys/fs/cgroup/memory" // version 1
	}
	top := filepath.Join(root, "sonde-test-"+strconv.Itoa(os.Getpid()))
	dirs := []string{top, top + "/kubepods", top + "/kubepods/pod" + uid, top + "/kubepods/pod" + uid + "/" + container}
	t.Cleanup(func() { // after the process has ended, as cleanups go backwards from what is made later
		for i := len(dirs) - 1; i >= 0; i-- {
			os.Remove(dirs[i])
		}
	})
	for _, dir := range dirs {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Skipf("this machine does not let the test make cgroups: %v", err)
		}
	}
	if err := os.WriteFile(dirs[3]+"/cgroup.procs", []byte(strconv.Itoa(pid)), 0); err != nil {
		t.Skipf("this machine does not let the test move a process into a cgroup: %v", err)
	}
	t.Cleanup(func() { os.WriteFile(root+"/cgroup.procs", []byte(strconv.Itoa(pid)), 0) })
}

// TestProcessOfAPodIsScrapedOnce has a process in the cgroup of a pod that asks to be scraped at an address where the process is found by itself too, and that a static list and a file name once more.
func TestProcessOfAPodIsScrapedOnce(t *testing.T) {
	const uid = "1f3c9a52-7d7e-4d5b-9c7e-0a1b2c3d4e5f"
	container := strings.Repeat("ab", 32)
	file := discovertest.Build(t)
	proc := discovertest.Start(t, file, discovertest.Options{}, "-pprof=127.0.0.1:0")
	inPod(t, proc.PID, uid, container)
	addr := proc.Addrs["pprof"]
	list := filepath.Join(t.TempDir(), "list.json")
	if err := os.WriteFile(list, []byte(fmt.Sprintf(`[{"targets":[%q],"labels":{"from":"file"}}]`, addr)), 0o600); err != nil {
		t.Fatal(err)
	}
	yes := true
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "cart-6d4f8b7c9d-x2x4z", UID: uid, Labels: map[string]string{"pod-template-hash": "6d4f8b7c9d", "team": "red"},
			Annotations:     map[string]string{"sonde.io/scrape": "true", "sonde.io/port": addr[strings.LastIndex(addr, ":")+1:], "sonde.io/types": "heap"},
			OwnerReferences: []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "cart-6d4f8b7c9d", Controller: &yes}}},
		Spec: corev1.PodSpec{NodeName: "n1", Containers: []corev1.Container{{Name: "app"}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "127.0.0.1",
			ContainerStatuses: []corev1.ContainerStatus{{Name: "app", ContainerID: "containerd://" + container}}},
	}
	m, err := New(parse(t, `
kubernetes: {node: n1}
scrape_configs:
- {job_name: listed, static_configs: [{targets: ["localhost:`+addr[strings.LastIndex(addr, ":")+1:]+`"]}], file_sd_configs: [{files: ["`+list+`"]}]}
process_relabel_configs: [{source_labels: [__meta_kubernetes_pod_label_team], target_label: team}]
`), Options{KubeClient: kubetest.Client{Interface: fake.NewSimpleClientset(pod)}})
	if err != nil {
		t.Fatal(err)
	}
	scanner, err := discover.New(discover.Config{Host: "n1", Rules: discover.Rules{AllowExes: []string{file}}, Placed: m.Placed(), Relabel: m.Relabel()})
	if err != nil {
		t.Fatal(err)
	}
	defer scanner.Close()
	scraper, err := scrape.New(scrape.Config{Sink: nowhere{}, Scanner: scanner, Host: "n1", ScanPeriod: 50 * time.Millisecond, Period: time.Second, CPUDuration: -1})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	go func() { done <- scraper.Run(ctx) }()
	go func() { done <- m.Run(ctx, scraper.SetSource) }()
	defer func() {
		cancel()
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}()
	var mine []scrape.Status
	var row catalog.Process
	waitFor(t, func() bool {
		mine = nil
		for _, st := range scraper.Status() {
			if st.PID == proc.PID || st.Static {
				mine = append(mine, st)
			}
		}
		for _, p := range scraper.Processes() {
			if p.PID == proc.PID {
				row = p
			}
		}
		return len(m.Status()) == 2 && len(mine) == 1 && mine[0].State == "profiling" && row.Labels.Get("from") == "" && row.Labels.Get("job") == "listed" && row.Labels.Get("k8s_pod_name") != ""
	})
	want := map[string]string{"service_name": "cart", "team": "red", "k8s_namespace_name": "shop", "k8s_deployment_name": "cart", "k8s_container_name": "app", "k8s_node_name": "n1", "k8s_pod_uid": uid,
		"container_id": container, "process_pid": strconv.Itoa(proc.PID)}
	for k, v := range want {
		if got := row.Labels.Get(k); got != v {
			t.Errorf("label %s=%q, want %q", k, got, v)
		}
	}
	if mine[0].URL != "http://"+addr+"/debug/pprof" || mine[0].Service != "cart" {
		t.Errorf("%+v", mine[0])
	}
}
