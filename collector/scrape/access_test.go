package scrape

import (
	"context"
	"encoding/pem"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func write(t *testing.T, name, text string) string {
	t.Helper()
	name = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestTargetsAreAskedAsTheyWant asks a server with TLS what it was told of the client.
func TestTargetsAreAskedAsTheyWant(t *testing.T) {
	var header atomic.Value
	srv := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { header.Store(r.Header.Get("Authorization")) }))
	srv.Config.ErrorLog = nil
	defer srv.Close()
	ca := write(t, "ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})))
	token := write(t, "token", "t0ken\n")
	for _, tt := range []struct {
		name   string
		http   HTTPOptions
		header string
		err    string
	}{
		{"certificate unknown", HTTPOptions{}, "", "certificate"},
		{"certificate known", HTTPOptions{TLS: TLSOptions{CAFile: ca, ServerName: "example.com"}}, "", ""},
		{"certificate of another", HTTPOptions{TLS: TLSOptions{CAFile: ca, ServerName: "other.test"}}, "", "other.test"},
		{"not verified", HTTPOptions{TLS: TLSOptions{InsecureSkipVerify: true}}, "", ""},
		{"authorities not there", HTTPOptions{TLS: TLSOptions{CAFile: "/none"}}, "", "/none"},
		{"authorities that are none", HTTPOptions{TLS: TLSOptions{CAFile: token}}, "", "holds none"},
		{"token", HTTPOptions{TLS: TLSOptions{InsecureSkipVerify: true}, BearerTokenFile: token}, "Bearer t0ken", ""},
		{"credentials", HTTPOptions{TLS: TLSOptions{InsecureSkipVerify: true}, Authorization: Authorization{Type: "Token", CredentialsFile: token}}, "Token t0ken", ""},
		{"token not there", HTTPOptions{TLS: TLSOptions{InsecureSkipVerify: true}, BearerTokenFile: "/none"}, "", "/none"},
		{"user", HTTPOptions{TLS: TLSOptions{InsecureSkipVerify: true}, BasicAuth: BasicAuth{Username: "u", PasswordFile: token}}, "Basic dTp0MGtlbg==", ""},
	} {
		f := newFetcher(Config{Timeout: 5 * time.Second, MaxBody: 1 << 20})
		target := Target{Service: "cart", URL: srv.URL, HTTP: tt.http}
		if err := target.normalize(""); err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		target.access = newAccess(&target)
		header.Store("")
		_, err := f.get(context.Background(), &target, "heap", 0)
		switch {
		case tt.err == "" && err != nil, tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
			t.Errorf("%s: error %v, want %q", tt.name, err, tt.err)
		case header.Load() != tt.header:
			t.Errorf("%s: Authorization %q, want %q", tt.name, header.Load(), tt.header)
		}
		target.access.close()
		f.close()
	}
}

// TestReplacedTokenIsRead: kubelets and operators replace files while Sonde runs.
func TestReplacedTokenIsRead(t *testing.T) {
	var header atomic.Value
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { header.Store(r.Header.Get("Authorization")) }))
	defer srv.Close()
	token := write(t, "token", "one")
	f := newFetcher(Config{Timeout: 5 * time.Second, MaxBody: 1 << 20})
	defer f.close()
	target := Target{URL: srv.URL, HTTP: HTTPOptions{BearerTokenFile: token}}
	for _, want := range []string{"one", "two"} {
		if err := os.WriteFile(token, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := f.get(context.Background(), &target, "heap", 0); err != nil || header.Load() != "Bearer "+want {
			t.Errorf("Authorization %q, %v", header.Load(), err)
		}
	}
}

// TestTargetsWithADialAreNotMixedUp: the same address is another program in another network.
func TestTargetsWithADialAreNotMixedUp(t *testing.T) {
	f := newFetcher(Config{Timeout: 5 * time.Second, MaxBody: 1 << 20})
	defer f.close()
	var targets []Target
	for _, name := range []string{"one", "two"} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(name)) }))
		defer srv.Close()
		target := Target{Service: name, URL: "http://127.0.0.1:6060/debug/pprof", Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, srv.Listener.Addr().String())
		}}
		target.access = newAccess(&target)
		defer target.access.close()
		targets = append(targets, target)
	}
	for range 3 {
		for i := range targets {
			if b, err := f.get(context.Background(), &targets[i], "heap", 0); err != nil || string(b) != targets[i].Service {
				t.Errorf("%s answered %q, %v", targets[i].Service, b, err)
			}
		}
	}
}

func TestHTTPOptionsValidate(t *testing.T) {
	for name, o := range map[string]HTTPOptions{
		"two ways":               {BearerTokenFile: "a", BasicAuth: BasicAuth{Username: "u"}},
		"a type without a token": {Authorization: Authorization{Type: "Bearer"}},
		"basic as a type":        {Authorization: Authorization{Type: "Basic", CredentialsFile: "a"}},
		"a header in a type":     {Authorization: Authorization{Type: "a\r\nb", CredentialsFile: "a"}},
		"a password of nobody":   {BasicAuth: BasicAuth{PasswordFile: "a"}},
		"a colon in a name":      {BasicAuth: BasicAuth{Username: "a:b"}},
		"half a certificate":     {TLS: TLSOptions{CertFile: "a"}},
	} {
		if err := o.Validate(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if err := (&HTTPOptions{}).Validate(); err != nil {
		t.Errorf("nothing set: %v", err)
	}
}
