package listen_test

import (
	"crypto/tls"
	"io"
	"net/http"
	"testing"

	"github.com/sonde-io/sonde/internal/listen"
)

// gRPC's clients speak HTTP/2 only, and without TLS they begin with it.
func TestHTTP2(t *testing.T) {
	for _, secure := range []bool{false, true} {
		name := map[bool]string{false: "without TLS", true: "with TLS"}[secure]
		t.Run(name, func(t *testing.T) {
			p := listen.Policy{Address: "127.0.0.1:0"}
			config := &tls.Config{}
			if secure {
				p.TLSCertFile, p.TLSKeyFile, config.RootCAs = writeCert(t, t.TempDir(), 1)
			}
			l, stop := serve(t, p, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) }, listen.Serving{Settle: 1})
			only := &http.Protocols{}
			only.SetHTTP2(secure)
			only.SetUnencryptedHTTP2(!secure)
			tr := &http.Transport{Protocols: only, TLSClientConfig: config}
			resp, err := (&http.Client{Transport: tr}).Get(l.URL())
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || string(b) != "HTTP/2.0" {
				t.Errorf("answered over %q, %v", b, err)
			}
			tr.CloseIdleConnections()
			if err := stop(); err != nil {
				t.Errorf("stop: %v", err)
			}
		})
	}
}
