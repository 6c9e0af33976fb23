package metrics

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/series"
)

func TestExpressionBounds(t *testing.T) {
	s := open(t, Config{})
	srv := serve(t, s)
	deep := func(n int) string { return strings.Repeat("(", n) + "1" + strings.Repeat(")", n) }
	for _, c := range []struct {
		name, expr, wrong string
	}{
		{"some brackets", deep(50), ""},
		{"text is no code", `vector(1) or up{a=~"` + strings.Repeat("(a|b)|", 10_000) + `c", b='\'` + strings.Repeat("(", 500) + "', c=`" + strings.Repeat("[", 500) + "\\`} # " + strings.Repeat("(", 500) + "\n or vector(" + deep(3) + ")", ""},
		{"deep", deep(50_000), "max_expression_bytes"},
		{"deep in few bytes", deep(1000), "max_expression_depth"},
		{"signs", strings.Repeat("-", 1_000_000) + "a", "max_expression_bytes"},
		{"after a quote", `"\"" + ` + deep(1000), "max_expression_depth"},
		{"wide", "a" + strings.Repeat("+a", 100_000), "max_expression_bytes"},
		{"quote without end", `"` + deep(1000), "unterminated"},
	} {
		for _, path := range []string{"query", "parse_query", "format_query"} {
			resp, err := http.PostForm(srv.URL+apiPrefix+"/"+path, url.Values{"query": {c.expr}})
			if err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 1000)
			n, _ := resp.Body.Read(b)
			resp.Body.Close()
			if want := c.wrong == ""; (resp.StatusCode == http.StatusOK) != want || !want && !strings.Contains(string(b[:n]), c.wrong) {
				t.Errorf("%s of %s: %d %s", path, c.name, resp.StatusCode, b[:n])
			}
		}
	}
}

func TestSubqueryBounds(t *testing.T) {
	s := open(t, Config{})
	srv := serve(t, s)
	now := time.Now()
	for expr, want := range map[string]int{
		"sum_over_time(vector(1)[1h:1s])":                          http.StatusOK,
		"sum_over_time(vector(1)[30d:])":                           http.StatusOK,
		"sum_over_time(vector(1)[100y:1ms])":                       http.StatusUnprocessableEntity,
		"vector(1)[100y:1ms]":                                      http.StatusUnprocessableEntity,
		"max_over_time(sum_over_time(vector(1)[1m:1ms])[100y:1d])": http.StatusUnprocessableEntity,
		"1 + -(sum_over_time((vector(1) + sum_over_time(vector(1)[200y:1ms] offset 5m))[200y:1y]) + 1)": http.StatusUnprocessableEntity,
	} {
		if status, body := get(t, srv.URL+apiPrefix+"/query?query="+url.QueryEscape(expr)); status != want {
			t.Errorf("%s: %d %.200s", expr, status, body)
		}
		if _, err := s.Query(t.Context(), expr, now); (err == nil) != (want == http.StatusOK) && !strings.HasSuffix(expr, "1ms]") {
			t.Errorf("Query of %s: %v", expr, err)
		}
	}
	// The range of the query counts too.
	if status, body := get(t, srv.URL+apiPrefix+"/query_range?start=0&end="+fmt.Sprint(now.Unix())+"&step=1000000&query="+url.QueryEscape("sum_over_time(vector(1)[1s:1ms])")); status != http.StatusUnprocessableEntity {
		t.Errorf("over a long range: %d %.200s", status, body)
	}
}

func TestBoundsOfSeries(t *testing.T) {
	s := open(t, Config{Settings: Settings{MaxSeries: 100}})
	now := time.Now().Truncate(time.Second)
	wide := &histogram.FloatHistogram{Schema: 8, Count: maxBuckets}
	for range maxBuckets / 2 {
		wide.PositiveSpans, wide.PositiveBuckets = append(wide.PositiveSpans, histogram.Span{Offset: 2, Length: 1}), append(wide.PositiveBuckets, 2)
	}
	wide.NegativeSpans, wide.NegativeBuckets = []histogram.Span{{Length: 1}}, []float64{0}
	long := sample("long", now, 1, "v", strings.Repeat("x", maxSeriesBytes))
	appendAll(t, s, series.Batch{Samples: []series.Sample{long, {Labels: labels.FromStrings("__name__", "wide"), T: now.UnixMilli(), H: wide}, sample("kept", now, 1)}})
	app := s.Appendable().Appender(t.Context())
	for _, err := range []error{
		second(app.Append(0, long.Labels, now.UnixMilli(), 1)),
		second(app.AppendHistogram(0, labels.FromStrings("__name__", "wide"), now.UnixMilli(), nil, wide)),
		app.Commit(),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	if got := testutil.ToFloat64(s.metrics.dropped.WithLabelValues(reasonInvalid)); got != 4 {
		t.Errorf("%v invalid, want 4", got)
	}
	before := s.alive.total().bytes
	var fat []series.Sample
	for i := range 10 { // of 60 KiB each, where 100 series may have 200
		fat = append(fat, sample("fat", now, 1, "v", strings.Repeat(string(rune('a'+i)), 60<<10)))
	}
	appendAll(t, s, series.Batch{Samples: fat})
	wantLines(t, "fat ones", ask(t, s, "count(fat)", now), "{} 2") // then it has more than what is free
	if got := testutil.ToFloat64(s.metrics.dropped.WithLabelValues(reasonMaxSeries)); got != 8 {
		t.Errorf("%v over max_series, want 8", got)
	}
	if got := s.alive.total().bytes - before; got < 120<<10 || got > 121<<10 {
		t.Errorf("two more series have %d bytes of labels", got)
	}
}

func second[T any](_ T, err error) error { return err }
