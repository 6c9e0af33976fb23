package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sonde-io/sonde/profiles"
)

var (
	demoLines = map[string]*regexp.Regexp{
		"address": regexp.MustCompile(`(?m)^Sonde is at (http://\S+)$`),
		"flame":   regexp.MustCompile(`(?m)^first flame graph, of (?:cart|checkout), after \d+ s: (http://\S+)$`),
		"billing": regexp.MustCompile(`(?m)^billing(?:, which has neither, is profiled from outside: (http://\S+)| is seen but not profiled: no endpoint.*perf: .*)$`),
		"change":  regexp.MustCompile(`(?m)^checkout changed from v1 to v2 at \d\d:\d\d:\d\d: (http://\S+)$`),
	}
	demoPID = regexp.MustCompile(`(?m)^  (?:cart|checkout|billing) +pid (\d+)`)
)

// startDemo runs `sonde demo` with its temporary directory below tmp.
func startDemo(t *testing.T, tmp string, args ...string) (*exec.Cmd, *syncBuffer, chan struct{}) {
	t.Helper()
	bin, err := sonde()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	cmd, out, done := exec.Command(bin, append([]string{"demo", "--listen", addr}, args...)...), new(syncBuffer), make(chan struct{})
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.WaitDelay = 10 * time.Second // the services hold the pipes too: a failure to end them must not hang the test
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		cmd.Wait()
		close(done)
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-done
		if t.Failed() {
			t.Logf("sonde demo wrote:\n%s", out.String())
		}
	})
	return cmd, out, done
}

// said waits until the demo has written a line and returns its group.
func said(t *testing.T, out *syncBuffer, done chan struct{}, what string) string {
	t.Helper()
	var m []string
	eventually(t, 2*time.Minute, "the demo's line about "+what, func() error {
		if m = demoLines[what].FindStringSubmatch(out.String()); m != nil {
			return nil
		}
		select {
		case <-done:
			t.Fatalf("the demo ended before its line about %s", what)
		default:
		}
		return fmt.Errorf("it has not said it")
	})
	return m[len(m)-1]
}

// TestDemo follows the demo to the change of checkout, looks at the comparison that it links to, and ends it with Ctrl-C.
func TestDemo(t *testing.T) {
	tmp := t.TempDir()
	cmd, out, done := startDemo(t, tmp, "--change-after", "12s")
	said(t, out, done, "address")
	said(t, out, done, "flame")
	said(t, out, done, "billing")
	link, err := url.Parse(said(t, out, done, "change"))
	if err != nil {
		t.Fatal(err)
	}

	// The page's parameters are the API's.
	q := link.Query()
	q.Set("view", "top")
	q.Set("limit", "10000")
	// A sample is 10 ms: enough of them for shares to mean something, on either side.
	const enough = int64(time.Second)
	var top profiles.Top
	eventually(t, 2*time.Minute, "CPU time of both versions in the diff that the demo links to", func() error {
		top = profiles.Top{}
		resp, err := http.Get("http://" + link.Host + "/api/v1/diff?" + q.Encode())
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if err := json.NewDecoder(resp.Body).Decode(&top); err != nil || resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s, %v", resp.Status, err)
		}
		if top.BaseTotal == nil || *top.BaseTotal == 0 || top.Total < enough {
			return fmt.Errorf("v2 has %v of CPU time, %d rows", time.Duration(top.Total), len(top.Rows))
		}
		return nil
	})
	rows := map[string]profiles.TopRow{}
	for _, r := range top.Rows {
		rows[r.Function] = r
	}
	const pkg = "github.com/sonde-io/sonde/internal/demo/checkout."
	// One function in two binaries is one row, and the slow one is most of what the second version does.
	if r := rows[pkg+"order"]; r.Total == 0 || r.BaseTotal == nil || *r.BaseTotal == 0 {
		t.Errorf("%sorder = %+v, want time before and after", pkg, r)
	}
	share := func(part, whole *int64) float64 {
		if part == nil || whole == nil || *whole == 0 {
			return 0
		}
		return float64(*part) / float64(*whole)
	}
	r := rows[pkg+"discount"]
	before, after := share(r.BaseTotal, top.BaseTotal), share(&r.Total, &top.Total)
	t.Logf("%sdiscount is %.0f %% of v2's CPU, %.0f %% of v1's", pkg, 100*after, 100*before)
	if after < 0.1 || after < 3*before { // more than a quarter is usual: with a hundred samples a tenth is four deviations away
		t.Errorf("it is to be slow in v2 only")
	}

	pids := demoPIDs(t, out)
	cmd.Process.Signal(os.Interrupt)
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("the demo did not end within a minute of Ctrl-C")
	}
	if !cmd.ProcessState.Success() {
		t.Errorf("the demo ended with %v", cmd.ProcessState)
	}
	gone(t, pids)
	if es, err := os.ReadDir(tmp); err != nil || len(es) != 0 {
		t.Errorf("left behind: %v, %v", es, err)
	}
}

// TestDemoKilled: the services do not outlive a demo that had no time to end them.
func TestDemoKilled(t *testing.T) {
	cmd, out, done := startDemo(t, t.TempDir())
	said(t, out, done, "address")
	pids := demoPIDs(t, out)
	cmd.Process.Kill()
	<-done
	gone(t, pids)
}

// TestDemoDuration: a demo ends by itself, and what it stored in a directory of the user's is kept.
func TestDemoDuration(t *testing.T) {
	tmp := t.TempDir()
	cmd, out, done := startDemo(t, tmp, "--duration", "3s", "--dir", tmp+"/kept")
	said(t, out, done, "address")
	pids := demoPIDs(t, out)
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("the demo did not end by itself")
	}
	if !cmd.ProcessState.Success() {
		t.Errorf("the demo ended with %v", cmd.ProcessState)
	}
	gone(t, pids)
	bin, err := sonde()
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(bin, "check", tmp+"/kept/data").CombinedOutput(); err != nil {
		t.Errorf("sonde check of the directory that was kept: %v\n%s", err, out)
	}
}

func demoPIDs(t *testing.T, out *syncBuffer) []int {
	t.Helper()
	var pids []int
	eventually(t, 30*time.Second, "the services' pids", func() error {
		pids = nil
		for _, m := range demoPID.FindAllStringSubmatch(out.String(), -1) {
			pid, err := strconv.Atoi(m[1])
			if err != nil {
				return err
			}
			pids = append(pids, pid)
		}
		if len(pids) != 3 {
			return fmt.Errorf("pids %v", pids)
		}
		return nil
	})
	return pids
}

// gone waits until none of the processes runs; a zombie that nobody reaps in this container does not.
func gone(t *testing.T, pids []int) {
	t.Helper()
	eventually(t, 30*time.Second, "the services' end", func() error {
		for _, pid := range pids {
			if syscall.Kill(pid, 0) != nil {
				continue
			}
			if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil && !strings.Contains(string(stat), ") Z ") {
				return fmt.Errorf("pid %d still runs", pid)
			}
		}
		return nil
	})
}
