package peertest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/grafana/pyroscope-go"
	"go.opentelemetry.io/collector/pdata/pprofile/pprofileotlp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
)

// bearer puts a token on every call.
type bearer string

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

func (bearer) RequireTransportSecurity() bool { return true }

// certificate writes a certificate for loopback and returns the flags that name it and who trusts it.
func certificate(t *testing.T) (flags []string, trust *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "sonde test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir, pool := t.TempDir(), x509.NewCertPool()
	for name, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool.AddCert(parsed)
	return []string{"--tls-cert", filepath.Join(dir, "cert.pem"), "--tls-key", filepath.Join(dir, "key.pem")}, &tls.Config{RootCAs: pool}
}

// TestTLSAndToken delivers to a collector as it stands on a network: behind TLS and a token.
func TestTLSAndToken(t *testing.T) {
	const token = "a-token-of-the-collector-that-is-long-enough"
	flags, trust := certificate(t)
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: trust}
	defer transport.CloseIdleConnections()
	c := start(t, "https", &http.Client{Transport: transport}, append(flags, "--token-file", file)...)
	c.token = token

	at := time.Now().Add(-time.Minute)
	call := func(opts ...grpc.DialOption) error {
		conn, err := grpc.NewClient(strings.TrimPrefix(c.url, "https://"), append(opts, grpc.WithTransportCredentials(credentials.NewTLS(trust)))...)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, err = pprofileotlp.NewGRPCClient(conn).Export(t.Context(), pprofileotlp.NewExportRequestFromProfiles(ebpf(at, "ebpf", 3)))
		return err
	}
	if err := call(); status.Code(err) != codes.Unauthenticated {
		t.Errorf("error %v without the token, want Unauthenticated", err)
	}
	if err := call(grpc.WithPerRPCCredentials(bearer(token))); err != nil {
		t.Error(err)
	}
	from, to := at.Add(-time.Minute).UnixMilli(), time.Now().Add(time.Minute).UnixMilli()
	if got := c.total(t, "ebpf", "cpu", from, to); got != 3*50_000_000 {
		t.Errorf("the collector holds %d ns, want %d", got, 3*50_000_000)
	}
	p, err := pyroscope.Start(pyroscope.Config{ApplicationName: "cart", ServerAddress: c.url, BasicAuthUser: "anybody", BasicAuthPassword: token, UploadRate: 500 * time.Millisecond,
		HTTPClient: &http.Client{Transport: transport}, ProfileTypes: []pyroscope.ProfileType{pyroscope.ProfileGoroutines}})
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Processes []struct{ Gatherer string }
	}
	for end := time.Now().Add(20 * time.Second); len(answer.Processes) == 0; time.Sleep(50 * time.Millisecond) {
		if c.get(t, "/api/v1/processes?service=cart", &answer); time.Now().After(end) {
			t.Fatal("nothing came from the SDK in 20 s")
		}
	}
	if got := answer.Processes[0].Gatherer; got != "sdk" {
		t.Errorf("gatherer %s", got)
	}
	if err := p.Stop(); err != nil {
		t.Error(err)
	}
}
