package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestGetPGOReport(t *testing.T) {
	time.Local = time.UTC
	report := fmt.Sprintf(`{"type":{"id":"cpu:cpu","unit":"nanoseconds"},"from":1794657600000,"to":1795262400000,"total":330000000,"samples":33,"period":10000000,"profiles":3,"processes":3,
"builds":[{"id":"0123456789abcdef","version":"v2","go_version":"go1.26.8","first_seen":%d,"processes":1,"share":0.6666},{"id":"","version":"","go_version":"","first_seen":0,"processes":2,"share":0.3334}],
"newest":[{"id":"fedcba9876543210","version":"v3"}],"source":"binary","exists":0.97,"missing":[{"function":"main.old","share":0.03}]}`, now.Add(-26*time.Hour).UnixMilli())
	var asked url.Values
	h := func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/api/v1/types":
			io.WriteString(w, `{"types":[{"id":"cpu:cpu","profile":"cpu"}]}`)
		case "/api/v1/profile":
			io.WriteString(w, "the profile")
		case "/api/v1/pgo":
			asked = r.URL.Query()
			io.WriteString(w, report)
		default:
			http.NotFound(w, r)
		}
	}
	r := sonde(t, h, "", "get", "-o", "pgo", "--service", "cart", "--since", "7d")
	want := `PGO profile from 2026-11-14 12:00:00 to 2026-11-21 12:00:00: 33 samples, 330ms of CPU in 3 profiles of 3 processes
SHARE  PROCESSES  BUILD         VERSION  GO        FIRST SEEN            AGE
66.7%          1  0123456789ab  v2       go1.26.8  2026-11-20 10:00:00  1d2h
33.3%          2  -             -        -         -                       -
97.0% of the hot code is in the newest build, v3 (fedcba987654), by its binary
  not there: main.old (3.0%)
that is few: a longer --since makes more of the hot calls known to the compiler
`
	if r.code != 0 || r.stdout != "the profile" || r.stderr != want {
		t.Errorf("exit %d, stdout %q, stderr:\n%s\nwant:\n%s", r.code, r.stdout, r.stderr, want)
	}
	if asked.Get("format") != "" || asked.Get("query") != `{service_name="cart"}` || asked.Get("from") != unixMs(now.Add(-7*24*time.Hour).UnixMilli()) {
		t.Errorf("the report is about %v", asked)
	}
	// A collector that cannot make the report has made the profile all the same.
	file := filepath.Join(t.TempDir(), "default.pgo")
	r = sonde(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/api/v1/pgo" {
			http.Error(w, `{"error":"the query took too long"}`, http.StatusServiceUnavailable)
			return
		}
		h(w, r)
	}, "", "get", "-o", "pgo", "-f", file)
	if r.code != 0 || !strings.Contains(r.stderr, "whose it is cannot be told: the query took too long") {
		t.Errorf("%+v", r)
	}
}
