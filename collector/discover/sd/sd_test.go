package sd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/sonde-io/sonde/collector/discover"
	"github.com/sonde-io/sonde/collector/scrape"
)

func parse(t *testing.T, text string) Config {
	t.Helper()
	c, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// told is what Run told, by source.
type told struct {
	mu   sync.Mutex
	last map[string][]scrape.Target
	n    map[string]int
}

func (x *told) set(source string, ts []scrape.Target) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.last[source] = ts
	x.n[source]++
	return nil
}

// of returns what was told last of a source, and how often it was told.
func (x *told) of(source string) ([]scrape.Target, int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.last[source], x.n[source]
}

func (x *told) urls(source string) (out []string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, t := range x.last[source] {
		out = append(out, t.Service+" "+t.URL)
	}
	return out
}

// start runs a Manager and returns what it tells and how to end it.
func start(t *testing.T, m *Manager) (x *told, stop func()) {
	t.Helper()
	x = &told{last: map[string][]scrape.Target{}, n: map[string]int{}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx, x.set) }()
	return x, func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	}
}

func TestStaticTargetsAreRelabeled(t *testing.T) {
	m, err := New(parse(t, `
scrape_configs:
- job_name: shop
  types: [cpu, heap]
  bearer_token_file: /token
  tls_config: {insecure_skip_verify: true}
  static_configs:
  - targets: ["a.test:6060", "b.test", "[2001:db8::1]:6060", "drop.test:1", "10.0.0.1:1"]
    labels: {team: red, __meta_zone: z1}
  relabel_configs:
  - {source_labels: [__address__], regex: 'drop\..*', action: drop}
  - {source_labels: [__meta_zone], target_label: zone}
  - {source_labels: [__address__], regex: '([a-z])\.test.*', target_label: service_name, replacement: 'svc-$1'}
  - {source_labels: [__address__], regex: 'b.*', target_label: __scheme__, replacement: https}
  - {source_labels: [__address__], regex: 'b.*', target_label: __profile_path__, replacement: /x/pprof/}
  - {source_labels: [__address__], regex: '10\..*', target_label: __profile_types__, replacement: 'cpu'}
- job_name: keep
  metrics_path: /admin/metrics
  static_configs: [{targets: ["a:1", "b:2"]}]
  relabel_configs: [{source_labels: [__address__], regex: 'b:.*', action: keep}]
`), Options{})
	if err != nil {
		t.Fatal(err)
	}
	x, stop := start(t, m)
	defer stop()
	waitFor(t, func() bool { return len(x.urls("job/keep")) > 0 && len(x.urls("job/shop")) > 0 })
	want := []string{"svc-a http://a.test:6060/debug/pprof", "svc-b https://b.test:443/x/pprof", "shop http://[2001:db8::1]:6060/debug/pprof", "shop http://10.0.0.1:1/debug/pprof"}
	if got := x.urls("job/shop"); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := x.urls("job/keep"); !slices.Equal(got, []string{"keep http://b:2/debug/pprof"}) {
		t.Errorf("%q", got)
	}
	if kept, _ := x.of("job/keep"); kept[0].MetricsURL != "http://b:2/admin/metrics" {
		t.Errorf("metrics at %q", kept[0].MetricsURL)
	}
	ts, _ := x.of("job/shop")
	if a := ts[0]; fmt.Sprint(a.Labels) != "map[job:shop team:red zone:z1]" || a.Guessed || !slices.Equal(a.Types, []string{"cpu", "heap"}) || a.HTTP.BearerTokenFile != "/token" || !a.HTTP.TLS.InsecureSkipVerify {
		t.Errorf("%+v", a)
	}
	if c := ts[3]; !c.Guessed || !slices.Equal(c.Types, []string{"cpu"}) {
		t.Errorf("%+v", c)
	}
	st := m.Status()
	if len(st) != 2 || st[1].Source != "job/shop" || st[1].Targets != 4 || st[1].Dropped != 1 || st[1].LastError != "" || st[1].Refreshed.IsZero() {
		t.Errorf("%+v", st)
	}
}

// waitFor waits for what happens at once on a machine that has time.
func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited in vain")
		}
	}
}

