package metrics

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/api"
	promapi "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	promrules "github.com/prometheus/prometheus/rules"
)

// maxVectorBytes bounds the answer to a rule's query: some 100,000 series.
const maxVectorBytes = 32 << 20

// RuleQuery returns what evaluates a rule's expression: the engine over what is stored, or the server of query_url, which has the series of other collectors too.
func (s *Store) RuleQuery() (promrules.QueryFunc, error) {
	if s.set.QueryURL == "" {
		return promrules.EngineQueryFunc(s.engine, s.db), nil
	}
	client, err := api.NewClient(api.Config{Address: s.set.QueryURL, RoundTripper: bounded{newElsewhere(s.set)}})
	if err != nil {
		return nil, fmt.Errorf("setting metrics.query_url: %w", err)
	}
	asked := promapi.NewAPI(client)
	timeout := time.Duration(s.set.QueryTimeout)
	return func(ctx context.Context, expr string, t time.Time) (promql.Vector, error) {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		v, _, _, err := asked.Query(ctx, expr, t, promapi.WithTimeout(timeout))
		if err != nil {
			return nil, fmt.Errorf("ask metrics.query_url: %w", err)
		}
		return vectorOf(v)
	}, nil
}

// vectorOf makes what the engine gives a rule of what a server answered.
func vectorOf(v model.Value) (promql.Vector, error) {
	switch v := v.(type) {
	case *model.Scalar:
		return promql.Vector{{T: int64(v.Timestamp), F: float64(v.Value)}}, nil
	case model.Vector:
		out := make(promql.Vector, 0, len(v))
		for _, sample := range v {
			if sample.Histogram != nil {
				return nil, errors.New("the server of metrics.query_url answers a native histogram, whose exact buckets its JSON does not have: take a quantile, a sum or a count of it in the rule")
			}
			b := labels.NewScratchBuilder(len(sample.Metric))
			for name, value := range sample.Metric {
				b.Add(string(name), string(value))
			}
			b.Sort()
			out = append(out, promql.Sample{T: int64(sample.Timestamp), F: float64(sample.Value), Metric: b.Labels()})
		}
		return out, nil
	default:
		return nil, fmt.Errorf("the server of metrics.query_url answers a %v; a rule wants a vector or a scalar", v.Type())
	}
}

// elsewhere asks the server of query_url with its token, a file that may be replaced at any time, and headers.
type elsewhere struct {
	set  Settings
	next http.RoundTripper
}

func newElsewhere(set Settings) http.RoundTripper { return elsewhere{set, http.DefaultTransport} }

// RoundTrip implements http.RoundTripper.
func (e elsewhere) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	for name, v := range e.set.QueryHeaders {
		r.Header.Set(name, v)
	}
	if e.set.QueryTokenFile != "" {
		b, err := os.ReadFile(e.set.QueryTokenFile)
		if err != nil {
			return nil, fmt.Errorf("read metrics.query_token_file: %w", err)
		}
		r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(b)))
	}
	return e.next.RoundTrip(r)
}

// bounded refuses answers of more than maxVectorBytes.
type bounded struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := b.next.RoundTrip(r)
	if err == nil {
		answer.Body = http.MaxBytesReader(nil, answer.Body, maxVectorBytes)
	}
	return answer, err
}
