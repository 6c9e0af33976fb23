package discover

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestParseStat(t *testing.T) {
	const rest = " S 1 4711 4711 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 8 0 123456 1 2"
	for _, tt := range []struct {
		name, in     string
		flags, ticks uint64
		ok           bool
	}{
		{"plain", "4711 (cart)" + rest, 4194560, 123456, true},
		{"a name with everything", "4711 (a) b) (c\n1 2 3)" + rest, 4194560, 123456, true},
		{"cut", "4711 (cart) S 1 4711 4711 0 -1 4194560 1 0", 0, 0, false},
		{"no name", "4711 cart S 1", 0, 0, false},
		{"not a number", "4711 (cart) S 1 4711 4711 0 -1 x 1 0 0 0 0 0 0 0 20 0 8 0 123456", 0, 0, false},
		{"empty", "", 0, 0, false},
	} {
		flags, ticks, err := parseStat([]byte(tt.in))
		if (err == nil) != tt.ok || ticks != tt.ticks || flags != tt.flags {
			t.Errorf("%s: flags %d, ticks %d, error %v", tt.name, flags, ticks, err)
		}
	}
}

func TestParseStatus(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		uid      int
		pids     []int
		ok       bool
	}{
		{"host", "Name:\tcart\nUid:\t1000\t1001\t1002\t1003\nNSpid:\t4711\n", 1001, []int{4711}, true},
		{"container", "Uid:\t0\t0\t0\t0\nNSpid:\t4711\t17\t1\n", 0, []int{4711, 17, 1}, true},
		{"old kernel", "Uid:\t0\t0\t0\t0\n", 0, nil, true},
		{"no uid", "Name:\tcart\n", 0, nil, false},
		{"bad uid", "Uid:\tx\ty\n", 0, nil, false},
		{"bad pid", "Uid:\t0\t0\nNSpid:\tx\n", 0, nil, false},
	} {
		uid, pids, err := parseStatus([]byte(tt.in))
		if (err == nil) != tt.ok || tt.ok && (uid != tt.uid || !slices.Equal(pids, tt.pids)) {
			t.Errorf("%s: uid %d, pids %v, error %v", tt.name, uid, pids, err)
		}
	}
}

const tcpHeading = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"

func tcpLine(local, state string, inode int) string {
	return fmt.Sprintf("   0: %s 00000000:0000 %s 00000000:00000000 00:00000000 00000000     0        0 %d 1 0000000000000000 100 0 0 10 0\n", local, state, inode)
}

// TestParseNetTCP is written for little-endian machines, which is how the addresses below are spelled.
func TestParseNetTCP(t *testing.T) {
	in := tcpHeading + tcpLine("0100007F:1F90", "0A", 11) + tcpLine("00000000:0050", "03", 12) + tcpLine("00000000:0050", "0A", 13) +
		tcpLine("00000000000000000000000001000000:1F91", "0A", 14) + tcpLine("0000000000000000FFFF00000100007F:1F92", "0A", 15) +
		tcpLine("0100007F:1F93", "0A", 0) + tcpLine("XX00007F:1F94", "0A", 16) + tcpLine("0100007F:C001", "01", 17) + tcpLine("0100007F:1F95", "0A", 18)
	var got []string
	for l := range parseNetTCP([]byte(in)) {
		got = append(got, fmt.Sprint(l.inode, " ", l.addr))
	}
	want := []string{"11 127.0.0.1:8080", "13 0.0.0.0:80", "14 [::1]:8081", "15 127.0.0.1:8082"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q: listeners only, up to the first connection", got, want)
	}
}

func TestParseAddresses(t *testing.T) {
	trie := "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n           |-- 127.0.0.1\n              /32 host LOCAL\n" +
		"        |-- 192.0.2.0\n           /24 link UNICAST\n        |-- 192.0.2.2\n           /32 host LOCAL\n        |-- 192.0.2.255\n           /32 link BROADCAST\n"
	six := "fd000000000000000000000000000002 04 40 00 82     eth0\n00000000000000000000000000000001 01 80 10 80       lo\nxx\n"
	if got := fmt.Sprint(parseIfInet6(parseFibTrie(nil, []byte(trie)), []byte(six))); got != "[127.0.0.1 192.0.2.2 fd00::2 ::1]" {
		t.Error(got)
	}
}

func TestLoopback(t *testing.T) {
	for addr, want := range map[string][]string{
		"127.0.0.1:80": {"127.0.0.1:80"}, "127.9.9.9:80": {"127.9.9.9:80"}, "[::1]:80": {"[::1]:80"},
		"0.0.0.0:80": {"127.0.0.1:80"}, "[::]:80": {"127.0.0.1:80", "[::1]:80"},
		"192.0.2.1:80": nil, "[2001:db8::1]:80": nil,
	} {
		if got := loopback(netip.MustParseAddrPort(addr)); !slices.Equal(got, want) {
			t.Errorf("%s is reached at %q, want %q", addr, got, want)
		}
	}
}