func TestFilesAreFollowed(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, at int) {
		t.Helper()
		tmp := filepath.Join(dir, "new")
		if err := os.WriteFile(tmp, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		when := time.Unix(int64(1_000_000+at), 0)
		if err := errors.Join(os.Chtimes(tmp, when, when), os.Rename(tmp, filepath.Join(dir, name))); err != nil {
			t.Fatal(err)
		}
	}
	cfg := parse(t, `
scrape_configs:
- job_name: shop
  file_sd_configs: [{files: ["`+dir+`/*.json", "`+dir+`/more.yml"]}]
  relabel_configs: [{source_labels: [__meta_filepath], regex: '.*/(.*)', target_label: file}]
`)
	synctest.Test(t, func(t *testing.T) {
		m, err := New(cfg, Options{})
		if err != nil {
			t.Fatal(err)
		}
		write("a.json", `[{"targets":["a:1"],"labels":{"service_name":"cart"}}]`, 0)
		x, stop := start(t, m)
		defer stop()
		step := func(what string, want ...string) {
			t.Helper()
			time.Sleep(filePoll)
			synctest.Wait()
			if got := x.urls("job/shop"); !slices.Equal(got, want) {
				t.Errorf("%s: %q, want %q", what, got, want)
			}
		}
		const a, b, y = "cart http://a:1/debug/pprof", "cart http://b:1/debug/pprof", "shop http://y:2/debug/pprof"
		step("at first", a)
		write("more.yml", "- targets: ['y:2']\n", 0)
		step("another file", a, y)
		write("a.json", `[{"targets":["b:1"],"labels":{"service_name":"cart"}}]`, 1)
		step("changed", b, y)
		_, before := x.of("job/shop")
		write("a.json", `[{"targets":["c:1"`, 2)
		step("half written", b, y)
		if st := m.Status()[0]; !strings.Contains(st.LastError, "a.json") || st.Targets != 2 {
			t.Errorf("%+v", st)
		}
		write("a.json", `[{"targets":["c:1"],"labls":{}}]`, 3)
		step("an unknown key", b, y)
		if _, n := x.of("job/shop"); n != before {
			t.Error("targets that did not change were told again")
		}
		write("a.json", `[]`, 4)
		step("empty", y)
		if st := m.Status()[0]; st.LastError != "" {
			t.Errorf("%+v", st)
		}
		if ts, _ := x.of("job/shop"); ts[0].Labels["file"] != "more.yml" {
			t.Errorf("labels %v", ts[0].Labels)
		}
		if err := os.Remove(filepath.Join(dir, "more.yml")); err != nil {
			t.Fatal(err)
		}
		step("removed")
	})
}

// nameServer answers over UDP on loopback what zone says; a name that is not in it does not exist. It is silent while mute says so.
type nameServer struct {
	conn net.PacketConn
	mu   sync.Mutex
	zone map[string][]dnsmessage.ResourceBody
	mute bool
}

func newNameServer(t *testing.T) *nameServer {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &nameServer{conn: conn, zone: map[string][]dnsmessage.ResourceBody{}}
	done := make(chan struct{})
	go func() { defer close(done); s.serve() }()
	t.Cleanup(func() { conn.Close(); <-done })
	return s
}

func (s *nameServer) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", s.conn.LocalAddr().String())
	}}
}

func (s *nameServer) set(mute bool, zone map[string][]dnsmessage.ResourceBody) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mute, s.zone = mute, zone
}

func (s *nameServer) serve() {
	buf := make([]byte, 4096)
	for {
		n, from, err := s.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		var q dnsmessage.Message
		if q.Unpack(buf[:n]) != nil || len(q.Questions) != 1 {
			continue
		}
		s.mu.Lock()
		bodies, ok := s.zone[q.Questions[0].Name.String()]
		mute := s.mute
		s.mu.Unlock()
		a := dnsmessage.Message{Header: dnsmessage.Header{ID: q.ID, Response: true, Authoritative: true, RecursionAvailable: true}, Questions: q.Questions}
		if mute {
			a.RCode = dnsmessage.RCodeServerFailure
		} else if !ok {
			a.RCode = dnsmessage.RCodeNameError
		}
		for _, b := range bodies {
			h := dnsmessage.ResourceHeader{Name: q.Questions[0].Name, Class: dnsmessage.ClassINET, TTL: 1}
			if rec, is := typeOf(b); is == q.Questions[0].Type {
				h.Type = is
				a.Answers = append(a.Answers, dnsmessage.Resource{Header: h, Body: rec})
			}
		}
		if out, err := a.Pack(); err == nil {
			s.conn.WriteTo(out, from)
		}
	}
}

