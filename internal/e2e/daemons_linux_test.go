package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sonde-io/sonde/profiles"
)

// daemon is an unmodified Go program of Debian.
type daemon struct {
	pkg, file string
	service   string   // what it is called without anybody saying so
	own       string   // how the names of its own functions begin
	gatherer  string   // scrape where it has pprof on a port by itself, else perf
	args      []string // DIR is a folder of its own, PORT the port that it serves, OTHER another one
	files     map[string]string
	load      func(ctx context.Context, addr string) // what makes it work
}

var daemons = []daemon{
	{pkg: "etcd-server", file: "usr/bin/etcd", service: "etcd", own: "go.etcd.io/etcd/", gatherer: "perf",
		args: []string{"--data-dir", "DIR/data", "--listen-client-urls", "http://127.0.0.1:PORT", "--advertise-client-urls", "http://127.0.0.1:PORT",
			"--listen-peer-urls", "http://127.0.0.1:OTHER", "--initial-advertise-peer-urls", "http://127.0.0.1:OTHER", "--initial-cluster", "default=http://127.0.0.1:OTHER"},
		load: asking("POST", "/v3/kv/range", `{"key":"AA==","range_end":"AA=="}`)},
	{pkg: "prometheus", file: "usr/bin/prometheus", service: "prometheus", own: "github.com/prometheus/", gatherer: "scrape",
		args:  []string{"--config.file=DIR/p.yml", "--storage.tsdb.path=DIR/data", "--web.listen-address=127.0.0.1:PORT"},
		files: map[string]string{"p.yml": "global: {scrape_interval: 1s}\nscrape_configs: [{job_name: self, static_configs: [{targets: ['127.0.0.1:PORT']}]}]\n"},
		load:  asking("GET", "/api/v1/query?query=sum(rate(prometheus_http_requests_total[5m]))", "")},
	{pkg: "nats-server", file: "usr/sbin/nats-server", service: "nats-server", own: "github.com/nats-io/nats-server/", gatherer: "perf",
		args: []string{"-a", "127.0.0.1", "-p", "PORT"}, load: publishing},
	{pkg: "syncthing", file: "usr/bin/syncthing", service: "syncthing", own: "github.com/syncthing/", gatherer: "perf",
		args: []string{"serve", "--home=DIR", "--no-browser", "--no-restart", "--no-default-folder", "--no-upgrade", "--gui-address=http://127.0.0.1:PORT"},
		load: asking("GET", "/rest/noauth/health", "")},
	{pkg: "caddy", file: "usr/bin/caddy", service: "caddy", own: "github.com/caddyserver/caddy/", gatherer: "scrape",
		args:  []string{"run", "--config", "DIR/c.json"},
		files: map[string]string{"c.json": `{"admin":{"listen":"127.0.0.1:OTHER"},"apps":{"http":{"servers":{"a":{"listen":["127.0.0.1:PORT"],"routes":[{"handle":[{"handler":"static_response","body":"hello"}]}]}}}}}`},
		load:  asking("GET", "/", "")},
	{pkg: "docker-registry", file: "usr/bin/docker-registry", service: "registry", own: "github.com/docker/distribution/", gatherer: "perf",
		args:  []string{"serve", "DIR/r.yml"},
		files: map[string]string{"r.yml": "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: DIR/data}}\nhttp: {addr: '127.0.0.1:PORT'}\n"},
		load:  asking("GET", "/v2/_catalog", "")},
}

// TestDebianDaemons profiles programs that nobody prepared for it, with no configuration: those that serve pprof by that, the others from outside.
func TestDebianDaemons(t *testing.T) {
	cache := filepath.Join("..", "..", ".cache", "debian")
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var running []daemon
	pids := map[int]string{}
	var allow []string
	for _, d := range daemons {
		exe, err := filepath.Abs(filepath.Join(cache, d.pkg, d.file))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(exe); err != nil {
			t.Logf("SKIPPED %s: it is not in .cache/debian; .ci/setup fetches it where there is apt-get", d.pkg)
			continue
		}
		allow = append(allow, "path:"+exe)
		pids[startDaemon(ctx, t, d, exe)] = d.service
		running = append(running, d)
	}
	if len(running) == 0 {
		t.Skip("none of the Debian daemons is there: .ci/setup fetches them where there is apt-get")
	}
	srv := startServe(t, t.TempDir(), "--allow", strings.Join(allow, ","), "--scrape-period", "2s", "--cpu-period", "6s", "--cpu-duration", "3s")
	for _, d := range running {
		eventually(t, 60*time.Second, d.service+" in sonde ps", func() error {
			err := gatheredBy(srv, pids, d)
			if missing, ok := errors.AsType[*noRight](err); ok {
				t.Skipf("this machine gives no right to watch processes from outside: %v", missing)
			}
			return err
		})
	}
	for _, d := range running {
		eventually(t, 60*time.Second, "a CPU profile of "+d.service, func() error { return ownFunctions(t, srv, d) })
	}
}

