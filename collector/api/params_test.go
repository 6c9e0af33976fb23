package api

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"
)

// FuzzParams reads any query string with every reader: an error, or values that the store may trust.
func FuzzParams(f *testing.F) {
	for _, s := range []string{"", "query=cart&type=cpu&from=now-1h&to=now", "query=%7Ba%3D~%22b%22%7D&type=heap:inuse_space&step=15s&by=a,b&top=3", "step=0.0001&type=x",
		"from=1795241445&to=1795241445123", "from=9e99", "max_nodes=-1", "a=%zz", "type=cpu&type=cpu", "step=1e300", "to=now%2B1000w"} {
		f.Add(s)
	}
	h := New(Config{Now: func() time.Time { return now }})
	f.Fuzz(func(t *testing.T, raw string) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.URL = &url.URL{Path: "/", RawQuery: raw}
		p := h.params(r, "query", "type", "from", "to", "step", "by", "top", "max_nodes", "view")
		q := p.query()
		step := p.step(q.From, q.To)
		top := p.number("top", 10, 0, 1000)
		view := p.oneOf("view", "flame", "top")
		if p.err != nil {
			return
		}
		if q.To <= q.From || step <= 0 || (q.To-q.From)/step > maxSteps || q.Type.Profile == "" || top < 0 || top > 1000 || (view != "flame" && view != "top") {
			t.Errorf("%q: %+v step %d top %d view %q", raw, q, step, top, view)
		}
	})
}
