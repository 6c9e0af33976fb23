package scrape

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/sonde-io/sonde/collector/discover"
)

// TestPlanScrapesOneProcessOnce says for ways that lead to a process which of them is taken.
func TestPlanScrapesOneProcessOnce(t *testing.T) {
	const host, pod = 100, 200 // network namespaces
	networks := map[uint64][]netip.Addr{
		host: {netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1"), netip.MustParseAddr("192.0.2.7")},
		pod:  {netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("10.1.0.5"), netip.MustParseAddr("fd00::5")},
	}
	process := func(instance string, netns uint64, st discover.State, url string, ports ...string) discover.Process {
		p := discover.Process{Instance: instance, PID: len(instance), Service: instance, Labels: map[string]string{"service_name": instance, "host_name": "n1"}, NetNS: netns, State: st, Ports: ports, URL: url}
		if url != "" {
			p.Gatherer = "scrape"
		}
		return p
	}
	const base = "http://127.0.0.1:6060/debug/pprof"
	cart := process("cart", host, discover.Profiling, base, "127.0.0.1:6060")
	wide := process("cart", host, discover.Profiling, base, "0.0.0.0:6060")
	inPod := process("shop", pod, discover.Profiling, base, "[::]:6060")
	silent := process("silent", host, discover.NoEndpoint, "", "127.0.0.1:6060")
	sampled := process("sampled", host, discover.Profiling, "", "127.0.0.1:6060")
	sampled.Gatherer = "perf"
	agent := process("agent", host, discover.ByAgent, "", "0.0.0.0:6060")
	off := process("off", host, discover.Denied, "", "0.0.0.0:6060")
	off.Off, off.Reason = true, "denied by its environment: SONDE_DISABLED is set"
	denied := process("denied", host, discover.Denied, "", "0.0.0.0:6060")
	target := func(service, addr string) Target {
		return Target{Service: service, URL: "http://" + addr + "/debug/pprof"}
	}
	guessed := target("job", "10.1.0.5:6060")
	guessed.Guessed = true
	labelled := target("mine", "127.0.0.1:6060")
	labelled.Labels, labelled.Types = map[string]string{"team": "a"}, []string{"heap"}
	secret := target("mine", "127.0.0.1:6060")
	secret.HTTP.BearerTokenFile = "/token"
	for _, tt := range []struct {
		name    string
		seen    []discover.Process
		static  []Target
		sources map[string][]Target
		want    []string // instance, service, URL
		skipped []string
	}{
		{"only found", []discover.Process{cart}, nil, nil, []string{"cart cart " + base}, nil},
		{"only listed", nil, []Target{target("mine", "192.0.2.9:6060")}, nil, []string{"- mine http://192.0.2.9:6060/debug/pprof"}, nil},
		{"found and listed", []discover.Process{cart}, []Target{target("mine", "127.0.0.1:6060")}, nil, []string{"cart mine " + base}, nil},
		{"by name", []discover.Process{cart}, []Target{target("mine", "LOCALHOST:6060")}, nil, []string{"cart mine " + base}, nil},
		{"by the node's address", []discover.Process{wide}, []Target{target("mine", "192.0.2.7:6060")}, nil, []string{"cart mine " + base}, nil},
		{"by an address that it does not listen on", []discover.Process{cart}, []Target{target("mine", "192.0.2.7:6060")}, nil,
			[]string{"- mine http://192.0.2.7:6060/debug/pprof", "cart cart " + base}, nil},
		{"by every way at once", []discover.Process{wide}, []Target{target("mine", "192.0.2.7:6060")},
			map[string][]Target{"file": {target("f", "127.0.0.1:6060")}, "kubernetes": {target("k", "localhost:6060"), target("k", "[::1]:6060")}}, []string{"cart mine " + base}, nil},
		{"a pod's process by the pod's address", []discover.Process{inPod}, nil, map[string][]Target{"kubernetes": {target("k", "10.1.0.5:6060")}}, []string{"shop k " + base}, nil},
		{"a pod's process by its other address", []discover.Process{inPod}, nil, map[string][]Target{"kubernetes": {target("k", "[fd00::5]:6060")}}, []string{"shop k " + base}, nil},
		{"a guess does not rename a process", []discover.Process{inPod}, nil, map[string][]Target{"kubernetes": {guessed}}, []string{"shop shop " + base}, nil},
		{"loopback is the scanner's, not the pod's", []discover.Process{inPod}, []Target{target("mine", "127.0.0.1:6060")}, nil,
			[]string{"- mine " + base, "shop shop " + base}, nil},
		{"what listing adds is kept", []discover.Process{cart}, []Target{labelled}, nil, []string{"cart mine " + base + " [heap] map[host_name:n1 team:a]"}, nil},
		{"what the scan verified needs no secret", []discover.Process{cart}, []Target{secret}, nil, []string{"cart mine " + base}, nil},
		{"no endpoint that the scan could find", []discover.Process{silent}, []Target{{Service: "mine", URL: "https://127.0.0.1:6060/x/pprof"}}, nil, []string{"silent mine https://127.0.0.1:6060/x/pprof"}, nil},
		{"sampled from outside", []discover.Process{sampled}, []Target{target("mine", "127.0.0.1:6060")}, nil, []string{"sampled mine " + base}, nil},
		{"its agent wins", []discover.Process{agent}, []Target{target("mine", "127.0.0.1:6060")}, map[string][]Target{"file": {target("f", "192.0.2.7:6060")}}, nil, []string{"mine: reached by its agent"}},
		{"its owner wins", []discover.Process{off}, []Target{target("mine", "127.0.0.1:6060")}, nil, nil, []string{"mine: " + off.Reason}},
		{"who lists a target means it, whatever the scan may touch", []discover.Process{denied}, []Target{target("mine", "127.0.0.1:6060")}, nil, []string{"denied mine " + base}, nil},
		{"one address in two sources", nil, nil, map[string][]Target{"a": {target("a", "192.0.2.9:80")}, "b": {{Service: "b", URL: "http://192.0.2.9/debug/pprof"}}},
			[]string{"- a http://192.0.2.9:80/debug/pprof"}, nil},
		{"an agent elsewhere", nil, []Target{{Service: "far", URL: "http://10.9.9.9:6060/debug/pprof", Labels: map[string]string{"k8s_pod_name": "far-1"}}}, nil, nil, []string{"far: reached by its agent"}},
		{"two paths of one address", nil, []Target{{Service: "a", URL: "http://gw/a/debug/pprof"}, {Service: "b", URL: "http://gw/b/debug/pprof"}}, nil,
			[]string{"- a http://gw/a/debug/pprof", "- b http://gw/b/debug/pprof"}, nil},
	} {
		m, err := New(Config{Sink: newMemory(), Host: "n1", ByAgent: func(ls map[string]string) bool { return ls["k8s_pod_name"] == "far-1" && ls["service_name"] == "far" }})
		if err != nil {
			t.Fatal(err)
		}
		if err := m.SetTargets(tt.static); err != nil {
			t.Fatal(err)
		}
		for source, ts := range tt.sources {
			if err := m.SetSource(source, ts); err != nil {
				t.Fatal(err)
			}
		}
		m.report = discover.Report{Processes: tt.seen, Networks: networks, NetNS: host}
		for _, p := range tt.seen {
			if d, ok := Discovered(p, "n1"); ok {
				m.discovered = append(m.discovered, d)
			}
		}
		pl := m.planTargets(time.Unix(1000, 0))
		var got, skipped []string
		for _, p := range pl.scrape {
			instance := p.Instance
			if p.Process != nil && p.Process.PID == 0 {
				instance = "-"
			}
			s := fmt.Sprint(instance, " ", p.Service, " ", p.URL)
			if p.HTTP != (HTTPOptions{}) && instance != "-" {
				s += " with a secret"
			}
			if len(p.Types) > 0 {
				delete(p.Labels, "service_name")
				s += fmt.Sprint(" ", p.Types, " ", p.Labels)
			}
			got = append(got, s)
		}
		for _, st := range pl.skipped {
			skipped = append(skipped, st.Service+": "+st.Reason)
		}
		if !slices.Equal(got, tt.want) || !slices.Equal(skipped, tt.skipped) {
			t.Errorf("%s:\n got %q, skipped %q\nwant %q, skipped %q", tt.name, got, skipped, tt.want, tt.skipped)
		}
		shown := discover.Report{Processes: slices.Clone(tt.seen)}
		adopt(&shown, pl)
		for i, p := range shown.Processes {
			if scraped := slices.ContainsFunc(pl.scrape, func(x planned) bool { return x.Instance == p.Instance }); scraped != (p.State == discover.Profiling && p.Gatherer == "scrape") {
				t.Errorf("%s: process %d is told to be %q by %q, scraped is %v", tt.name, i, p.State, p.Gatherer, scraped)
			}
		}
	}
}

// TestPlanWaitsForTheNextProcess: a listed target whose process was replaced is not asked under another name before the next scan has found the new one.
func TestPlanWaitsForTheNextProcess(t *testing.T) {
	m, err := New(Config{Sink: newMemory(), Host: "n1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.SetTargets([]Target{{Service: "mine", URL: "http://127.0.0.1:6060/debug/pprof"}}); err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1000, 0)
	instances := func(ps ...discover.Process) (out []string) {
		m.report = discover.Report{Processes: ps, Networks: map[uint64][]netip.Addr{1: nil}, NetNS: 1}
		for _, p := range m.planTargets(now).scrape {
			out = append(out, p.Instance)
		}
		return out
	}
	p := discover.Process{Instance: "one", State: discover.NoEndpoint, NetNS: 1, Ports: []string{"127.0.0.1:6060"}}
	if got := instances(p); !slices.Equal(got, []string{"one"}) {
		t.Errorf("%q", got)
	}
	now = now.Add(10 * time.Second)
	if got := instances(); got != nil {
		t.Errorf("after its end: %q", got)
	}
	p.Instance = "two"
	if got := instances(p); !slices.Equal(got, []string{"two"}) {
		t.Errorf("after its replacement: %q", got)
	}
	now = now.Add(2 * gone)
	if got := instances(); len(got) != 1 || got[0] == "two" {
		t.Errorf("long after its end: %q, want the address alone", got)
	}
}

// TestListedNamesAreLookedUpFirst: before it is known where a name leads, its target is not scraped as that of another process.
func TestListedNamesAreLookedUpFirst(t *testing.T) {
	m, err := New(Config{Sink: newMemory(), Scanner: new(discover.Scanner)})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.SetTargets([]Target{{Service: "cart", URL: "http://cart.test:6060/debug/pprof"}}); err != nil {
		t.Fatal(err)
	}
	now := m.listedAt
	for _, tt := range []struct {
		url   string
		after time.Duration
		waits bool
	}{
		{"http://cart.test:6060/debug/pprof", 0, true},
		{"http://known.test:6060/debug/pprof", 0, false},
		{"http://cart.test:6060/debug/pprof", time.Minute, false}, // a name server that is silent does not keep it from being scraped
		{"http://localhost:6060/debug/pprof", 0, false},
		{"http://192.0.2.9:6060/debug/pprof", 0, false},
		{"http://[2001:db8::1]:6060/debug/pprof", 0, false},
	} {
		m.names["known.test"] = lookup{at: now}
		if got := m.awaitsName(&Target{URL: tt.url}, now.Add(tt.after)); got != tt.waits {
			t.Errorf("%s after %v: waits is %v", tt.url, tt.after, got)
		}
	}
}

// TestMetricsOfTargets says where the metrics of a process are read: where a listed target says, else where the scan found them, else beside the profiles.
func TestMetricsOfTargets(t *testing.T) {
	const found, said = "http://127.0.0.1:9090/metrics", "http://127.0.0.1:9191/own"
	process := func(edit func(p *discover.Process)) discover.Process {
		p := discover.Process{Instance: "cart", Identity: discover.Identity{PIDs: []int{7}}, PID: 7, Service: "cart", Ports: []string{"127.0.0.1:6060", "127.0.0.1:9090"}, NetNS: 1,
			State: discover.Profiling, Gatherer: "scrape", URL: "http://127.0.0.1:6060/debug/pprof", MetricsURL: found}
		if edit != nil {
			edit(&p)
		}
		return p
	}
	bare := func(p *discover.Process) { p.MetricsURL = "" }
	only := func(p *discover.Process) { p.State, p.Gatherer, p.URL = discover.NoEndpoint, "", "" }
	secret := HTTPOptions{BasicAuth: BasicAuth{Username: "u"}}
	listed := Target{Service: "mine", URL: "http://127.0.0.1:6060/debug/pprof"}
	for _, tt := range []struct {
		name   string
		p      discover.Process
		static []Target
		want   string
	}{
		{"found", process(nil), nil, found},
		{"found nowhere", process(bare), nil, "http://127.0.0.1:6060/metrics"},
		{"found without profiles", process(only), nil, found},
		{"found by gops", process(func(p *discover.Process) { p.Gatherer, p.GopsAddr, p.URL = "gops", "127.0.0.1:1", "" }), nil, found},
		{"gops alone", process(func(p *discover.Process) { bare(p); p.Gatherer, p.GopsAddr, p.URL = "gops", "127.0.0.1:1", "" }), nil, ""},
		{"watched from outside", process(func(p *discover.Process) { p.Gatherer, p.URL = "perf", "" }), nil, found},
		{"found, and listed", process(nil), []Target{listed}, found},
		{"listed with an own place", process(nil), []Target{{Service: "mine", URL: listed.URL, MetricsURL: said}}, said},
		{"found, and listed with profiles that the scan did not find", process(only), []Target{listed}, found},
		{"found on a port that the listed target's secret is not for", process(only), []Target{{Service: "mine", URL: listed.URL, HTTP: secret}}, "http://127.0.0.1:6060/metrics"},
	} {
		m, err := New(Config{Sink: newMemory(), Host: "n1"})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		m.ctx = ctx
		m.setReport(ctx, discover.Report{Processes: []discover.Process{tt.p}, NetNS: 1})
		if err := m.SetTargets(tt.static); err != nil {
			t.Fatal(err)
		}
		if es := m.Endpoints(); len(es) != 1 || es[0].Metrics != tt.want || es[0].Instance != "cart" {
			t.Errorf("%s: endpoints %+v, want one at %q", tt.name, es, tt.want)
		}
		// What is known later of the metrics does not disturb the profiles.
		loops := maps.Clone(m.loops)
		bare(&tt.p)
		m.setReport(ctx, discover.Report{Processes: []discover.Process{tt.p}, NetNS: 1})
		if !maps.Equal(loops, m.loops) {
			t.Errorf("%s: the loops are others", tt.name)
		}
		if n := len(m.measured); n != 0 {
			t.Errorf("%s: %d processes without metrics are measured", tt.name, n)
		}
		cancel()
		m.wg.Wait()
	}
	m, err := New(Config{Sink: newMemory()})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.SetTargets([]Target{{Service: "a", URL: listed.URL, MetricsURL: "127.0.0.1:9090/metrics"}}); err == nil {
		t.Error("no error of metrics at what is no URL")
	}
}
