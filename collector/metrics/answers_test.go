package metrics

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql"

	"github.com/sonde-io/sonde/collector/series"
)

func TestAnswersWait(t *testing.T) {
	s := open(t, Config{})
	now := time.Now()
	appendAll(t, s, series.Batch{Samples: []series.Sample{sample("up", now, 1, "job", "a"), sample("up", now, 1, "job", "b")}})
	e := newWeighed(s.engine, 2*(seriesBytes+pointBytes), 1_000_000)
	start := func(expr string) promql.Query {
		q, err := e.NewInstantQuery(t.Context(), s.db, nil, expr, now)
		if err != nil {
			t.Fatal(err)
		}
		return q
	}
	first := start("up")
	if res := first.Exec(t.Context()); res.Err != nil {
		t.Fatal(res.Err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	second := start(`up{job="a"}`)
	if res := second.Exec(ctx); !errors.As(res.Err, new(promql.ErrQueryTimeout)) {
		t.Errorf("while all is taken: %v, %v", res.Value, res.Err)
	}
	second.Close()
	first.Close()
	third, err := e.NewRangeQuery(t.Context(), s.db, nil, "up", now.Add(-time.Minute), now, time.Millisecond) // more than all there is waits for all
	if err != nil {
		t.Fatal(err)
	}
	if res := third.Exec(t.Context()); res.Err != nil {
		t.Error(res.Err)
	}
	third.Close()
	if !e.free.TryAcquire(e.bytes) {
		t.Error("not all was given back")
	}
}

func TestOneOfMany(t *testing.T) {
	s := open(t, Config{Settings: Settings{MaxConcurrentQueries: 1, QueryTimeout: model.Duration(300 * time.Millisecond)}})
	entered, leave := make(chan struct{}), make(chan struct{})
	h := s.oneOfMany(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		<-leave
		<-r.Context().Done() // what it asks for ends with the time
	}))
	done := make(chan struct{})
	go func() {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
		close(done)
	}()
	<-entered
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("the second: %d %v %s", w.Code, w.Header(), w.Body)
	}
	close(leave)
	<-done
}