func TestNames(t *testing.T) {
	for _, tt := range []struct {
		name, env, exe   string
		service, version string
		labels           map[string]string
	}{
		{"nothing", "", "/app/cart", "cart", "", nil},
		{"otel", "OTEL_SERVICE_NAME=cart\x00OTEL_RESOURCE_ATTRIBUTES=service.name=other,service.version=v1", "/a", "cart", "v1", nil},
		{"attributes only", "OTEL_RESOURCE_ATTRIBUTES=service.name=cart,k8s.pod.name=p-1,__x=1,1a=2,=3,x", "/a", "cart", "", map[string]string{"k8s_pod_name": "p-1"}},
		{"sonde wins", "OTEL_SERVICE_NAME=a\x00SONDE_SERVICE=b\x00SONDE_SERVICE_VERSION=v2\x00SONDE_NAMESPACE=n\x00SONDE_ENVIRONMENT=prod\x00SONDE_LABELS=team=x", "/a",
			"b", "v2", map[string]string{"service_namespace": "n", "deployment_environment_name": "prod", "team": "x"}},
		{"secrets stay", "SONDE_TOKEN=t\x00AWS_SECRET_ACCESS_KEY=s", "/a", "a", "", nil},
		{"odd bytes", "SONDE_SERVICE=ca\x01rt\xff", "/a", "cart", "", nil},
	} {
		service, version, labels := parseEnviron([]byte(tt.env)).names(tt.exe, nil)
		want := map[string]string{"service_name": tt.service}
		if tt.version != "" {
			want["service_version"] = tt.version
		}
		maps.Copy(want, tt.labels)
		if service != tt.service || version != tt.version || !maps.Equal(labels, want) {
			t.Errorf("%s: %q %q %v, want %v", tt.name, service, version, labels, want)
		}
	}
}

func TestIdentity(t *testing.T) {
	host := Identity{BootID: "b", PIDNS: 7, StartTicks: 100, PIDs: []int{4711, 1}}
	for _, tt := range []struct {
		name string
		o    Identity
		same bool
	}{
		{"as seen inside", Identity{"b", 7, 100, []int{1}}, true},
		{"namespace unknown", Identity{"b", 0, 100, []int{1}}, true},
		{"another boot", Identity{"c", 7, 100, []int{1}}, false},
		{"another namespace", Identity{"b", 8, 100, []int{1}}, false},
		{"another start", Identity{"b", 7, 101, []int{1}}, false},
		{"another pid", Identity{"b", 7, 100, []int{2}}, false},
		{"no pid", Identity{"b", 7, 100, nil}, false},
	} {
		if host.Same(tt.o) != tt.same || tt.o.Same(host) != tt.same {
			t.Errorf("%s: same is %v", tt.name, !tt.same)
		}
		if equal := host.Instance() == tt.o.Instance(); equal != (tt.same && tt.o.PIDNS != 0) {
			t.Errorf("%s: instances equal is %v", tt.name, equal)
		}
	}
}

func TestSummary(t *testing.T) {
	r := Report{Unknown: 2}
	for st, n := range map[State]int{Profiling: 10, ByAgent: 2, NeedsRoot: 14, NoEndpoint: 5, SelfProcess: 1} {
		for range n {
			r.Processes = append(r.Processes, Process{State: st})
		}
	}
	want := "31 Go processes, profiling 12, 14 need root, 5 have no endpoint; 2 more processes may not be looked at"
	if got := r.Summary(); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	one := Report{Processes: []Process{{State: NoEndpoint}}}
	if got, want := one.Summary(), "1 Go process, profiling 0, 1 has no endpoint"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestSameCmdline(t *testing.T) {
	long := strings.Repeat("a", maxCmdline)
	for _, tt := range []struct {
		name, answer, proc string
		same               bool
	}{
		{"same", "/app\x00-x", "/app\x00-x\x00", true},
		{"an empty last argument", "/app\x00", "/app\x00\x00", true},
		{"a prefix", "/app", "/app\x00-x\x00", false},
		{"nothing", "", "", false},
		{"cut", long, long, true},
	} {
		if got := sameCmdline([]byte(tt.answer), []byte(tt.proc)); got != tt.same {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

func TestIndexTypes(t *testing.T) {
	page := `<tr><td>3</td><td><a href='allocs?debug=1'>allocs</a></td></tr><a href='heap?debug=1'><a href='heap?debug=2'><a href='profile?seconds=30'>`
	if got := indexTypes([]byte(page)); !slices.Equal(got, []string{"allocs", "heap"}) {
		t.Errorf("%q", got)
	}
}

// FuzzParse gives the same bytes to every parser of what another process can influence.
func FuzzParse(f *testing.F) {
	f.Add([]byte("4711 (cart) S 1 4711 4711 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 8 0 123456 1"))
	f.Add([]byte("Uid:\t0\t0\t0\t0\nNSpid:\t4711\t1\n"))
	f.Add([]byte(tcpHeading + tcpLine("0100007F:1F90", "0A", 11) + tcpLine("0000000000000000FFFF00000100007F:1F92", "0A", 15)))
	f.Add([]byte("OTEL_SERVICE_NAME=cart\x00OTEL_RESOURCE_ATTRIBUTES=a.b=c%20d,e=f\x00SONDE_DISABLED=x\x00HOME=/root"))
	f.Add([]byte("0::/docker/" + strings.Repeat("ab", 32) + "\n"))
	f.Add([]byte("<a href='heap?debug=1'>"))
	f.Add([]byte("     |-- 127.0.0.1\n        /32 host LOCAL\n00000000000000000000000000000001 01 80 10 80       lo\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		parseStat(b)
		parseStatus(b)
		for l := range parseNetTCP(b) {
			if l.inode == 0 || !l.addr.IsValid() {
				t.Errorf("listener %+v", l)
			}
		}
		endsListeners(b)
		socketInode(b)
		if n := len(parseIfInet6(parseFibTrie(nil, b), b)); n > maxAddrs {
			t.Errorf("%d addresses", n)
		}
		e := parseEnviron(b)
		e.configDir()
		e.disabled()
		service, _, labels := e.names("/app/cart", nil)
		if service == "" {
			t.Error("no service")
		}
		for k, v := range labels {
			if labelName(k) != k || clean(v) != v || v == "" {
				t.Errorf("label %q=%q", k, v)
			}
		}
		if len(labels) > 2*maxAttrs+4 {
			t.Errorf("%d labels", len(labels))
		}
		indexTypes(b)
		sameCmdline(b, b)
	})
}
