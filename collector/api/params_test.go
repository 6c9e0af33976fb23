package api

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sonde-io/sonde/profiles"
)

// FuzzParams reads any query string with every reader: an error, or values that the store may trust.
func FuzzParams(f *testing.F) {
	for _, s := range []string{"", "query=cart&type=cpu&from=now-1h&to=now", "query=%7Ba%3D~%22b%22%7D&type=heap:inuse_space&step=15s&by=a,b&top=3", "step=0.0001&type=x",
		"from=1795241445&to=1795241445123", "from=9e99", "max_nodes=-1", "a=%zz", "sample=%7Ba%3D%22b%22%7D&focus=main%5C..*&ignore=%28&type=cpu", "type=cpu&type=cpu", "step=1e300", "to=now%2B1000w"} {
		f.Add(s)
	}
	h := New(Config{Now: func() time.Time { return now }})
	f.Fuzz(func(t *testing.T, raw string) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.URL = &url.URL{Path: "/", RawQuery: raw}
		p := h.params(r, "query", "type", "from", "to", "step", "by", "top", "max_nodes", "view", "sample", "focus", "ignore")
		q := p.query()
		step, from := p.step(q.From, q.To)
		top := p.number("top", 10, 0, 1000)
		view := p.oneOf("view", "flame", "top")
		if p.err != nil {
			return
		}
		if q.To <= q.From || step <= 0 || (q.To-q.From)/step > maxSteps || from > q.From || q.From-from >= 24*time.Hour.Milliseconds() || q.Type.Profile == "" || top < 0 || top > 1000 || (view != "flame" && view != "top") {
			t.Errorf("%q: %+v step %d top %d view %q", raw, q, step, top, view)
		}
	})
}

// TestRange: a range relative to now starts at a whole minute, of a series at a multiple of the step; explicit times are taken as they are.
func TestRange(t *testing.T) {
	at := time.Date(2026, 11, 21, 12, 34, 56, 789e6, time.UTC)
	h := New(Config{Now: func() time.Time { return at }})
	clock := func(ms int64) string { return time.UnixMilli(ms).UTC().Format("02 15:04:05.000") }
	for query, want := range map[string]string{
		"":                                   "21 11:34:00.000 21 12:34:56.789 30s 21 11:34:00.000",
		"from=now-24h":                       "20 12:34:00.000 21 12:34:56.789 10m0s 20 12:30:00.000",
		"from=now-24h&step=7m":               "20 12:34:00.000 21 12:34:56.789 7m0s 20 12:31:00.000",
		"from=now-2m":                        "21 12:32:56.789 21 12:34:56.789 5s 21 12:32:56.789",
		"from=now-10m&to=now-5m":             "21 12:24:00.000 21 12:29:56.789 5s 21 12:24:00.000",
		"from=2026-11-20T12:34:56Z":          "20 12:34:56.000 21 12:34:56.789 10m0s 20 12:34:56.000",
		"from=2026-11-21T12:00:01Z&step=60s": "21 12:00:01.000 21 12:34:56.789 1m0s 21 12:00:01.000",
	} {
		r := httptest.NewRequest(http.MethodGet, "/?type=cpu&"+query, nil)
		p := h.params(r, append(slices.Clone(common), "step")...)
		q := p.query()
		step, from := p.step(q.From, q.To)
		got := clock(q.From) + " " + clock(q.To) + " " + (time.Duration(step) * time.Millisecond).String() + " " + clock(from)
		if p.err != nil || got != want {
			t.Errorf("%q: %s, %v, want %s", query, got, p.err, want)
		}
	}
}

// TestSelection asks for stacks by function, by label and by build.
func TestSelection(t *testing.T) {
	f := newFixture(t, nil)
	f.push(t, "cart", "v1", "i1", time.Minute, stack{"main.main;main.work", 3}, stack{"main.main;main.idle", 4})
	f.push(t, "cart", "v2", "i2", time.Minute, stack{"main.main;main.work", 5})
	for _, tt := range []struct {
		name, value string
		want        int64
	}{
		{"focus", "work", 8}, {"ignore", "^main.idle$", 8}, {"focus", "main.main", 12}, {"ignore", "main.main", 0}, {"focus", "nothing", 0}, {"ignore", "", 12},
		{"build", "b-v1", 7}, {"build", "b-v2", 5}, {"sample", `{account=""}`, 12}, {"sample", `{account="A"}`, 0},
	} {
		var flame profiles.Flame
		f.decode(t, &flame, "flamegraph", "query", "cart", "type", "cpu", tt.name, tt.value)
		if want := tt.want * 10_000_000; flame.Total != want {
			t.Errorf("%s=%s: total %d, want %d", tt.name, tt.value, flame.Total, want)
		}
		var series struct{ Series []struct{ Total float64 } }
		f.decode(t, &series, "series", "query", "cart", "type", "cpu", tt.name, tt.value)
		total := 0.0
		for _, s := range series.Series {
			total += s.Total
		}
		if total != float64(tt.want*10_000_000) {
			t.Errorf("%s=%s: series of %f, want %d", tt.name, tt.value, total, tt.want*10_000_000)
		}
	}
	for _, tt := range []struct {
		name, value, want string
		status            int
	}{
		{"focus", "(", `parameter focus: \"(\" is no regular expression: error parsing regexp: missing closing ): `, 400},
		{"ignore", "+", `parameter ignore: \"+\" is no regular expression`, 400},
		{"sample", "A", `parameter sample: \"A\" is not a selector of sample labels, such as {account=\"A\"}`, 400},
		{"build", "b-unknown", `parameter build: no process of build \"b-unknown\" is known in the range`, 404},
	} {
		if w := f.get(t, "flamegraph", "query", "cart", "type", "cpu", tt.name, tt.value); w.Code != tt.status || !strings.Contains(w.Body.String(), tt.want) {
			t.Errorf("%s=%s: %d %s, want %d %s", tt.name, tt.value, w.Code, w.Body, tt.status, tt.want)
		}
	}
}
