package listen_test

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sonde-io/sonde/internal/listen"
)

// A sidecar listens on loopback and on a socket: both are answered, each guarded in its way, and both end together.
func TestSeveralAddresses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.sock")
	l, stop := serve(t, listen.Policy{Address: "127.0.0.1:0, unix:" + path, SocketMode: 0o666}, ok, listen.Serving{Settle: time.Millisecond})
	if urls := l.URLs(); len(urls) != 2 || urls[0] != l.URL() || urls[1] != "unix:"+path || !strings.HasPrefix(urls[0], "http://127.0.0.1:") {
		t.Errorf("URLs %v", urls)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o666 {
		t.Errorf("the socket: %v, %v", st, err)
	}
	bySocket := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}}}
	defer bySocket.CloseIdleConnections()
	if resp, body := get(t, http.DefaultClient, l.URL(), ""); resp.StatusCode != 200 || body != "in" {
		t.Errorf("by loopback: %v %q", resp.Status, body)
	}
	if resp, body := get(t, bySocket, "http://any-name", ""); resp.StatusCode != 200 || body != "in" {
		t.Errorf("by the socket: %v %q", resp.Status, body)
	}
	r, err := http.NewRequest("GET", l.URL(), nil)
	must(t, err)
	r.Host = "evil.example"
	resp, err := http.DefaultClient.Do(r)
	must(t, err)
	resp.Body.Close()
	if resp.StatusCode != 403 {
		t.Errorf("a rebound name by loopback: %s", resp.Status)
	}
	bySocket.CloseIdleConnections()
	http.DefaultClient.CloseIdleConnections()
	must(t, stop())
	if _, err := net.Dial("unix", path); err == nil {
		t.Error("the socket is still listened on")
	}
}

func TestSeveralAddressesAllOrNone(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer taken.Close()
	path := filepath.Join(t.TempDir(), "s")
	if _, err := listen.Open(t.Context(), listen.Policy{Address: "unix:" + path + "," + taken.Addr().String()}, nil); err == nil {
		t.Error("listened on an address that is taken")
	}
	if _, err := net.Dial("unix", path); err == nil {
		t.Error("the other address is listened on")
	}
	if err := (listen.Policy{Address: "unix:" + path + ",0.0.0.0:7070"}).Check(); err == nil {
		t.Error("an open address passes beside a closed one")
	}
	l, err := listen.Open(t.Context(), listen.Policy{Address: "unix:" + path + ",127.0.0.1:0"}, nil)
	must(t, err)
	must(t, l.Close()) // without Serve
	must(t, l.Close())
}
