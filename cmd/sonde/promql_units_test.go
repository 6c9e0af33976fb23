package main

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
)

func TestPromUnits(t *testing.T) {
	for _, tc := range []struct{ expr, name, want string }{
		// The series' own values.
		{`process_cpu_seconds_total`, "process_cpu_seconds_total", "1.50s"},
		{`process_resident_memory_bytes{service_name="cart"} offset 5m`, "process_resident_memory_bytes", "1.5B"},
		{`{__name__=~".+", a="count(b) * 2"}`, "x_seconds", "1.50s"},
		{`topk(5, sort_desc(go_gc_heap_live_bytes))`, "go_gc_heap_live_bytes", "1.5B"},
		{`last_over_time(x_seconds[5m:1m])`, "x_seconds", "1.50s"},
		{`x_seconds > 1 and on (service_name) up`, "x_seconds", "1.50s"},
		{`x_seconds or (y_seconds unless (z_seconds @ start()))`, "x_seconds", "1.50s"},
		{`label_replace(x_seconds, "a", "$1", "b", "(.*)")`, "x_seconds", "1.50s"},
		{`sum by (__name__) ({service_name="cart"})`, "x_bytes", "1.5B"},
		{`max without (instance) (x_seconds)`, "x_seconds", "1.50s"},
		{`MAX BY (__name__) (x_seconds) # count (1)`, "x_seconds", "1.50s"},
		{`sum by (__name__) (increase({__name__=~".+_seconds_total"}[1h]))`, "process_cpu_seconds_total", "1.50s"},
		{`count_seconds`, "count_seconds", "1.50s"},
		{`sum by (bytes) (x_seconds{a="*"})`, "x_seconds", "1.50s"},
		// Something else under the name.
		{`count by (__name__) ({service_name!=""})`, "process_cpu_seconds_total", "1.5"},
		{`COUNT by (__name__) ({service_name!=""})`, "process_resident_memory_bytes", "1.5"},
		{"count # how many\n by (__name__) ({a=\"b\"})", "x_seconds", "1.5"},
		{`count({a="b"}) by (__name__)`, "x_seconds", "1.5"},
		{`topk(3, count by (__name__) ({a="b"}))`, "x_seconds", "1.5"},
		{`count_values by (__name__) ("v", x_seconds)`, "x_seconds", "1.5"},
		{`group by (__name__) (x_seconds)`, "x_seconds", "1.5"},
		{`stdvar by (__name__) (x_seconds)`, "x_seconds", "1.5"},
		{`x_seconds > bool 1`, "x_seconds", "1.5"},
		{`absent(x_seconds)`, "x_seconds", "1.5"},
		{`sum by (__name__) (rate({a="b"}[5m]))`, "process_cpu_seconds_total", "1.5"},
		{`rate(x_bytes_total[5m]) keep_metric_names`, "x_bytes_total", "1.5"},
		{`changes(x_seconds[5m])`, "x_seconds", "1.5"},
		{`resets(x_seconds[5m])`, "x_seconds", "1.5"},
		{`count_over_time(x_seconds[5m])`, "x_seconds", "1.5"},
		{`present_over_time(x_seconds[5m])`, "x_seconds", "1.5"},
		{`timestamp(x_seconds)`, "x_seconds", "1.5"},
		{`deriv(x_bytes[5m])`, "x_bytes", "1.5"},
		{`x_seconds * 1000`, "x_seconds", "1.5"},
		{`x_bytes / 1024`, "x_bytes", "1.5"},
		{`a_function_of_tomorrow(x_seconds)`, "x_seconds", "1.5"},
		{`label_replace(up, "__name__", "up_seconds", "", "")`, "up_seconds", "1.5"},
		// Names.
		{`rate(process_cpu_seconds_total[5m])`, "", "1.5"},
		{`x`, "process_start_time_seconds", "1.5"},
		{`x`, "config_last_reload_timestamp_seconds", "1.5"},
		{`x`, "http_request_duration_seconds_sum", "1.50s"},
		{`x`, "http_request_duration_seconds_count", "1.5"},
		{`x`, "http_request_duration_seconds_bucket", "1.5"},
		{`x`, "go_goroutines", "1.5"},
		// What a server would refuse.
		{`x_seconds{a="`, "x_seconds", "1.50s"},
		{`x_seconds[`, "x_seconds", "1.50s"},
		{`'\`, "x_seconds", "1.50s"},
		{``, "x_seconds", "1.50s"},
	} {
		units := promUnits(tc.expr, []promSeries{{labels: map[string]string{"__name__": tc.name}}})
		if got := units[0].show(1.5); got != tc.want {
			t.Errorf("%s: a value of %q is printed as %s, want %s", tc.expr, tc.name, got, tc.want)
		}
	}
}

// TestQueryHint asks what `sonde query` proposes to who found nothing: how many series there are of each name, which are no seconds and no bytes.
func TestQueryHint(t *testing.T) {
	const expr = `count by (__name__) ({service_name!=""})`
	if r := sonde(t, answers("/prometheus/api/v1/query", `{"data":{"resultType":"vector","result":[]}}`, nil), "", "query", "nothing"); !strings.Contains(r.stdout, expr) {
		t.Fatalf("the hint is another one: %s", r.stdout)
	}
	one := func(name string) string {
		return fmt.Sprintf(`{"metric":{"__name__":%q},"value":[1795262400,"1"]}`, name)
	}
	body := `{"data":{"resultType":"vector","result":[` + one("process_cpu_seconds_total") + "," + one("process_resident_memory_bytes") + `]}}`
	r := sonde(t, answers("/prometheus/api/v1/query", body, nil), "", "query", expr)
	if lines := strings.Split(r.stdout, "\n"); r.code != 0 || len(lines) != 5 || strings.TrimSpace(lines[2]) != "1  process_cpu_seconds_total" || strings.TrimSpace(lines[3]) != "1  process_resident_memory_bytes" {
		t.Errorf("exit %d, %s\n%s", r.code, r.stderr, r.stdout)
	}
}

// TestPlotOfTwoUnits: one scale for bytes and seconds is of neither.
func TestPlotOfTwoUnits(t *testing.T) {
	body := func(second string) string {
		return `{"data":{"resultType":"matrix","result":[{"metric":{"__name__":"a_bytes"},"values":[[1795262000,"0"],[1795262400,"2048"]]},{"metric":{"__name__":"` + second + `"},"values":[[1795262000,"7"]]}]}}`
	}
	for second, want := range map[string]string{"b_bytes": "2.00KiB │", "b_seconds": "2,048 │"} {
		var q url.Values
		if r := sonde(t, answers("/prometheus/api/v1/query_range", body(second), &q), "", "query", "{a=\"b\"}", "-o", "plot"); r.code != 0 || !strings.Contains(r.stdout, want) {
			t.Errorf("a_bytes beside %s: exit %d, %s\n%s", second, r.code, r.stderr, r.stdout)
		}
	}
}
