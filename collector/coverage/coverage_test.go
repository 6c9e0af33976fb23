package coverage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sonde-io/sonde/collector/discover"
	"github.com/sonde-io/sonde/internal/catalog"
)

func TestUnitOf(t *testing.T) {
	for cgroup, want := range map[string]string{
		"/system.slice/etcd.service":                                        "etcd.service",
		"/system.slice/system-getty.slice/getty@tty1.service":               "getty@tty1.service",
		"/system.slice/delegating.service/init":                             "delegating.service",
		"/user.slice/user-1000.slice/user@1000.service/app.slice/x.service": "x.service",
		"/system.slice/docker-0123.scope":                                   "",
		"/system.slice/containerd.service/kubepods-burstable.slice/cri":     "",
		"/kubepods/besteffort/pod1234/abcd":                                 "",
		"/user.slice/user-1000.slice/session-3.scope":                       "",
		"/": "", "": "",
	} {
		if got := UnitOf(cgroup); got != want {
			t.Errorf("UnitOf(%q) = %q, want %q", cgroup, got, want)
		}
	}
}

var epoch = time.UnixMilli(1_795_000_200_000)

func scan(at time.Time, ps ...discover.Process) discover.Report {
	return discover.Report{Time: at, Processes: ps, Unknown: 2}
}

func process(pid int, change func(p *discover.Process)) discover.Process {
	p := discover.Process{Identity: discover.Identity{BootID: "boot", PIDNS: 4026531836, StartTicks: uint64(100 + pid), PIDs: []int{pid}}, PID: pid,
		Exe: "/usr/bin/etcd", Service: "etcd", Started: epoch.Add(-time.Hour), State: discover.NoEndpoint, Reason: "no endpoint: it listens on no TCP port"}
	p.Instance = p.Identity.Instance()
	if change != nil {
		change(&p)
	}
	return p
}

func TestReportOfAScan(t *testing.T) {
	r := scan(epoch,
		process(1, func(p *discover.Process) { p.State, p.Reason = discover.SelfProcess, "is Sonde itself" }),
		process(2, func(p *discover.Process) { p.Cgroup = "/system.slice/etcd.service" }),
		process(3, func(p *discover.Process) {
			p.PIDs, p.PIDNS, p.ContainerID, p.Cgroup = []int{3, 1}, 7, "c0ffee", "/system.slice/containerd.service/x"
			p.Labels = map[string]string{"k8s_pod_name": "cart-1", "k8s_namespace_name": "shop"}
			p.State, p.Reason, p.Gatherer = discover.Profiling, "kernel frames need CAP_SYSLOG", "perf"
		}),
		process(4, func(p *discover.Process) { p.Started = epoch.Add(-time.Second) }), // a compiler, say
		process(5, func(p *discover.Process) { p.Started, p.Gatherer, p.Reason = epoch, "agent", "" }),
		process(6, func(p *discover.Process) { p.PodUID, p.Reason, p.State = "77aa", "", "another state" }),
	)
	rep := from(&r, "n1", "sidecar", func(instance string) []string {
		if instance == r.Processes[2].Instance {
			return []string{"heap: memory profiling was linked out"}
		}
		return nil
	})
	got := map[int]Item{}
	for _, it := range rep.Items {
		got[it.PID] = it
	}
	if len(got) != 4 || rep.Boot != "boot" || rep.Unknown != 2 || !reflect.DeepEqual(rep.Namespaces, []uint64{7, 4026531836}) {
		t.Fatalf("report %+v", rep)
	}
	if it := got[2]; it.Unit != "etcd.service" || it.Watched() || it.Reason == "" || it.Exe != "etcd" || it.Inner != 0 || it.Ticks != 102 {
		t.Errorf("unit %+v", it)
	}
	if it := got[3]; it.Pod != "shop/cart-1" || it.Unit != "" || !it.Watched() || it.Inner != 1 || it.Reason != "" ||
		!reflect.DeepEqual(it.Partial, []string{"kernel frames need CAP_SYSLOG", "heap: memory profiling was linked out"}) {
		t.Errorf("container %+v", it)
	}
	if it := got[6]; it.Pod != "uid/77aa" || it.Reason != "not watched: another state" {
		t.Errorf("pod without a name %+v", it)
	}
	encoded, err := rep.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := Decode(encoded)
	if err != nil || !reflect.DeepEqual(back, rep) {
		t.Errorf("decoded\n%+v, %v, want\n%+v", back, err, rep)
	}
}

