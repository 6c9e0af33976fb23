package e2e

import (
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
)

// TestDryRun lets `sonde ps --dry-run` look at this test's own process: it shows which port would be probed, and does not touch it.
func TestDryRun(t *testing.T) {
	bin, err := sonde()
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var touched atomic.Int64
	accepting := make(chan struct{})
	go func() {
		defer close(accepting)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			touched.Add(1)
			conn.Close()
		}
	}()
	port := strconv.Itoa(ln.Addr().(*net.TCPAddr).Port)
	find := func(args ...string) (state, reason string, touch []string) {
		t.Helper()
		cmd := exec.Command(bin, append([]string{"ps", "--dry-run", "-o", "json"}, args...)...)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("sonde ps --dry-run: %v", err)
		}
		var report struct {
			Processes []struct {
				PID           int
				State, Reason string
				Touch         []string
			}
			Summary string
		}
		if err := json.Unmarshal(out, &report); err != nil || report.Summary == "" {
			t.Fatalf("%v in %s", err, out)
		}
		for _, p := range report.Processes {
			if p.PID == os.Getpid() {
				return p.State, p.Reason, p.Touch
			}
		}
		t.Fatalf("pid %d is not in %s", os.Getpid(), out)
		return "", "", nil
	}

	if _, _, touch := find(); !strings.Contains(strings.Join(touch, " "), ":"+port+"/debug/pprof") {
		t.Errorf("it would touch %q, want a request to port %s", touch, port)
	}
	if state, reason, touch := find("--deny", "port:"+port); len(touch) != 0 || !strings.Contains(reason, port) {
		t.Errorf("with the port denied: %s, %s, %q", state, reason, touch)
	}
	ln.Close()
	<-accepting
	if n := touched.Load(); n != 0 {
		t.Errorf("the port was connected to %d times", n)
	}
}
