package receive

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/pprof/profile"
)

func bigProfile() *profile.Profile {
	p := cpuProfile(1)
	p.Comments = []string{strings.Repeat("c", 60000)}
	for range 40 {
		p.Comments = append(p.Comments, strings.Repeat("d", 60000)+string(rune('a'+len(p.Comments))))
	}
	return p
}

func single1(query string, body []byte, header ...string) *http.Request {
	r := httptest.NewRequest("POST", "/api/v1/profiles?"+query, bytes.NewReader(body))
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return r
}

func TestProfileStores(t *testing.T) {
	snapshot := cpuProfile(3)
	snapshot.DurationNanos = 0
	timeless := cpuProfile(3)
	timeless.TimeNanos, timeless.DurationNanos = 0, 0
	ms := testNow.UnixMilli()
	for _, tt := range []struct {
		name, query string
		body        []byte
		want        storedProfile
	}{
		{"own time", "service=cart&type=cpu", gz(t, cpuProfile(3)), storedProfile{`{service_name="cart"}`, "cpu", ms - 60000, ms - 50000, 3}},
		{"not gzipped", "service=cart&type=cpu", raw(t, cpuProfile(3)), storedProfile{`{service_name="cart"}`, "cpu", ms - 60000, ms - 50000, 3}},
		{"snapshot", "service=cart&type=heap", gz(t, snapshot), storedProfile{`{service_name="cart"}`, "heap", ms - 70000, ms - 60000, 3}},
		{"no time", "service=cart&type=cpu", gz(t, timeless), storedProfile{`{service_name="cart"}`, "cpu", ms - 10000, ms, 3}},
		{"start", "service=cart&type=cpu&start=now-2m", gz(t, cpuProfile(3)), storedProfile{`{service_name="cart"}`, "cpu", ms - 120000, ms - 110000, 3}},
		{"end", "service=cart&type=cpu&end=now-2m", gz(t, cpuProfile(3)), storedProfile{`{service_name="cart"}`, "cpu", ms - 130000, ms - 120000, 3}},
		{"both", "service=cart&type=cpu&start=now-2m&end=now", gz(t, cpuProfile(3)), storedProfile{`{service_name="cart"}`, "cpu", ms - 120000, ms, 3}},
		{"labels", "service=cart&type=cpu&instance=cart-1&label.host_name=n1&label.service_version=v2", gz(t, cpuProfile(3)),
			storedProfile{`{host_name="n1", service_instance_id="cart-1", service_name="cart", service_version="v2"}`, "cpu", ms - 60000, ms - 50000, 3}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := new(memory)
			_, mux, _ := newTest(t, m, nil)
			rec, a := do(t, mux, single1(tt.query, tt.body))
			if rec.Code != 200 || a.Status != "ok" || a.Profiles != 1 || a.Samples != 3 {
				t.Fatalf("%d %+v", rec.Code, a)
			}
			if got := m.got[0].profiles[0]; got != tt.want {
				t.Errorf("stored %+v\nwant   %+v", got, tt.want)
			}
		})
	}
}

func TestProfileProcess(t *testing.T) {
	m := new(memory)
	_, mux, _ := newTest(t, m, nil)
	do(t, mux, single1("service=cart&type=cpu&instance=cart-1&label.service_version=v2", gz(t, cpuProfile(1))))
	do(t, mux, single1("service=cart&type=cpu", gz(t, cpuProfile(1))))
	if p := m.got[0].process; p.Instance != "cart-1" || p.Gatherer != "push" || p.Version != "v2" || p.LastSeen != testNow.UnixMilli() {
		t.Errorf("process %+v", p)
	}
	if p := m.got[1].process; p.Instance != "" || p.Service != "" {
		t.Errorf("a profile of no instance made the process %+v", p)
	}
}

func TestProfileIdempotency(t *testing.T) {
	m := new(memory)
	_, mux, _ := newTest(t, m, nil)
	for i, want := range []string{"ok", "duplicate", "duplicate"} {
		if _, a := do(t, mux, single1("service=cart&type=cpu", gz(t, cpuProfile(1)), "Idempotency-Key", "k1")); a.Status != want {
			t.Errorf("push %d: %+v, want %s", i, a, want)
		}
	}
	if _, a := do(t, mux, single1("service=cart&type=cpu", gz(t, cpuProfile(1)), "Idempotency-Key", "k2")); a.Status != "ok" {
		t.Errorf("another key: %+v", a)
	}
	for range 2 {
		if _, a := do(t, mux, single1("service=cart&type=cpu", gz(t, cpuProfile(1)))); a.Status != "ok" {
			t.Errorf("no key: %+v", a)
		}
	}
	if len(m.got) != 4 {
		t.Errorf("%d stored, want 4", len(m.got))
	}
}

func TestProfileRefuses(t *testing.T) {
	good := gz(t, cpuProfile(1))
	old := cpuProfile(1)
	old.TimeNanos = testNow.Add(-8 * 24 * time.Hour).UnixNano()
	for _, tt := range []struct {
		name, query string
		body        []byte
		header      []string
		status      int
		want        string
	}{
		{"no service", "type=cpu", good, nil, 400, "service is missing"},
		{"no type", "service=a", good, nil, 400, "type is missing"},
		{"bad type", "service=a&type=c%2Fu", good, nil, 400, "cannot name a type"},
		{"unknown parameter", "service=a&type=cpu&form=x", good, nil, 400, `unknown parameter "form"`},
		{"given twice", "service=a&type=cpu&type=heap", good, nil, 400, "given 2 times"},
		{"bad time", "service=a&type=cpu&start=yesterday", good, nil, 400, "parameter start"},
		{"broken query", "service=a&type=cpu&x=%zz", good, nil, 400, "read parameters"},
		{"bad label", "service=a&type=cpu&label.a-b=c", good, nil, 422, `"a-b"`},
		{"service as label", "service=a&type=cpu&label.service_name=b", good, nil, 400, "use service"},
		{"not UTF-8", "service=%ff&type=cpu", good, nil, 422, "not UTF-8"},
		{"end before start", "service=a&type=cpu&start=now&end=now-1m", good, nil, 422, "is not after start"},
		{"old", "service=a&type=cpu", gz(t, old), nil, 422, "older than the retention"},
		{"content type", "service=a&type=cpu", good, []string{"Content-Type", "text/html"}, 415, `"text/html"`},
		{"content encoding", "service=a&type=cpu", good, []string{"Content-Encoding", "br"}, 415, `"br"`},
		{"long key", "service=a&type=cpu", good, []string{"Idempotency-Key", strings.Repeat("k", 257)}, 400, "257"},
		{"empty body", "service=a&type=cpu", nil, nil, 422, "no data"},
		{"not a profile", "service=a&type=cpu", []byte("<html>"), nil, 422, "decode profile"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := new(memory)
			_, mux, _ := newTest(t, m, nil)
			rec, a := do(t, mux, single1(tt.query, tt.body, tt.header...))
			if rec.Code != tt.status || !strings.Contains(a.Error, tt.want) {
				t.Errorf("%d %q, want %d with %q", rec.Code, a.Error, tt.status, tt.want)
			}
			if len(m.got) != 0 {
				t.Error("something was stored")
			}
		})
	}
}