func typeOf(b dnsmessage.ResourceBody) (dnsmessage.ResourceBody, dnsmessage.Type) {
	switch b.(type) {
	case *dnsmessage.SRVResource:
		return b, dnsmessage.TypeSRV
	case *dnsmessage.AResource:
		return b, dnsmessage.TypeA
	case *dnsmessage.AAAAResource:
		return b, dnsmessage.TypeAAAA
	case *dnsmessage.MXResource:
		return b, dnsmessage.TypeMX
	}
	return b, dnsmessage.TypeNS
}

func TestNamesAreLookedUp(t *testing.T) {
	s := newNameServer(t)
	srv := func(host string, port uint16) dnsmessage.ResourceBody {
		return &dnsmessage.SRVResource{Target: dnsmessage.MustNewName(host), Port: port}
	}
	zone := map[string][]dnsmessage.ResourceBody{
		"_pprof._tcp.shop.test.": {srv("b.shop.test.", 2), srv("a.shop.test.", 1)},
		"shop.test.":             {&dnsmessage.AResource{A: [4]byte{192, 0, 2, 9}}, &dnsmessage.AAAAResource{AAAA: [16]byte{0x20, 1, 0xd, 0xb8, 15: 1}}, &dnsmessage.MXResource{MX: dnsmessage.MustNewName("mx.test.")}},
	}
	s.set(false, zone)
	for _, tt := range []struct {
		cfg  DNSSD
		name string
		want []string
	}{
		{DNSSD{}, "_pprof._tcp.shop.test.", []string{"a.shop.test:1 a.shop.test.", "b.shop.test:2 b.shop.test."}},
		{DNSSD{Type: "a", Port: 80}, "shop.test.", []string{"192.0.2.9:80 "}},
		{DNSSD{Type: "AAAA", Port: 80}, "shop.test.", []string{"[2001:db8::1]:80 "}},
		{DNSSD{Type: "MX", Port: 25}, "shop.test.", []string{"mx.test:25 "}},
		{DNSSD{}, "_none._tcp.shop.test.", nil},
	} {
		sets, err := lookUp(context.Background(), s.resolver(), tt.cfg, tt.name)
		var got []string
		for _, x := range sets {
			got = append(got, x["__address__"]+" "+x["__meta_dns_srv_record_target"])
			if x["__meta_dns_name"] != tt.name {
				t.Errorf("__meta_dns_name=%q", x["__meta_dns_name"])
			}
		}
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%s %s: %q, %v; want %q", tt.cfg.Type, tt.name, got, err, tt.want)
		}
	}

	m, err := New(parse(t, `
scrape_configs:
- job_name: shop
  dns_sd_configs: [{names: [_pprof._tcp.shop.test.], refresh_interval: 1s}]
`), Options{Resolver: s.resolver()})
	if err != nil {
		t.Fatal(err)
	}
	x, stop := start(t, m)
	defer stop()
	waitFor(t, func() bool { return len(x.urls("job/shop")) == 2 })
	s.set(true, zone) // it fails: what was known stays
	waitFor(t, func() bool { return m.Status()[0].LastError != "" })
	if got := x.urls("job/shop"); len(got) != 2 {
		t.Errorf("while the name server fails: %q", got)
	}
	s.set(false, map[string][]dnsmessage.ResourceBody{"_pprof._tcp.shop.test.": zone["_pprof._tcp.shop.test."][:1]})
	waitFor(t, func() bool { return len(x.urls("job/shop")) == 1 && m.Status()[0].LastError == "" })
}

