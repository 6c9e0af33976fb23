package main

import (
	"encoding/json"
	"fmt"
	"math"
	"net/url"
	"strings"
	"testing"
	"time"
)

const vectorJSON = `{"status":"success","data":{"resultType":"vector","result":[
{"metric":{"__name__":"go_gc_heap_live_bytes","service_name":"cart","service_instance_id":"a\u001b","job":"shop/cart"},"value":[1795262400,"13002342.4"]},
{"metric":{"__name__":"go_gc_heap_live_bytes","service_name":"cart","service_instance_id":"b","job":"shop/cart"},"value":[1795262400,"NaN"]},
{"metric":{"__name__":"go_gc_heap_live_bytes","service_name":"cart","service_instance_id":"c","job":"shop/cart"},"histogram":[1795262400,{"count":"10","sum":"0.25","buckets":[[1,"0","0.1","9"],[0,"0.1","1","1"]]}]}]},
"warnings":["beware"]}`

func TestQuery(t *testing.T) {
	time.Local = time.UTC
	var q url.Values
	r := sonde(t, answers("/prometheus/api/v1/query", vectorJSON, &q), "", "query", "go_gc_heap_live_bytes", "--at", "now-5m")
	want := `2026-11-21 11:55:00: 3 series, all of {service_name="cart"}
                                          VALUE  SERIES
                                        12.4MiB  go_gc_heap_live_bytes{service_instance_id="a?"}
                                            NaN  go_gc_heap_live_bytes{service_instance_id="b"}
count 10, sum 0.25, p50 0.0556, p99 0.91  go_gc_heap_live_bytes{service_instance_id="c"}
`
	if r.code != 0 || strings.Join(strings.Fields(r.stdout), " ") != strings.Join(strings.Fields(want), " ") || r.stderr != "note: beware\n" {
		t.Errorf("exit %d, stderr %q, stdout:\n%s\nwant:\n%s", r.code, r.stderr, r.stdout, want)
	}
	if q.Get("query") != "go_gc_heap_live_bytes" || q.Get("time") != fmt.Sprintf("%d.000", now.Add(-5*time.Minute).Unix()) {
		t.Errorf("parameters %v", q)
	}
	r = sonde(t, answers("/prometheus/api/v1/query", vectorJSON, nil), "", "query", "x", "-n", "1")
	if !strings.Contains(r.stdout, "… and 2 more") {
		t.Errorf("-n 1:\n%s", r.stdout)
	}
	r = sonde(t, answers("/prometheus/api/v1/query", vectorJSON, nil), "", "query", "x", "-o", "json")
	var got promData
	if err := json.Unmarshal([]byte(r.stdout), &got); err != nil || got.ResultType != "vector" {
		t.Errorf("-o json = %s, %v", r.stdout, err)
	}
	if r = sonde(t, answers("/prometheus/api/v1/query", vectorJSON, nil), "", "query", "x", "-o", "csv"); r.code != 1 || !strings.Contains(r.stderr, "histogram_quantile") {
		t.Errorf("csv of histograms: exit %d, %s", r.code, r.stderr)
	}
	for name, tc := range map[string]struct{ data, want string }{
		"scalar": {`{"resultType":"scalar","result":[1795262400,"1234"]}`, "1,234"},
		"string": {`{"resultType":"string","result":[1795262400,"a\u001bb"]}`, "a?b"},
		"none":   {`{"resultType":"vector","result":[]}`, "nothing found"},
	} {
		if r := sonde(t, answers("/prometheus/api/v1/query", `{"data":`+tc.data+`}`, nil), "", "query", "x"); r.code != 0 || !strings.Contains(r.stdout, tc.want) {
			t.Errorf("%s: exit %d, %s, %s", name, r.code, r.stdout, r.stderr)
		}
	}
}

// matrix is the answer for a range: a sine in one series, a gap in the other.
func matrix() string {
	var one, two []string
	for i := range 121 {
		at := now.Add(-time.Hour).Unix() + int64(i)*30
		one = append(one, fmt.Sprintf(`[%d,"%g"]`, at, 50+40*math.Sin(float64(i)/10)))
		if i < 40 || i > 80 {
			two = append(two, fmt.Sprintf(`[%d,"%d"]`, at, 20))
		}
	}
	return `{"data":{"resultType":"matrix","result":[{"metric":{"service_name":"cart"},"values":[` + strings.Join(one, ",") + `]},{"metric":{"service_name":"pay"},"values":[` + strings.Join(two, ",") + `]}]}}`
}

func TestQueryRange(t *testing.T) {
	time.Local = time.UTC
	var q url.Values
	serve := answers("/prometheus/api/v1/query_range", matrix(), &q)
	r := sonde(t, serve, "", "query", "x", "--since", "1h")
	if r.code != 0 || !strings.Contains(r.stdout, "2026-11-21 11:00:00 to 2026-11-21 12:00:00 every 30s: 2 series") || !strings.Contains(r.stdout, `  20   20    20   20  {service_name="pay"}`) {
		t.Errorf("exit %d %s\n%s", r.code, r.stderr, r.stdout)
	}
	if q.Get("step") != "30" || q.Get("start") != fmt.Sprintf("%d.000", now.Add(-time.Hour).Unix()) || q.Get("end") != fmt.Sprintf("%d.000", now.Unix()) {
		t.Errorf("parameters %v", q)
	}
	r = sonde(t, serve, "", "query", "x", "--step", "1m", "-o", "csv")
	lines := strings.Split(strings.TrimSpace(r.stdout), "\n")
	if len(lines) != 1+121+80 || lines[0] != "time,service_name,value" || lines[1] != "2026-11-21T11:00:00Z,cart,50" || q.Get("step") != "60" {
		t.Errorf("csv has %d lines: %s", len(lines), lines[:2])
	}
	golden(t, "testdata/query_plot.txt", []byte(sonde(t, serve, "", "query", "x", "-o", "plot").stdout))
	r = sonde(t, serve, "", "query", "x", "-o", "plot", "-n", "1")
	if n := strings.Count(r.stdout, "│"); n != oneHeight && n != manyHeight || !strings.Contains(r.stdout, "… and 1 more") {
		t.Errorf("a plot of one series:\n%s", r.stdout)
	}
}

func TestQueryWrong(t *testing.T) {
	for _, args := range [][]string{{"query"}, {"query", "x", "--at", "now", "--since", "1h"}, {"query", "x", "--at", "now", "-o", "plot"}, {"query", "x", "--step", "0s"}, {"query", "x", "--step", "ten"}, {"query", "x", "--at", "teatime"},
		{"query", "x", "-n", "0"}, {"query", "x", "--from", "now", "--to", "now-1h"}} {
		if r := sonde(t, nil, "", args...); r.code != exitUsage {
			t.Errorf("%v: exit %d, %s", args, r.code, r.stderr)
		}
	}
	for _, bad := range []string{`{}`, `{"data":{"resultType":"vector","result":[{"metric":{}}]}}`, `{"data":{"resultType":"vector","result":[{"value":[1]}]}}`, `{"data":{"resultType":"vector","result":[{"value":[1,"x"]}]}}`,
		`{"data":{"resultType":"scalar","result":["1","2"]}}`, `{"data":{"resultType":"vector","result":{}}}`} {
		if r := sonde(t, answers("/prometheus/api/v1/query", bad, nil), "", "query", "x"); r.code != exitFailed || !strings.Contains(r.stderr, "read answer") {
			t.Errorf("%s: exit %d, %s%s", bad, r.code, r.stdout, r.stderr)
		}
	}
}
