package metrics

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"

	"github.com/sonde-io/sonde/collector/series"
)

// serve answers with s's API.
func serve(t testing.TB, s *Store) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	if err := s.Register(mux); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return srv
}

func fetch(t testing.TB, req *http.Request) (int, http.Header, string) {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(b)
}

func get(t testing.TB, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	status, _, body := fetch(t, req)
	return status, body
}

// filled is a store with a little of everything.
func filled(t testing.TB, cfg Config) (*Store, time.Time) {
	s := open(t, cfg)
	now := time.Now().Truncate(time.Second)
	appendAll(t, s, series.Batch{Process: process("cart", "i1"), Samples: []series.Sample{sample("go_goroutines", now, 9), sample("cart_orders_total", now, 12, "kind", "new"), pauses(now.Add(-time.Minute), 1, 0, 1), pauses(now, 4, 1, 5)},
		Metadata: []series.Metadata{{Name: "cart_orders_total", Type: model.MetricTypeCounter, Help: "Orders."}}},
		series.Batch{Process: process("pay", "i2"), Samples: []series.Sample{sample("go_goroutines", now, 3)}})
	return s, now
}

func TestAPI(t *testing.T) {
	s, now := filled(t, Config{Version: "v1.2.3", Registerer: prometheus.NewRegistry()})
	srv := serve(t, s)
	at := now.UTC().Format(time.RFC3339)
	for _, tc := range []struct{ path, want string }{
		{"/query?time=" + at + "&query=sum(go_goroutines)", `"resultType":"vector","result":[{"metric":{},"value":[`},
		{"/query?time=" + at + "&query=sum(go_goroutines)", `,"12"]}]`},
		{"/query_range?step=15&start=" + at + "&end=" + at + "&query=go_goroutines{service_name=%22pay%22}", `"job":"shop/pay"`},
		{"/query?time=" + at + "&query=sum(go_gc_pauses_seconds)", `"histogram":[`},
		{"/labels", `["__name__","instance","job","kind","service_instance_id","service_name","service_namespace"]`},
		{"/label/job/values", `["shop/cart","shop/pay"]`},
		{"/series?match[]=cart_orders_total", `"kind":"new"`},
		{"/metadata", `"cart_orders_total":[{"type":"counter","unit":"","help":"Orders."}]`},
		{"/metadata?metric=go_goroutines", `"go_goroutines":[{"type":"gauge"`},
		{"/query_exemplars?query=x&start=" + at + "&end=" + at, `"data":[]`},
		{"/status/buildinfo", `"revision":"v1.2.3"`},
		{"/status/tsdb", `"numSeries":4`},
		{"/status/tsdb", `"chunkCount":4`},
		{"/rules", `"groups":[]`},
		{"/alerts", `"alerts":[]`},
		{"/alertmanagers", `"activeAlertmanagers":[]`},
		{"/format_query?query=sum(x)by(a)", `sum by (a) (x)`},
	} {
		status, body := get(t, srv.URL+apiPrefix+tc.path)
		if status != http.StatusOK || !strings.Contains(body, tc.want) {
			t.Errorf("%s: status %d, %.300s; want %s", tc.path, status, body, tc.want)
		}
	}
	for path, want := range map[string]int{apiPrefix + "/query?query=sum(": 400, apiPrefix + "/query?query=x&timeout=x": 400, apiPrefix + "/admin/tsdb/snapshot": 404, Prefix + "/graph": 404, Prefix + "/federate": 400,
		Prefix + "/federate?match[]=sum(x)": 400, Prefix + "/-/ready": 200} {
		if status, body := get(t, srv.URL+path); status != want {
			t.Errorf("%s: status %d %.200s, want %d", path, status, body, want)
		}
	}
	form := url.Values{"query": {"sum(" + strings.Repeat("x+", maxQueryBytes/2) + "x)"}}
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL+apiPrefix+"/query", strings.NewReader(form.Encode()))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if status, _, body := fetch(t, req); status != http.StatusRequestEntityTooLarge || !strings.Contains(body, "max_query_bytes") {
		t.Errorf("a query of a megabyte: status %d %.200s", status, body)
	}
}

func TestFederate(t *testing.T) {
	s, _ := filled(t, Config{})
	srv := serve(t, s)
	status, body := get(t, srv.URL+Prefix+"/federate?match[]={__name__=~%22.%2B%22}")
	if status != http.StatusOK {
		t.Fatal(status, body)
	}
	p := expfmt.NewTextParser(model.UTF8Validation)
	families, err := p.TextToMetricFamilies(strings.NewReader(body))
	if err != nil {
		t.Fatalf("%v in\n%s", err, body)
	}
	if len(families) != 3 || len(families["go_goroutines"].GetMetric()) != 2 || families["cart_orders_total"].GetMetric()[0].GetCounter().GetValue() != 12 {
		t.Errorf("got %v", families)
	}
	for _, want := range []string{"# TYPE cart_orders_total counter", "# HELP cart_orders_total Orders.", `go_gc_pauses_seconds_bucket{instance="i1",job="shop/cart",service_instance_id="i1",service_name="cart",service_namespace="shop",le="0.01"} 5`,
		`le="+Inf"} 10`} {
		if !strings.Contains(body, want) {
			t.Errorf("no %s in\n%s", want, body)
		}
	}
}