// TestReportIsBounded has far more on one node than a report holds: what is left out is counted.
func TestReportIsBounded(t *testing.T) {
	r := scan(epoch)
	for pid := range MaxItems + 100 {
		r.Processes = append(r.Processes, process(pid+1, nil))
	}
	rep := from(&r, "n1", "sidecar", nil)
	encoded, err := rep.Encode()
	if err != nil || len(rep.Items) != MaxItems || rep.More != 100 || len(encoded) > MaxEncoded {
		t.Errorf("%d items, %d more, %d bytes, %v", len(rep.Items), rep.More, len(encoded), err)
	}
	t.Logf("%d bytes gzipped for each of %d processes", len(encoded)/len(rep.Items), len(rep.Items))
	rep.Items, rep.More = rep.Items[:2500], 0
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range rep.Items { // what does not shrink
		var b strings.Builder
		for b.Len() < maxText {
			fmt.Fprintf(&b, "%016x", rng.Uint64())
		}
		rep.Items[i].Reason = b.String()
	}
	encoded, err = rep.Encode()
	if err != nil || len(encoded) > MaxEncoded {
		t.Fatalf("%d bytes, %v", len(encoded), err)
	}
	back, err := Decode(encoded)
	if err != nil || len(back.Items)+back.More != 2500 || back.More == 0 {
		t.Errorf("%d items and %d more, %v; want 2500 in all", len(back.Items), back.More, err)
	}
}

// TestReporterPaces: a report when something changed, at most every 15 s, and one a minute; one that failed is made up for.
func TestReporterPaces(t *testing.T) {
	var sent []*Report
	var fail error
	r := New(Config{Node: "n1", Gatherer: "sidecar", Deliver: func(_ context.Context, node string, encoded []byte) error {
		if fail != nil {
			return fail
		}
		rep, err := Decode(encoded)
		if err != nil || node != "n1" {
			t.Errorf("node %s: %v", node, err)
		}
		sent = append(sent, rep)
		return nil
	}})
	ps := []discover.Process{process(2, nil)}
	for _, step := range []struct {
		after time.Duration
		ps    []discover.Process
		fail  error
		sent  int // so far
	}{
		{0, ps, nil, 1}, {5 * time.Second, ps, nil, 1}, {15 * time.Second, ps, nil, 1}, {60 * time.Second, ps, nil, 2},
		{65 * time.Second, nil, nil, 2}, {80 * time.Second, nil, nil, 3}, {96 * time.Second, ps, errors.New("away"), 3}, {100 * time.Second, ps, nil, 3}, {112 * time.Second, ps, nil, 4},
		{50 * time.Second, ps, nil, 5}, // the clock was set back
	} {
		fail = step.fail
		r.Report(t.Context(), scan(epoch.Add(step.after), step.ps...))
		if len(sent) != step.sent {
			t.Errorf("after %v %d reports were sent, want %d", step.after, len(sent), step.sent)
		}
	}
}

// TestReporterLeaves: one that is stopped says so, if anybody has heard of it.
func TestReporterLeaves(t *testing.T) {
	var last *Report
	r := New(Config{Node: "n1", Gatherer: "sidecar", Redact: func(s string) string { return strings.ReplaceAll(s, "TCP", "[redacted]") }, Deliver: func(_ context.Context, _ string, encoded []byte) (err error) {
		last, err = Decode(encoded)
		return err
	}})
	if err := r.Leave(t.Context()); err != nil || last != nil {
		t.Errorf("%+v, %v", last, err)
	}
	r.Report(t.Context(), scan(epoch, process(2, func(p *discover.Process) { p.Labels = map[string]string{"k8s_node_name": "worker-7"} })))
	if last == nil || last.Items[0].Reason != "no endpoint: it listens on no [redacted] port" || last.Node != "n1" || last.Name != "worker-7" || last.Left {
		t.Errorf("report %+v", last)
	}
	if err := r.Leave(t.Context()); err != nil || !last.Left || len(last.Items) != 0 {
		t.Errorf("left %+v, %v", last, err)
	}
}

type keeper struct {
	got []catalog.Expected
	err error
}

func (k *keeper) PutExpected(_ context.Context, e catalog.Expected) error {
	k.got = append(k.got, e)
	return k.err
}

