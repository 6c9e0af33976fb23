package peertest

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the requests that pass by into collector/peers/testdata")

// golden is where the requests go.
var golden = filepath.Join("..", "..", "collector", "peers", "testdata")

// binary is the sonde command.
var binary string

func TestMain(m *testing.M) {
	flag.Parse()
	dir, err := os.MkdirTemp("", "sonde-peertest-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if binary = os.Getenv("SONDE_BINARY"); binary == "" {
		binary = filepath.Join(dir, "sonde")
		cmd := exec.Command("go", "build", "-o", binary, "./cmd/sonde")
		cmd.Dir = filepath.Join("..", "..")
		cmd.Env = append(os.Environ(), "GOWORK=") // this module is outside of the workspace, the collector is in it
		if out, err := cmd.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build sonde: %v\n%s", err, out)
			os.Exit(1)
		}
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// collector is a running `sonde serve`, behind a proxy that keeps what passes by.
type collector struct {
	url    string // of the collector itself
	client *http.Client
	token  string // "" for none
	proxy  *httptest.Server

	mu       sync.Mutex
	requests []request
}

// request is one that passed by.
type request struct {
	method, uri string
	header      http.Header
	body        []byte
	status      int
}

// serve starts a collector behind a proxy.
func serve(t *testing.T) *collector {
	t.Helper()
	c := start(t, "http", http.DefaultClient)
	c.watch(t)
	return c
}

// start starts a collector and waits until it is ready.
func start(t *testing.T, scheme string, client *http.Client, flags ...string) *collector {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	cmd := exec.Command(binary, append([]string{"serve", "--listen", addr, "--data", t.TempDir(), "--discover=false"}, flags...)...)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("sonde serve wrote:\n%s", log.String())
		}
	})
	c := &collector{url: scheme + "://" + addr, client: client}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if resp, err := client.Get(c.url + "/readyz"); err == nil {
			resp.Body.Close()
			if resp.StatusCode == 200 {
				return c
			}
		}
		if time.Now().After(end) {
			t.Fatal("the collector is not ready after 30 s")
		}
	}
}

// watch puts the proxy before the collector. It speaks HTTP/2 to both sides where the client does.
func (c *collector) watch(t *testing.T) {
	target, err := url.Parse(c.url)
	if err != nil {
		t.Fatal(err)
	}
	h2 := &http.Protocols{}
	h2.SetUnencryptedHTTP2(true)
	transports := map[int]*http.Transport{1: {}, 2: {Protocols: h2}}
	c.proxy = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		in := request{method: r.Method, uri: r.URL.RequestURI(), header: r.Header.Clone(), body: body}
		p := &httputil.ReverseProxy{Transport: transports[r.ProtoMajor], Rewrite: func(pr *httputil.ProxyRequest) { pr.SetURL(target) },
			ModifyResponse: func(resp *http.Response) error {
				in.status = resp.StatusCode
				return nil
			}}
		p.ServeHTTP(w, r)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.requests = append(c.requests, in)
	}))
	c.proxy.Config.Protocols = &http.Protocols{}
	c.proxy.Config.Protocols.SetHTTP1(true)
	c.proxy.Config.Protocols.SetUnencryptedHTTP2(true)
	c.proxy.Start()
	t.Cleanup(func() {
		c.proxy.Close()
		for _, tr := range transports {
			tr.CloseIdleConnections()
		}
	})
}

// passed returns what passed by.
func (c *collector) passed() []request {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.requests)
}

// total asks the collector for the sum of a type's values, of a gauge its mean over [from, to) Unix ms.
func (c *collector) total(t *testing.T, service, typ string, from, to int64) int64 {
	t.Helper()
	q := url.Values{"query": {fmt.Sprintf(`{service_name=%q}`, service)}, "type": {typ}, "from": {fmt.Sprint(from)}, "to": {fmt.Sprint(to)}}
	var answer struct {
		Total int64 `json:"total"`
	}
	c.get(t, "/api/v1/top?"+q.Encode(), &answer)
	return answer.Total
}

// get reads a JSON answer of the collector.
func (c *collector) get(t *testing.T, path string, into any) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, c.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != 200 {
		err = fmt.Errorf("%s: %s", resp.Status, b)
	}
	if err == nil {
		err = json.Unmarshal(b, into)
	}
	if err != nil {
		t.Fatalf("GET %s: %v", path, err)
	}
}

// keep writes a request and what is in it for the collector's own tests.
func keep(t *testing.T, name string, r request, want []string) {
	t.Helper()
	if !*update {
		return
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: 127.0.0.1:7070\r\nX-Recorded: %d\r\nContent-Length: %d\r\n", r.method, r.uri, time.Now().UnixMilli(), len(r.body))
	for _, h := range []string{"Content-Type", "Content-Encoding", "Grpc-Encoding", "Te", "Connect-Protocol-Version"} {
		if v := r.header.Get(h); v != "" {
			fmt.Fprintf(&b, "%s: %s\r\n", h, v)
		}
	}
	b.WriteString("\r\n")
	b.Write(r.body)
	slices.Sort(want)
	for ext, content := range map[string][]byte{".http": b.Bytes(), ".want": []byte(strings.Join(want, "\n") + "\n")} {
		if err := os.MkdirAll(golden, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(golden, name+ext), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
