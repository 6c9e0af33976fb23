package listen_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sonde-io/sonde/internal/listen"
)

// TestMain fails the tests if they leave goroutines behind.
func TestMain(m *testing.M) {
	before := runtime.NumGoroutine()
	code := m.Run()
	http.DefaultClient.CloseIdleConnections()
	for range 500 {
		if runtime.NumGoroutine() <= before {
			os.Exit(code)
		}
		time.Sleep(10 * time.Millisecond)
	}
	buf := make([]byte, 1<<20)
	fmt.Fprintf(os.Stderr, "goroutines are left behind:\n%s\n", buf[:runtime.Stack(buf, true)])
	os.Exit(1)
}

// serve serves h and returns the listener and a function that stops it and returns what Serve returned.
func serve(t *testing.T, p listen.Policy, h http.HandlerFunc, s listen.Serving) (*listen.Listener, func() error) {
	t.Helper()
	l, err := listen.Open(t.Context(), p, nil)
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Serve(ctx, h, s) }()
	stop := sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() { stop() })
	return l, stop
}

func writeCert(t *testing.T, dir string, serial int64) (cert, key string, pool *x509.CertPool) {
	t.Helper()
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "sonde test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &priv.PublicKey, priv)
	must(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(priv)
	must(t, err)
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	must(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	must(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600))
	parsed, err := x509.ParseCertificate(der)
	must(t, err)
	pool = x509.NewCertPool()
	pool.AddCert(parsed)
	return cert, key, pool
}

func get(t *testing.T, c *http.Client, url, token string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	must(t, err)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := c.Do(req)
	must(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp, string(b)
}

// TestTLSWithToken serves as on a public address: certificate, token, HTTP/2, a certificate that is renewed, and one that is broken.
func TestTLSWithToken(t *testing.T) {
	dir := t.TempDir()
	cert, key, pool := writeCert(t, dir, 1)
	tokenFile := filepath.Join(dir, "token")
	must(t, os.WriteFile(tokenFile, []byte(token+"\n"), 0o600))
	l, stop := serve(t, listen.Policy{Address: "127.0.0.1:0", TokenFile: tokenFile, TLSCertFile: cert, TLSKeyFile: key}, ok, listen.Serving{})
	if !strings.HasPrefix(l.URL(), "https://127.0.0.1:") || !l.HasToken() {
		t.Errorf("URL = %s, HasToken = %v", l.URL(), l.HasToken())
	}
	client := func(pool *x509.CertPool) *http.Client {
		tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}
		t.Cleanup(tr.CloseIdleConnections)
		return &http.Client{Transport: tr}
	}
	resp, body := get(t, client(pool), l.URL(), token)
	if resp.StatusCode != 200 || body != "in" || resp.ProtoMajor != 2 {
		t.Errorf("with token: %s %q over %s", resp.Status, body, resp.Proto)
	}
	if resp, _ := get(t, client(pool), l.URL(), ""); resp.StatusCode != 401 {
		t.Errorf("without token: %s", resp.Status)
	}
	if _, err := client(x509.NewCertPool()).Get(l.URL()); err == nil {
		t.Error("a client that does not know the certificate gets in")
	}

	_, _, renewed := writeCert(t, dir, 2)
	if resp, _ := get(t, client(renewed), l.URL(), token); resp.StatusCode != 200 {
		t.Errorf("with the renewed certificate: %s", resp.Status)
	}
	must(t, os.WriteFile(cert, []byte("broken"), 0o600))
	if resp, _ := get(t, client(renewed), l.URL(), token); resp.StatusCode != 200 {
		t.Errorf("with a broken file the certificate before stays: %s", resp.Status)
	}
	if err := stop(); err != nil {
		t.Errorf("Serve = %v", err)
	}
	_, err := listen.Open(t.Context(), listen.Policy{Address: "127.0.0.1:0", TLSCertFile: cert, TLSKeyFile: key}, nil)
	if e, ok := errors.AsType[*listen.Error](err); !ok || !strings.Contains(err.Error(), cert) || e.Hint() == "" {
		t.Errorf("Open with a broken certificate = %v", err)
	}
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.sock")
	// A socket that a killed process left behind.
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	must(t, err)
	stale.SetUnlinkOnClose(false)
	must(t, stale.Close())

	l, stop := serve(t, listen.Policy{Address: "unix:" + path}, ok, listen.Serving{})
	st, err := os.Stat(path)
	must(t, err)
	if st.Mode().Perm() != 0o600 || l.URL() != "unix:"+path {
		t.Errorf("mode %v, URL %s", st.Mode(), l.URL())
	}
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}}
	defer tr.CloseIdleConnections()
	if resp, body := get(t, &http.Client{Transport: tr}, "http://any.name", ""); resp.StatusCode != 200 || body != "in" {
		t.Errorf("%s %q", resp.Status, body)
	}
	if err := stop(); err != nil {
		t.Errorf("Serve = %v", err)
	}
}