func TestProcessesAreRelabeled(t *testing.T) {
	m, err := New(parse(t, `
process_relabel_configs:
- {source_labels: [__meta_process_exe], regex: /usr/bin/.*, action: drop}
- {source_labels: [__meta_kubernetes_pod_label_team], target_label: team}
- {source_labels: [service_name, __meta_process_uid], separator: "-", target_label: service_name}
- {regex: secret, action: labeldrop}
`), Options{})
	if err != nil {
		t.Fatal(err)
	}
	rule := m.Relabel()
	p := &discover.Process{Exe: "/app/cart", UID: 7, Labels: map[string]string{"service_name": "cart", "secret": "x"}}
	at := &discover.Placement{Meta: func() map[string]string { return map[string]string{"__meta_kubernetes_pod_label_team": "red"} }}
	if !rule(p, at) || fmt.Sprint(p.Labels) != "map[service_name:cart-7 team:red]" {
		t.Errorf("%v", p.Labels)
	}
	if rule(&discover.Process{Exe: "/usr/bin/x"}, nil) {
		t.Error("what a rule drops is kept")
	}
	none, err := New(Config{}, Options{})
	if err != nil || none.Relabel() != nil || none.Placed() != nil {
		t.Errorf("without rules: %v", err)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"scrape_configs: [{job_name: a, metrics_path: x}]", "metrics_path"},
		{"scrape_configs: [{job_name: a, sample_limit: 1}]", "sample_limit"},
		{"scrape_configs: [{job_name: a}, {job_name: a}]", "two jobs"},
		{"scrape_configs: [{}]", "job_name"},
		{"scrape_configs: [{job_name: a, scheme: ftp}]", "neither http nor https"},
		{"scrape_configs: [{job_name: a, types: ['../x']}]", "type of profile"},
		{"scrape_configs: [{job_name: a, static_configs: [{targets: ['http://a']}]}]", "host:port"},
		{"scrape_configs: [{job_name: a, static_configs: [{targets: ['a:0']}]}]", "host:port"},
		{"scrape_configs: [{job_name: a, static_configs: [{targets: ['a:1'], labels: {'a-b': c}}]}]", "not a label"},
		{"scrape_configs: [{job_name: a, file_sd_configs: [{files: [a.txt]}]}]", ".json"},
		{"scrape_configs: [{job_name: a, file_sd_configs: [{files: ['*/a.json']}]}]", "last part"},
		{"scrape_configs: [{job_name: a, dns_sd_configs: [{names: [a], type: A}]}]", "need one"},
		{"scrape_configs: [{job_name: a, dns_sd_configs: [{names: [a], type: TXT}]}]", "is none of"},
		{"scrape_configs: [{job_name: a, dns_sd_configs: [{names: [a], refresh_interval: 10ms}]}]", "shorter than"},
		{"scrape_configs: [{job_name: a, relabel_configs: [{action: replace, target_label: 'a b'}]}]", "target_label"},
		{"scrape_configs: [{job_name: a, relabel_configs: [{acton: keep}]}]", "acton"},
		{"scrape_configs: [{job_name: a, basic_auth: {username: a}, bearer_token_file: b}]", "more than one"},
		{"process_relabel_configs: [{action: fly}]", "fly"},
		{"kubernetes: {scrape: some}", "none of annotated"},
		{"kubernetes: {nodes: a}", "nodes"},
	} {
		if _, err := Parse([]byte(tt.text)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want one with %q", tt.text, err, tt.want)
		}
	}
	if c := parse(t, ""); c.Enabled() {
		t.Error("nothing is something")
	}
	if c := parse(t, "kubernetes: {}"); !c.Enabled() || c.Kubernetes == nil {
		t.Errorf("%+v", c)
	}
}

// FuzzGroups reads files as anybody may write them, and makes targets of them.
func FuzzGroups(f *testing.F) {
	f.Add([]byte(`[{"targets":["a:1"],"labels":{"service_name":"cart"}}]`), true)
	f.Add([]byte("- targets: ['a:1', '[::1]:2']\n  labels: {__scheme__: https, __profile_path__: /x, __profile_types__: 'cpu,heap'}\n"), false)
	f.Add([]byte("- &a\n  targets: [b]\n- *a\n"), false)
	f.Fuzz(func(t *testing.T, b []byte, js bool) {
		groups, err := parseGroups(b, map[bool]string{true: ".json", false: ".yaml"}[js])
		if err != nil {
			return
		}
		j := Job{Name: "job"}
		for _, s := range groupSets(groups, set{"__meta_filepath": "f"}) {
			x, err := makeTarget(j.defaults(s), nil, scrape.HTTPOptions{}, "job")
			if err != nil {
				continue
			}
			if x.Service == "" || !strings.HasPrefix(x.URL, "http") || strings.ContainsAny(x.URL, " \n\r") {
				t.Errorf("%+v", x)
			}
			for k := range x.Labels {
				if strings.HasPrefix(k, "__") {
					t.Errorf("label %q", k)
				}
			}
		}
	})
}
