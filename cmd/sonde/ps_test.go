package main

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sonde-io/sonde/cmd/sonde/internal/client"
)

func TestPs(t *testing.T) {
	r := sonde(t, answers("/api/v1/processes", fmt.Sprintf(`{"processes":[
{"pid":12,"service":"cart","version":"v1","go_version":"go1.26.8","node":"n1","gatherer":"agent","gatherers":["agent","perf"],"state":"running","uptime_ms":93784000,"last_seen":%d},
{"pid":13,"service":"billing","go_version":"go1.26.8","node":"n1","state":"running","reason":"no endpoint: it listens on no TCP port"}],
"total":2,"summary":"2 Go processes, profiling 1, 1 has no endpoint"}`, now.UnixMilli()-12_000), nil), "", "ps")
	want := `PID  SERVICE  VERSION  GO        UPTIME  GATHERER       SEEN  STATE    REASON
 12  cart     v1       go1.26.8    1d2h  agent+perf  12s ago  running  -
 13  billing  -        go1.26.8       -  -                 -  running  no endpoint: it listens on no TCP port
`
	if r.stdout != want || r.stderr != "2 Go processes, profiling 1, 1 has no endpoint\n" {
		t.Errorf("stderr %q, stdout:\n%s\nwant:\n%s", r.stderr, r.stdout, want)
	}
}

// fleetOfTwo is on two nodes, one of them in pods.
const fleetOfTwo = `{"processes":[
{"instance":"i1","pid":1,"service":"cart","version":"v1","go_version":"go1.26.8","build":"0123456789abcdef0123","node":"n1","pod":"shop/cart-1","host":"cart-1","exe":"/app/cart","gatherer":"agent","gatherers":["agent"],"state":"running","uptime_ms":5000,"started":1000,"last_seen":6000},
{"instance":"i2","pid":7,"service":"=cmd","node":"n2","exe":"/usr/bin/etcd","state":"lost","reason":"silent"}],"total":2,"summary":""}`

func TestPsFormats(t *testing.T) {
	h := answers("/api/v1/processes", fleetOfTwo, nil)
	for _, tt := range []struct {
		args []string
		want string
	}{
		{nil, "PID  SERVICE  VERSION  GO        NODE  POD          UPTIME  GATHERER"},
		{[]string{"-o", "wide"}, "NODE  POD          BUILD         EXE            INSTANCE"},
		{[]string{"-o", "csv"}, "instance,service,version,go_version,build,node,pod,host,pid,exe,gatherers,state,reason,started,last_seen,uptime_s\n" +
			"i1,cart,v1,go1.26.8,0123456789abcdef0123,n1,shop/cart-1,cart-1,1,/app/cart,agent,running,,1970-01-01T00:00:01Z,1970-01-01T00:00:06Z,5\n" +
			"i2,'=cmd,,,,n2,,,7,/usr/bin/etcd,,lost,silent,,,0\n"},
		{[]string{"-o", "json"}, `"total": 2`},
	} {
		if r := sonde(t, h, "", append([]string{"ps"}, tt.args...)...); r.code != 0 || !strings.Contains(r.stdout, tt.want) {
			t.Errorf("%v: exit %d, no %q in\n%s%s", tt.args, r.code, tt.want, r.stdout, r.stderr)
		}
	}
}

// paged serves n processes in pages.
func paged(t *testing.T, n int) (handler http.HandlerFunc, requests *int) {
	requests = new(int)
	return func(w http.ResponseWriter, r *http.Request) {
		*requests++
		from, _ := strconv.Atoi(r.URL.Query().Get("cursor"))
		limit, err := strconv.Atoi(r.URL.Query().Get("limit"))
		if err != nil {
			t.Errorf("limit: %v", err)
		}
		to, next := min(from+limit, n), ""
		if to < n {
			next = strconv.Itoa(to)
		}
		var rows []string
		for i := from; i < to; i++ {
			rows = append(rows, fmt.Sprintf(`{"instance":"i%d","service":"s","pid":%d,"state":"running","gatherer":"agent"}`, i, i+1))
		}
		fmt.Fprintf(w, `{"processes":[%s],"total":%d,"next":%q}`, strings.Join(rows, ","), n, next)
	}, requests
}

func TestPsReadsAllPages(t *testing.T) {
	h, requests := paged(t, 25_000)
	r := sonde(t, h, "", "ps", "-o", "csv")
	if lines := strings.Count(r.stdout, "\n"); lines != 25_001 || *requests != 3 {
		t.Errorf("%d lines from %d requests, want 25001 from 3", lines, *requests)
	}
	h, requests = paged(t, 25_000)
	r = sonde(t, h, "", "ps", "--sort", "pid", "--limit", "12000")
	if lines := strings.Count(r.stdout, "\n"); lines != 12_001 || *requests != 2 || !strings.Contains(r.stderr, "12000 of 25000 processes") {
		t.Errorf("%d lines from %d requests, stderr %q", lines, *requests, r.stderr)
	}
}

