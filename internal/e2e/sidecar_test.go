package e2e

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// spawnCommand runs argv, which serves at addr, and does not wait for it.
func spawnCommand(t testing.TB, addr string, argv ...string) *server {
	t.Helper()
	s := &server{url: "http://" + addr, addr: addr, log: new(syncBuffer), done: make(chan struct{}), args: argv}
	s.cmd = exec.Command(argv[0], argv[1:]...)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	s.cmd.Env = append(os.Environ(), "GOMEMLIMIT=400MiB")
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		s.cmd.Wait()
		close(s.done)
	}()
	t.Cleanup(func() {
		s.cmd.Process.Kill()
		<-s.done
		if t.Failed() {
			t.Logf("%s wrote:\n%s", strings.Join(argv, " "), s.log.tail(40))
		}
	})
	return s
}

// again runs the command of s, which has ended, once more.
func (s *server) again(t testing.TB) *server {
	t.Helper()
	next := spawnCommand(t, s.addr, s.args...)
	next.await(t)
	return next
}

func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// metric reads one value of a server's metrics.
func (s *server) metric(name string) (float64, error) {
	resp, err := http.Get(s.url + "/metrics")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	for sc := bufio.NewScanner(resp.Body); sc.Scan(); {
		if rest, ok := strings.CutPrefix(sc.Text(), name+" "); ok {
			return strconv.ParseFloat(rest, 64)
		}
	}
	return 0, fmt.Errorf("no metric %s", name)
}

// TestSidecarOutage kills the collector and then the sidecar, as the kernel does, in the middle of 2,000 pushes to the sidecar. What the sidecar took is in the
// collector exactly once after both are back; then all are sent again, and all are there exactly once.
func TestSidecarOutage(t *testing.T) {
	bin, err := sonde()
	if err != nil {
		t.Fatal(err)
	}
	srv := startServe(t, t.TempDir())
	addr := freeAddr(t)
	side := spawnCommand(t, addr, bin, "sidecar", "--upstream", srv.url, "--listen", addr, "--data", t.TempDir(), "--discover=false", "--spool-bytes", "64MiB")
	side.await(t)

	p := &pusher{t: t, start: time.Now().Add(-10 * time.Minute).UnixMilli()}
	var acked [killPushes]atomic.Bool
	var count atomic.Int64
	var killing sync.WaitGroup
	p.each(side, func(i int, status string, err error) {
		if err != nil {
			return // the sidecar is gone
		}
		acked[i].Store(true)
		switch count.Add(1) {
		case killPushes / 5:
			killing.Go(func() { srv.kill(t) })
		case killPushes * 3 / 5:
			killing.Go(func() { side.kill(t) })
		}
	})
	killing.Wait()
	if n := count.Load(); n == killPushes {
		t.Fatal("all pushes were acknowledged: the kill was not in their middle")
	}
	t.Logf("%d of %d pushes were acknowledged by the sidecar before it was killed", count.Load(), killPushes)

	side = side.again(t)
	if n, err := side.metric("sonde_spool_waiting"); err != nil || n < float64(count.Load())/2 {
		t.Errorf("after the kill %v pushes wait in the spool, %v", n, err)
	}
	srv = launch(t, srv.dir, srv.addr, srv.args)
	forwarded := func() error {
		if n, err := side.metric("sonde_spool_waiting"); err != nil || n > 0 {
			return fmt.Errorf("%v pushes wait, %v", n, err)
		}
		return nil
	}
	eventually(t, 60*time.Second, "the spool to be sent", forwarded)
	check := func(all bool) {
		t.Helper()
		found := p.read(srv)
		for i := range killPushes {
			got, once := found[p.function(i)], p.value(i)
			if (all || acked[i].Load()) && got != once || got != 0 && got != once {
				t.Errorf("push %d, acknowledged %v: %d is stored, want %d once", i, acked[i].Load(), got, once)
			}
		}
	}
	check(false)
	p.each(side, func(i int, status string, err error) {
		if err != nil {
			t.Errorf("push %d again: %v", i, err)
		}
	})
	eventually(t, 60*time.Second, "the spool to be sent again", forwarded)
	check(true)
	for name, want := range map[string]float64{"sonde_spool_dropped_total": 0, "sonde_spool_damaged_total": 0, "sonde_forward_up": 1} {
		if got, err := side.metric(name); err != nil || got != want {
			t.Errorf("%s = %v, want %v; %v", name, got, want, err)
		}
	}
	side.stop(t)
	srv.stop(t)
	srv.check(t)
}