// TestStopDropsNoRequest stops a server while clients with open connections write to it as fast as they can.
func TestStopDropsNoRequest(t *testing.T) {
	var handled atomic.Int64
	l, stop := serve(t, listen.Policy{Address: "127.0.0.1:0"}, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		handled.Add(1)
	}, listen.Serving{})
	const clients = 4
	var answered, refused atomic.Int64
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			tr := &http.Transport{MaxIdleConnsPerHost: 1}
			defer tr.CloseIdleConnections()
			c := &http.Client{Transport: tr}
			for {
				// A body without GetBody, so that the transport repeats nothing in secret.
				resp, err := c.Post(l.URL(), "text/plain", io.MultiReader(strings.NewReader("profile")))
				if errors.Is(err, syscall.ECONNREFUSED) {
					refused.Add(1)
					return
				}
				if err != nil {
					t.Errorf("a request was dropped: %v", err)
					return
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if answered.Add(1) == 2000 {
					go stop()
				}
			}
		})
	}
	wg.Wait()
	if err := stop(); err != nil {
		t.Errorf("Serve = %v", err)
	}
	if answered.Load() != handled.Load() || refused.Load() != clients {
		t.Errorf("%d handled, %d answered, %d clients sent elsewhere, want %d", handled.Load(), answered.Load(), refused.Load(), clients)
	}
}

func TestStopWaitsForWhatIsInFlight(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	l, stop := serve(t, listen.Policy{Address: "127.0.0.1:0"}, func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-release
		fmt.Fprint(w, r.Context().Err())
	}, listen.Serving{Settle: time.Millisecond, Deadline: time.Minute})
	got := make(chan string, 1)
	go func() {
		_, body := get(t, http.DefaultClient, l.URL(), "")
		got <- body
	}()
	<-entered
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	for { // until new connections are refused
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			break
		}
		conn.Close()
	}
	select {
	case err := <-stopped:
		t.Fatalf("Serve returned %v with a request in flight", err)
	default:
	}
	close(release)
	if body := <-got; body != "<nil>" {
		t.Errorf("the request in flight saw its context end: %s", body)
	}
	if err := <-stopped; err != nil {
		t.Errorf("Serve = %v", err)
	}
}

func TestStopCutsAtTheDeadline(t *testing.T) {
	entered, returned := make(chan struct{}), make(chan struct{})
	l, stop := serve(t, listen.Policy{Address: "127.0.0.1:0"}, func(w http.ResponseWriter, r *http.Request) {
		defer close(returned)
		close(entered)
		<-r.Context().Done()
	}, listen.Serving{Settle: time.Millisecond, Deadline: 50 * time.Millisecond})
	failed := make(chan error, 1)
	go func() {
		_, err := http.Get(l.URL())
		failed <- err
	}()
	<-entered
	if err := stop(); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Serve = %v, want DeadlineExceeded", err)
	}
	select {
	case <-returned:
	default:
		t.Error("Serve returned before its handler")
	}
	if err := <-failed; err == nil {
		t.Error("the client of a request that was cut got an answer")
	}
}

func TestServeEndsWithItsListener(t *testing.T) {
	l, err := listen.Open(t.Context(), listen.Policy{Address: "127.0.0.1:0"}, nil)
	must(t, err)
	must(t, l.Close())
	if err := l.Serve(t.Context(), http.HandlerFunc(ok), listen.Serving{}); err == nil {
		t.Error("Serve on a closed listener: no error")
	}
}

func TestURL(t *testing.T) {
	for addr, want := range map[string]string{"127.0.0.1:0": "http://127.0.0.1:", "localhost:0": "http://localhost:", "0.0.0.0:0": "http://127.0.0.1:"} {
		l, err := listen.Open(t.Context(), listen.Policy{Address: addr, Insecure: true}, nil)
		must(t, err)
		if !strings.HasPrefix(l.URL(), want) || strings.HasSuffix(l.URL(), ":0") {
			t.Errorf("URL of %s = %s", addr, l.URL())
		}
		must(t, l.Close())
	}
}