func TestQueryURL(t *testing.T) {
	var seen *http.Request
	peer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		seen = r
		_, _ = io.WriteString(w, `{"status":"success","data":{"resultType":"vector","result":[]}}`)
	}))
	defer peer.Close()
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, _ := filled(t, Config{Settings: Settings{QueryURL: peer.URL + "/mimir", QueryTokenFile: token, QueryHeaders: map[string]string{"X-Scope-OrgID": "shop"}}})
	srv := serve(t, s)
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL+apiPrefix+"/query", strings.NewReader("query=up"))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Authorization", "Bearer ours")
	status, _, body := fetch(t, req)
	if status != http.StatusOK || !strings.Contains(body, `"result":[]`) {
		t.Errorf("status %d %s", status, body)
	}
	if seen.URL.Path != "/mimir/api/v1/query" || seen.Form.Get("query") != "up" || seen.Header.Get("Authorization") != "Bearer secret" || seen.Header.Get("X-Scope-OrgID") != "shop" {
		t.Errorf("they were asked %s %v %v", seen.URL, seen.Form, seen.Header)
	}
	seen = nil
	if status, _ := get(t, srv.URL+apiPrefix+"/label/a%2Fb/values"); status != http.StatusOK || seen.URL.EscapedPath() != "/mimir/api/v1/label/a%2Fb/values" {
		t.Errorf("status %d, they were asked %s", status, seen.URL)
	}
	if _, body := get(t, srv.URL+apiPrefix+"/status/tsdb"); !strings.Contains(body, `"numSeries":4`) {
		t.Errorf("what is about this collector was asked elsewhere: %s", body)
	}
	seen = nil
	req, _ = http.NewRequestWithContext(t.Context(), http.MethodDelete, srv.URL+apiPrefix+"/series?match[]=up", nil)
	if status, _, _ := fetch(t, req); status != http.StatusMethodNotAllowed || seen != nil {
		t.Errorf("a deletion: status %d, they were asked %v", status, seen)
	}
	peer.Close()
	status, body = get(t, srv.URL+apiPrefix+"/query?query=up")
	var e struct{ Error, Hint string }
	if err := json.Unmarshal([]byte(body), &e); err != nil || status != http.StatusBadGateway || !strings.Contains(e.Hint, "query_url") {
		t.Errorf("status %d %s, error %v", status, body, err)
	}
}

// TestRuleQuery: a rule is evaluated over what the server of query_url has, as the engine evaluates it over what is here.
func TestRuleQuery(t *testing.T) {
	here, now := filled(t, Config{})
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	there := serve(t, here)
	seen := http.Header{}
	peer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = r.Header.Clone()
		there.Config.Handler.ServeHTTP(w, r)
	}))
	defer peer.Close()
	empty := open(t, Config{Settings: Settings{QueryURL: peer.URL + Prefix, QueryTokenFile: token, QueryHeaders: map[string]string{"X-Scope-OrgID": "shop"}}})
	local, err := here.RuleQuery()
	if err != nil {
		t.Fatal(err)
	}
	remote, err := empty.RuleQuery()
	if err != nil {
		t.Fatal(err)
	}
	for _, expr := range []string{`go_goroutines > 0`, `sum by (service_name) (go_goroutines)`, `histogram_quantile(0.9, go_gc_pauses_seconds)`, `scalar(sum(go_goroutines))`, `nothing`, `vector(1) / 0`} {
		want, err := local(t.Context(), expr, now)
		if err != nil {
			t.Fatal(err)
		}
		got, err := remote(t.Context(), expr, now)
		byLabels := func(a, b promql.Sample) int { return labels.Compare(a.Metric, b.Metric) }
		slices.SortFunc(want, byLabels)
		slices.SortFunc(got, byLabels)
		if err != nil || got.String() != want.String() {
			t.Errorf("%s: %v, error %v; want %v", expr, got, err, want)
		}
	}
	if seen.Get("Authorization") != "Bearer secret" || seen.Get("X-Scope-OrgID") != "shop" {
		t.Errorf("it was asked with %v", seen)
	}
	for expr, want := range map[string]string{`go_gc_pauses_seconds`: "native histogram", `go_goroutines[5m]`: "matrix", `go_(`: "parse error"} {
		if v, err := remote(t.Context(), expr, now); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, error %v; want one with %q", expr, v, err, want)
		}
	}
	peer.Close()
	if _, err := remote(t.Context(), "up", now); err == nil || !strings.Contains(err.Error(), "metrics.query_url") {
		t.Errorf("nobody is there: %v", err)
	}
}

func TestSettings(t *testing.T) {
	for text, set := range map[string]Settings{
		"":                  {},
		"retention_age":     {RetentionAge: model.Duration(time.Hour)},
		"max_series":        {MaxSeries: -1},
		"query_url":         {QueryURL: "http://user:secret@host/"},
		"query_token_file":  {QueryTokenFile: "x"},
		"keep":              {Keep: []string{"go_("}},
		"max_query_samples": {MaxQuerySamples: -1},
	} {
		err := set.Validate()
		if text == "" && err != nil || text != "" && (err == nil || !strings.Contains(err.Error(), text) || strings.Contains(err.Error(), "secret")) {
			t.Errorf("%+v: error %v, want one of %q", set, err, text)
		}
	}
	for text, want := range map[string]Size{"10GB": 10e9, "1.5 kib": 1536, "77": 77, "12B": 12} {
		var n Size
		if err := n.UnmarshalText([]byte(text)); err != nil || n != want {
			t.Errorf("%s is %d, error %v", text, n, err)
		}
	}
	for _, text := range []string{"", "GB", "-1", "NaN", "1e300GB", "ten"} {
		if new(Size).UnmarshalText([]byte(text)) == nil {
			t.Errorf("size %q is no error", text)
		}
	}
}