func TestPsAsks(t *testing.T) {
	got := map[string]string{}
	h := func(w http.ResponseWriter, r *http.Request) {
		clear(got)
		for k, v := range r.URL.Query() {
			got[k] = v[0]
		}
		fmt.Fprint(w, `{"processes":[],"total":0}`)
	}
	for args, want := range map[string]string{
		"--node n1 --gatherer none --state lost":                    "map[gatherer:none limit:10000 node:n1 state:lost]",
		"--version v2 --go-version go1.26.8 --search x --sort -pid": "map[go_version:go1.26.8 limit:10000 search:x sort:-pid state:running version:v2]",
		"-a": "map[limit:10000 state:all]", "--limit 5 --sort pid": "map[limit:5 sort:pid state:running]",
	} {
		if r := sonde(t, h, "", append([]string{"ps"}, strings.Fields(args)...)...); r.code != 0 || fmt.Sprint(got) != want {
			t.Errorf("%s asks %v, want %s", args, got, want)
		} else if !strings.Contains(r.stderr, "select") && args != "-a" {
			t.Errorf("%s: stderr %q", args, r.stderr)
		}
	}
	for _, bad := range [][]string{{"--limit", "-1"}, {"--since", "x"}, {"-o", "xml"}} {
		if r := sonde(t, nil, "", append([]string{"ps"}, bad...)...); r.code != exitUsage {
			t.Errorf("ps %v: exit %d", bad, r.code)
		}
	}
}

func TestSpan(t *testing.T) {
	for ms, want := range map[int64]string{0: "", -5: "", 1: "0s", 59_999: "59s", 65_000: "1m5s", 3_600_000: "1h0m", 90_061_000: "1d1h", int64(400 * 24 * time.Hour / time.Millisecond): "400d0h"} {
		if got := span(ms); got != want {
			t.Errorf("span(%d) = %q, want %q", ms, got, want)
		}
	}
}

const coverageJSON = `{"processes":{"expected":340,"watched":312},"pods":{"expected":118,"watched":110},"units":{"expected":0,"watched":0},"nodes":{"expected":40,"watched":39},
"gaps":[{"reason":"missing capability CAP_PERFMON","cure":"grant CAP_PERFMON to the sidecar","processes":20,"services":["cart"],"nodes":["n1","n2","n3"],
"examples":[{"service":"cart","pid":12,"node":"n1","unit":"cart.service","exe":"cart","text":"perf needs CAP_PERFMON: it is missing"}]},
{"reason":"memory profiling was linked out","partial":true,"cure":"build the agent in","processes":3,"services":["etcd"],"nodes":["n1"],"examples":[]}],
"by_service":[{"name":"cart","expected":30,"watched":10}],
"by_node":[{"name":"n9","expected":8,"watched":0,"reports":true,"silent":true,"reported":1795262400000,"gatherer":"sidecar"},{"name":"n4","expected":2,"watched":2},{"name":"n1","expected":3,"watched":3,"reports":true,"gatherer":"serve","unknown":4}]}`

func TestFleetCoverage(t *testing.T) {
	time.Local = time.UTC
	h := answers("/api/v1/coverage", coverageJSON, nil)
	for _, tt := range []struct{ args, want string }{
		{"", `312 of 340 Go processes watched (91 %)
110 of 118 pods watched, 39 of 40 nodes report

PROCESSES  GAP                                            WHERE            CURE
       20  missing capability CAP_PERFMON                 cart on 3 nodes  grant CAP_PERFMON to the sidecar
        3  watched, but: memory profiling was linked out  etcd on n1       build the agent in
`},
		{"--by service", "WATCHED  OF  MISSING  SERVICE\n     10  30       20  cart\n"},
		{"--by node", `WATCHED  OF  MISSING  NODE  REPORTS
      0   8        8  n9    sidecar silent since 2026-11-21 12:00:00
      2   2        0  n4    nothing reports what runs there
      3   3        0  n1    serve; 4 processes cannot be read
`},
		{"-o wide", "\nmissing capability CAP_PERFMON\n  SERVICE  PID  NODE  POD OR UNIT   EXE   REASON\n  cart      12  n1    cart.service  cart  perf needs CAP_PERFMON: it is missing\n"},
		{"-o json", `"watched": 312`},
	} {
		if r := sonde(t, h, "", append([]string{"coverage"}, strings.Fields(tt.args)...)...); r.code != 0 || !strings.Contains(r.stdout, tt.want) {
			t.Errorf("coverage %s: exit %d\n%s%s\nwant\n%s", tt.args, r.code, r.stdout, r.stderr, tt.want)
		}
	}
	r := sonde(t, answers("/api/v1/coverage", `{"processes":{"expected":0,"watched":0},"gaps":[]}`, nil), "", "coverage")
	if r.code != 0 || r.stdout != "" || !strings.Contains(r.stderr, "sonde sidecar") {
		t.Errorf("of nothing: %+v", r)
	}
}

// TestGapWhere: places are named while they are few.
func TestGapWhere(t *testing.T) {
	for want, g := range map[string]client.Gap{
		"a, b on n1": {Services: []string{"a", "b"}, Nodes: []string{"n1"}}, "3 services": {Services: []string{"a", "b", "c"}}, "n1": {Nodes: []string{"n1"}}, "": {},
	} {
		if got := where(g); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
