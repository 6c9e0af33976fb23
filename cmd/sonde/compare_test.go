package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"
)

const comparedFlame = `{"type":{"id":"cpu:cpu","unit":"nanoseconds"},"total":4000000000,"names":["total","main.main","main.work","main.mine"],"name":[0,1,2,3],"depth":[0,1,2,2],
"value":[4000000000,4000000000,3000000000,1000000000],"self":[0,0,3000000000,1000000000],"nodes":4,"dropped":0}`

const pyroscopeFlame = `{"flamegraph":{"names":["total","main.main","main.work","main.theirs"],"levels":[{"values":["0","2000000000","0","0"]},{"values":["0","2000000000","0","1"]},
{"values":["0","1000000000","1000000000","2","0","1000000000","1000000000","3"]}],"total":"2000000000","maxSelf":"1000000000"}}`

func TestCompare(t *testing.T) {
	time.Local = time.UTC
	asked, token := 0, ""
	var body map[string]any
	pyroscope := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		token = r.Header.Get("X-Scope-OrgID")
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			t.Error(err)
		}
		io.WriteString(w, pyroscopeFlame)
	}))
	defer pyroscope.Close()
	args := []string{"compare", "--with", "pyroscope=" + pyroscope.URL, "--service", "cart", "--with-header", "X-Scope-OrgID: team", "--runs", "2"}
	r := sonde(t, answers("/api/v1/flamegraph", comparedFlame, nil), "", args...)
	want := `cpu:cpu from 2026-11-21 11:00:00 to 2026-11-21 12:00:00
           TOTAL  FUNCTIONS  FIRST  FASTEST  BYTES  TYPE                                        QUERY
sonde      4.00s          2   TIME     TIME   288B  cpu:cpu                                     {service_name="cart"}
pyroscope  2.00s          2   TIME     TIME   289B  process_cpu:cpu:nanoseconds:cpu:nanoseconds  {service_name="cart"}

functions themselves, by share of the total; 50.0% of it is the same
 SONDE  PYROSCOPE  DIFFERENCE  FUNCTION
75.00%     50.00%      -25.00  main.work
 0.00%     50.00%      +50.00  main.theirs
25.00%      0.00%      -25.00  main.mine
`
	words := func(s string) string {
		s = regexp.MustCompile(` [\d.]+(ns|µs|ms|s) +[\d.]+(ns|µs|ms|s) +\d+B`).ReplaceAllString(s, " TIME TIME B")
		s = regexp.MustCompile(` +TIME +TIME +\d*B`).ReplaceAllString(s, " TIME TIME B")
		return strings.Join(strings.Fields(s), " ")
	}
	if r.code != 0 || words(r.stdout) != words(want) {
		t.Errorf("exit %d, stderr %q, stdout:\n%s\nwant about:\n%s", r.code, r.stderr, r.stdout, want)
	}
	if asked != 2 || token != "team" || body["labelSelector"] != `{service_name="cart"}` {
		t.Errorf("asked %d times as %q for %v", asked, token, body)
	}
	r = sonde(t, answers("/api/v1/flamegraph", comparedFlame, nil), "", append(args, "-o", "json", "--with-query", `{app="cart"}`, "--with-type", "a:b:c:d:e")...)
	var c comparison
	if err := json.Unmarshal([]byte(r.stdout), &c); err != nil || c.Overlap != 0.5 || len(c.Functions) != 3 || c.Other.Type != "a:b:c:d:e" || c.Other.Query != `{app="cart"}` || c.Sonde.FirstMs <= 0 || c.Other.FastestMs > c.Other.FirstMs {
		t.Errorf("%v: %s%s", err, r.stdout, r.stderr)
	}
	empty := strings.ReplaceAll(strings.ReplaceAll(comparedFlame, "4000000000", "0"), "3000000000", "0")
	if r := sonde(t, answers("/api/v1/flamegraph", empty, nil), "", args...); r.code != 0 || !strings.Contains(r.stdout, "one of them has nothing") {
		t.Errorf("of nothing: %+v", r)
	}
}

func TestCompareRefuses(t *testing.T) {
	broken := httptest.NewServer(http.NotFoundHandler())
	defer broken.Close()
	for _, tc := range []struct {
		args []string
		want string
	}{
		{nil, "is not pyroscope=URL or parca=URL"},
		{[]string{"--with", "jaeger=http://x"}, "want pyroscope=URL or parca=URL"},
		{[]string{"--with", "parca=http://x", "--type", "wall"}, "--with-type"},
		{[]string{"--with", "parca=http://x", "--focus", "main"}, "the other store is not asked to"},
		{[]string{"--with", "parca=http://x", "--runs", "0"}, "1 at least"},
		{[]string{"--with", "parca=http://x", "--with-header", "none"}, "NAME: VALUE"},
		{[]string{"--with", "pyroscope=" + broken.URL}, "404 Not Found"},
	} {
		r := sonde(t, answers("/api/v1/flamegraph", comparedFlame, nil), "", append([]string{"compare"}, tc.args...)...)
		if r.code == 0 || !strings.Contains(r.stderr, tc.want) {
			t.Errorf("%v: %+v, want %q", tc.args, r, tc.want)
		}
	}
}