// startDaemon starts one with files and ports of its own, waits until it serves and keeps it busy. It returns its pid.
func startDaemon(ctx context.Context, t *testing.T, d daemon, exe string) int {
	t.Helper()
	dir, port, other := t.TempDir(), freeAddr(t), freeAddr(t)
	fill := strings.NewReplacer("DIR", dir, "127.0.0.1:PORT", port, "127.0.0.1:OTHER", other, "PORT", port[strings.LastIndex(port, ":")+1:])
	for name, text := range d.files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(fill.Replace(text)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var args []string
	for _, a := range d.args {
		args = append(args, fill.Replace(a))
	}
	cmd := exec.Command(exe, args...)
	cmd.Env = []string{"HOME=" + dir, "PATH=" + os.Getenv("PATH"), "GOMEMLIMIT=256MiB"}
	log := new(syncBuffer)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	loaded := make(chan struct{})
	go func() {
		defer close(loaded)
		for ctx.Err() == nil {
			d.load(ctx, port)
			time.Sleep(50 * time.Millisecond) // it was refused, or closed
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-loaded
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("%s wrote:\n%s", d.pkg, log.tail(20))
		}
	})
	eventually(t, 60*time.Second, d.pkg+" to serve", func() error {
		conn, err := net.DialTimeout("tcp", port, time.Second)
		if err == nil {
			conn.Close()
		}
		return err
	})
	return cmd.Process.Pid
}

// asking makes requests one after the other, with a pause so that six daemons leave something of two cores.
func asking(method, path, body string) func(ctx context.Context, addr string) {
	return func(ctx context.Context, addr string) {
		client := &http.Client{Timeout: 5 * time.Second}
		defer client.CloseIdleConnections()
		for ctx.Err() == nil {
			req, err := http.NewRequestWithContext(ctx, method, "http://"+addr+path, strings.NewReader(body))
			if err != nil {
				panic(err)
			}
			resp, err := client.Do(req)
			if err != nil {
				return
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			time.Sleep(2 * time.Millisecond)
		}
	}
}

// publishing sends messages in NATS's own protocol.
func publishing(ctx context.Context, addr string) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	go io.Copy(io.Discard, conn)
	msg := strings.Repeat("PUB sonde 5\r\nhello\r\n", 200)
	for _, err = io.WriteString(conn, "CONNECT {\"verbose\":false}\r\n"); err == nil; _, err = io.WriteString(conn, msg) {
		time.Sleep(2 * time.Millisecond)
	}
}

// noRight says what the machine does not allow.
type noRight struct{ reason string }

func (e *noRight) Error() string { return e.reason }

// gatheredBy returns an error until the daemon is listed as what it is.
func gatheredBy(srv *server, pids map[int]string, d daemon) error {
	out, err := tryCLI(srv, "ps", "-o", "json")
	if err != nil {
		return err
	}
	var ps struct {
		Processes []struct {
			PID                       int
			Service, Gatherer, Reason string
		}
	}
	if err := json.Unmarshal(out, &ps); err != nil {
		return err
	}
	for _, p := range ps.Processes {
		if pids[p.PID] != d.service {
			continue
		}
		if p.Gatherer == "" && d.gatherer == "perf" && strings.Contains(p.Reason, "CAP_PERFMON") {
			return &noRight{p.Reason}
		}
		if p.Service != d.service || p.Gatherer != d.gatherer {
			return fmt.Errorf("process %d is %q, gathered by %q: %s; want %q by %q", p.PID, p.Service, p.Gatherer, p.Reason, d.service, d.gatherer)
		}
		return nil
	}
	return fmt.Errorf("it is not among the %d processes", len(ps.Processes))
}

// ownFunctions returns an error until the CPU profile of a daemon names functions of its own, and nothing in it is without a name.
func ownFunctions(t *testing.T, srv *server, d daemon) error {
	out, err := tryCLI(srv, "top", "--service", d.service, "--type", "cpu", "--limit", "500", "-o", "json")
	if err != nil {
		return err
	}
	var top profiles.Top
	if err := json.Unmarshal(out, &top); err != nil {
		return err
	}
	own, unnamed := 0, int64(0)
	for _, r := range top.Rows {
		if strings.Contains(r.Function, d.own) { // vendored: Debian builds some below a vendor folder
			own++
		}
		if r.Function == "" || strings.HasPrefix(r.Function, "0x") || strings.HasPrefix(r.Function, "[unknown") {
			unnamed += r.Self
		}
	}
	if top.Total <= 0 || own == 0 || unnamed*20 > top.Total {
		return fmt.Errorf("%d functions of its own among %d, %d of %d ns without a name", own, len(top.Rows), unnamed, top.Total)
	}
	t.Logf("%s by %s: %d functions, %d of its own, %v of CPU", d.service, d.gatherer, len(top.Rows), own, time.Duration(top.Total))
	return nil
}