// TestOverHTTP sends a report from a sidecar's Reporter to a collector's Receiver.
func TestOverHTTP(t *testing.T) {
	k := &keeper{}
	srv := httptest.NewServer(NewReceiver(ReceiverConfig{Catalog: k}))
	defer srv.Close()
	r := New(Config{Node: "n1", Gatherer: "sidecar", Deliver: Post(srv.URL, srv.Client())})
	r.Report(t.Context(), scan(epoch, process(2, nil)))
	if len(k.got) != 1 || k.got[0].Node != "n1" || k.got[0].Reported != 0 {
		t.Fatalf("stored %+v", k.got)
	}
	if rep, err := Decode(k.got[0].Report); err != nil || len(rep.Items) != 1 {
		t.Errorf("%+v, %v", rep, err)
	}
	post := func(body []byte) int {
		t.Helper()
		resp, err := srv.Client().Post(srv.URL+"/api/v1/coverage", "application/json", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode
	}
	for want, body := range map[int]string{
		422: `{"v":1,"node":"two words","items":[]}`, 413: strings.Repeat(" ", MaxEncoded+1), 200: `{"v":1,"node":"n2","items":[]}`,
	} {
		if got := post([]byte(body)); got != want {
			t.Errorf("%.40s is answered %d, want %d", body, got, want)
		}
	}
	k.err = fmt.Errorf("put: %w", catalog.ErrTooMany)
	if got := post([]byte(`{"v":1,"node":"n3","items":[]}`)); got != http.StatusTooManyRequests {
		t.Errorf("one node too many is answered %d", got)
	}
	k.err = errors.New("the disk is full")
	if got := post([]byte(`{"v":1,"node":"n2","items":[]}`)); got != http.StatusServiceUnavailable {
		t.Errorf("answered %d where the catalogue fails", got)
	}
	if err := Post(srv.URL, srv.Client())(t.Context(), "n1", []byte("x")); err == nil || !strings.Contains(err.Error(), "422") {
		t.Errorf("a refused report: %v", err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	bomb := func() []byte {
		b, err := encode(&Report{V: 1, Node: strings.Repeat("a", maxDecoded+1)})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for name, data := range map[string][]byte{
		"empty": nil, "not JSON": []byte("x"), "another version": []byte(`{"v":2,"node":"a"}`), "no node": []byte(`{"v":1}`), "cut": {0x1f, 0x8b, 8}, "bomb": bomb(),
		"no instance": []byte(`{"v":1,"node":"a","items":[{}]}`), "negative": []byte(`{"v":1,"node":"a","more":-1}`), "long": []byte(`{"v":1,"node":"a","items":[{"i":"x","s":"` + strings.Repeat("s", maxText+1) + `"}]}`),
		"lacks": []byte(`{"v":1,"node":"a","items":[{"i":"x","part":["1","2","3","4","5","6","7","8","9"]}]}`),
	} {
		if _, err := Decode(data); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	rep := from(&discover.Report{Time: epoch, Processes: []discover.Process{process(2, nil)}}, "n1", "sidecar", nil)
	encoded, err := rep.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(encoded)
	f.Add([]byte(`{"v":1,"node":"n1","items":[{"i":"a","r":"no endpoint"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		rep, err := Decode(data)
		if err != nil {
			return
		}
		again, err := rep.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if back, err := Decode(again); err != nil || len(back.Items)+back.More != len(rep.Items)+rep.More {
			t.Errorf("a report that was read cannot be read again: %v", err)
		}
		for _, it := range rep.Items {
			Classify(it.Reason)
			UnitOf(it.Unit)
		}
	})
}

func TestClassify(t *testing.T) {
	if c := Classify("memory: a read failed: at 0x1"); c.Reason != "memory: a read failed" || c.Chosen {
		t.Errorf("%+v", c)
	}
	for reason, want := range map[string]string{
		"perf needs CAP_PERFMON and CAP_SYS_PTRACE (CAP_PERFMON is missing)": "missing capability CAP_PERFMON and CAP_SYS_PTRACE",
		"denied by uid rule: uid 7":                                   "denied by rule (uid)",
		"denied by path rule: /usr/bin/x":                             "denied by rule (path)",
		"pclntab of go1.17 is not supported":                          "Go version not supported: go1.17",
		"heap: memory profiling was linked out of this binary":        "memory profiling was linked out",
		"no endpoint: it listens on no TCP port":                      "it has no endpoint, and perf is not on",
		"has the agent built in, whose first push is awaited for 10s": "the agent's first push is awaited",
		"no endpoint: it listens on no TCP port; perf: process of uid 7: CAP_SYS_PTRACE is missing; memory: CAP_SYS_PTRACE is missing": "missing capability CAP_SYS_PTRACE",
		"no endpoint: it listens on no TCP port; perf: its Go version go1.31 is not known to this Sonde":                               "Go version not supported: go1.31",
		"no endpoint: it listens on no TCP port; perf: its binary cannot be read: input/output error":                                  "perf cannot watch it: its binary cannot be read",
		"heap: the linker left memory profiling out, because nothing in the program uses runtime.MemProfile or runtime/pprof":          "memory profiling was linked out",
		"heap: the program has set runtime.MemProfileRate to 0":                                                                        "memory profiling is off",
		"block: the program does not turn block profiles on: it never calls runtime.SetBlockProfileRate":                               "mutex or block profiles are not turned on",
		OnlyRun:                     "started by sonde run, and nothing profiles it",
		"something new: with pid 7": "something new",
	} {
		if got := Classify(reason); got.Reason != want || got.Cure == "" && want != "something new" {
			t.Errorf("Classify(%q) = %+v, want %q", reason, got, want)
		}
	}
}
