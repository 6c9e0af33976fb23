package listen_test

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sonde-io/sonde/internal/listen"
)

const token = "0123456789abcdef0123"

func ok(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "in") }

func guarded(t *testing.T, p listen.Policy) http.Handler {
	t.Helper()
	l, err := listen.Open(t.Context(), p, nil)
	must(t, err)
	t.Cleanup(func() { l.Close() })
	return l.Guard(http.HandlerFunc(ok), listen.Paths("/livez"))
}

func TestGuard(t *testing.T) {
	local, withToken, open := listen.Policy{Address: "127.0.0.1:0"}, listen.Policy{Address: "127.0.0.1:0", Token: token}, listen.Policy{Address: "0.0.0.0:0", Insecure: true}
	named := listen.Policy{Address: "localhost:0"}
	for _, tc := range []struct {
		name    string
		p       listen.Policy
		request string            // METHOD URL
		header  map[string]string // Host is the request's host
		want    int
		error   string
	}{
		{"a program", local, "GET /api", nil, 200, ""},
		{"a program that writes", local, "POST /api", nil, 200, ""},
		{"localhost", local, "GET /api", map[string]string{"Host": "localhost:7070"}, 200, ""},
		{"a name below localhost", named, "GET /api", map[string]string{"Host": "sonde.localhost:7070"}, 200, ""},
		{"IPv6", local, "GET /api", map[string]string{"Host": "[::1]:7070"}, 200, ""},
		{"IPv6 without a port", local, "GET /api", map[string]string{"Host": "[::1]"}, 200, ""},
		{"a rebound name", local, "GET /api", map[string]string{"Host": "evil.example:7070"}, 403, "host evil.example is not this machine's"},
		{"a rebound name that looks local", local, "GET /api", map[string]string{"Host": "localhost.evil.example"}, 403, "not this machine's"},
		{"a rebound name that ends so", local, "GET /api", map[string]string{"Host": "evillocalhost"}, 403, "not this machine's"},
		{"an address of another machine", local, "GET /api", map[string]string{"Host": "10.0.0.5"}, 403, "not this machine's"},
		{"no host", local, "GET /api", map[string]string{"Host": ""}, 403, "not this machine's"},
		{"a name where a token guards", withToken, "GET /api", map[string]string{"Host": "sonde.example", "Authorization": "Bearer " + token}, 200, ""},
		{"a name where insecure was said", open, "GET /api", map[string]string{"Host": "sonde.example"}, 200, ""},

		{"a page of another site that writes", open, "POST /api", map[string]string{"Sec-Fetch-Site": "cross-site"}, 403, "may not write"},
		{"a page of a sibling that writes", open, "POST /api", map[string]string{"Sec-Fetch-Site": "same-site"}, 403, "may not write"},
		{"an old browser's page of another site", open, "POST /api", map[string]string{"Origin": "https://evil.example"}, 403, "may not write"},
		{"our own page", open, "POST /api", map[string]string{"Sec-Fetch-Site": "same-origin", "Origin": "http://127.0.0.1:7070"}, 200, ""},
		{"a link from another site", open, "GET /", map[string]string{"Sec-Fetch-Site": "cross-site"}, 200, ""},
		{"another site's page with a token", withToken, "POST /api", map[string]string{"Sec-Fetch-Site": "cross-site", "Authorization": "Bearer " + token}, 403, "may not write"},

		{"no token", withToken, "GET /api", nil, 401, "wants a token"},
		{"the wrong token", withToken, "GET /api", map[string]string{"Authorization": "Bearer " + token + "x"}, 401, "wrong token"},
		{"half a token", withToken, "GET /api", map[string]string{"Authorization": "Bearer " + token[:10]}, 401, "wrong token"},
		{"an empty token", withToken, "GET /api", map[string]string{"Authorization": "Bearer "}, 401, "wants a token"},
		{"another scheme", withToken, "GET /api", map[string]string{"Authorization": "Basic " + token}, 401, "wants a token"},
		{"the token as a password", withToken, "POST /ingest", map[string]string{"Authorization": "Basic " + base64.StdEncoding.EncodeToString([]byte("anybody:"+token))}, 200, ""},
		{"another password", withToken, "POST /ingest", map[string]string{"Authorization": "Basic " + base64.StdEncoding.EncodeToString([]byte(token+":x"))}, 401, "wrong token"},
		{"the token", withToken, "POST /api", map[string]string{"Authorization": "bearer " + token}, 200, ""},
		{"an exempt path", withToken, "GET /livez", nil, 200, ""},
		{"a write to an exempt path", withToken, "POST /livez", nil, 401, "wants a token"},
		{"below an exempt path", withToken, "GET /livez/x", nil, 401, "wants a token"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			method, path, _ := strings.Cut(tc.request, " ")
			r := httptest.NewRequest(method, path, nil)
			r.Host = "127.0.0.1:7070"
			for k, v := range tc.header {
				if k == "Host" {
					r.Host = v
				} else {
					r.Header.Set(k, v)
				}
			}
			w := httptest.NewRecorder()
			guarded(t, tc.p).ServeHTTP(w, r)
			if w.Code != tc.want {
				t.Fatalf("status %d, want %d: %s", w.Code, tc.want, w.Body)
			}
			if tc.want == 200 {
				return
			}
			var body struct{ Error, Hint string }
			must(t, json.Unmarshal(w.Body.Bytes(), &body))
			if !strings.Contains(body.Error, tc.error) {
				t.Errorf("error %q, want %q", body.Error, tc.error)
			}
			if tc.want == 401 && !strings.HasPrefix(w.Header().Get("WWW-Authenticate"), "Bearer") {
				t.Errorf("WWW-Authenticate = %q", w.Header().Get("WWW-Authenticate"))
			}
			if strings.Contains(w.Body.String(), token) {
				t.Error("the answer tells the token")
			}
		})
	}
}
