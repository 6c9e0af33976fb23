package metrics

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/sonde-io/sonde/collector/metrics/intake"
	"github.com/sonde-io/sonde/collector/metrics/rules"
)

// requests is a counter of requests with an exemplar, as OpenTelemetry's SDK sends it.
func requests(service string, at time.Time) pmetric.Metrics {
	md := pmetric.NewMetrics()
	rm := md.ResourceMetrics().AppendEmpty()
	rm.Resource().Attributes().PutStr("service.name", service)
	m := rm.ScopeMetrics().AppendEmpty().Metrics().AppendEmpty()
	m.SetName("requests")
	m.SetDescription("Requests.")
	sum := m.SetEmptySum()
	sum.SetIsMonotonic(true)
	sum.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	p := sum.DataPoints().AppendEmpty()
	p.SetTimestamp(pcommon.NewTimestampFromTime(at))
	p.SetIntValue(12)
	e := p.Exemplars().AppendEmpty()
	e.SetTimestamp(p.Timestamp())
	e.SetIntValue(1)
	var id pcommon.TraceID
	if _, err := hex.Decode(id[:], []byte("4bf92f3577b34da6a3ce929d0e0e4736")); err != nil {
		panic(err)
	}
	e.SetTraceID(id)
	return md
}

func processOf(attributes map[string]string) (labels.Labels, error) {
	if attributes["service.name"] == "" {
		return labels.EmptyLabels(), fmt.Errorf("no service.name")
	}
	return labels.FromStrings("service_name", attributes["service.name"], "service_instance_id", "i1"), nil
}

// TestEdgesShareARegistry: store, API, intake, rules and remote-write out live with one registry, and what comes in by OTLP is found with its exemplar and its help.
func TestEdgesShareARegistry(t *testing.T) {
	reg := prometheus.NewRegistry()
	s := open(t, Config{Registerer: reg})
	in := intake.New(intake.Config{Series: s, Appendable: s.Appendable(), Registerer: reg})
	w, err := s.NewRemoteWriter(RemoteWriterConfig{To: remoteWrites(t, `[{url: "http://127.0.0.1:1/write"}]`), FlushDeadline: time.Millisecond, Registerer: reg})
	if err != nil {
		t.Fatal(err)
	}
	query, err := s.RuleQuery()
	if err != nil {
		t.Fatal(err)
	}
	r, err := rules.New(rules.Config{Query: query, Queryable: s.Queryable(), Appendable: s.Appendable(), Series: s, Registerer: reg})
	if err != nil {
		t.Fatal(err)
	}
	s.ShowRules(r, r)
	srv := serve(t, s)

	now := time.Now()
	if rejected, why, err := in.KeepOTLP(t.Context(), requests("cart", now), processOf); err != nil || rejected != 0 {
		t.Fatalf("%d rejected: %s, error %v", rejected, why, err)
	}
	for path, want := range map[string]string{
		"/query?query=requests_total": `"job":"cart"`,
		fmt.Sprintf("/query_exemplars?query=requests_total&start=%d&end=%d", now.Unix()-60, now.Unix()+60): `"trace_id":"4bf92f3577b34da6a3ce929d0e0e4736"`,
		"/metadata?metric=requests_total": "Requests.",
		"/rules":                          `"groups":[]`,
		"/alertmanagers":                  `"activeAlertmanagers":[]`,
	} {
		resp, err := http.Get(srv.URL + apiPrefix + path)
		if err != nil {
			t.Fatal(err)
		}
		body := new(strings.Builder)
		if err := resp.Write(body); err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(body.String(), want) {
			t.Errorf("%s: %s, want %s", path, body, want)
		}
		resp.Body.Close()
	}
	if _, err := reg.Gather(); err != nil {
		t.Errorf("gather: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, run := range []func(context.Context) error{w.Run, r.Run} {
		if err := run(ctx); err != nil {
			t.Error(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Errorf("closed again: %v", err)
	}
}

// TestOTLPBounds: a data point over a limit is left out and counted, the others are kept.
func TestOTLPBounds(t *testing.T) {
	s := open(t, Config{})
	reg := prometheus.NewRegistry()
	in := intake.New(intake.Config{Series: s, Registerer: reg})
	md := requests("cart", time.Now())
	ms := md.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics()
	many := ms.AppendEmpty()
	many.SetName("many")
	p := many.SetEmptyGauge().DataPoints().AppendEmpty()
	for i := range 65 {
		p.Attributes().PutInt(fmt.Sprint("a", i), 1)
	}
	many.Gauge().DataPoints().AppendEmpty().Attributes().PutStr("long", strings.Repeat("x", 9000))
	wide := ms.AppendEmpty()
	wide.SetName("wide")
	h := wide.SetEmptyHistogram()
	h.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	h.DataPoints().AppendEmpty().BucketCounts().FromRaw(make([]uint64, 1001))
	md.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty().Metrics().AppendEmpty().SetEmptyGauge().DataPoints().AppendEmpty()
	if cost := in.CostOTLP(md); cost < 1001*512 {
		t.Errorf("the cost is %d, which is not that of a histogram with 1001 buckets", cost)
	}
	rejected, why, err := in.KeepOTLP(t.Context(), md, processOf)
	if err != nil || rejected != 4 || !strings.Contains(why, "max_point_attributes is 64") {
		t.Errorf("%d rejected: %s, error %v", rejected, why, err)
	}
	want := `
# HELP sonde_otlp_points_rejected_total Data points of metrics that came by OTLP and were left out: delta (temporality), attributes (more than max_point_attributes, or max_point_attribute_bytes), buckets (more than max_buckets), invalid.
# TYPE sonde_otlp_points_rejected_total counter
sonde_otlp_points_rejected_total{reason="attributes"} 2
sonde_otlp_points_rejected_total{reason="buckets"} 1
sonde_otlp_points_rejected_total{reason="delta"} 0
sonde_otlp_points_rejected_total{reason="invalid"} 1
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "sonde_otlp_points_rejected_total"); err != nil {
		t.Error(err)
	}
}
