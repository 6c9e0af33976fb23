package discover

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fakeProc is a proc with one process, which runs this test's own file.
type fakeProc struct {
	t   *testing.T
	dir string
}

func newFakeProc(t *testing.T) fakeProc {
	t.Helper()
	p := fakeProc{t, t.TempDir()}
	p.write("stat", "cpu 0\n")
	p.write("uptime", "5000.00 1.00\n")
	p.write("sys/kernel/random/boot_id", "11111111-2222-3333-4444-555555555555\n")
	p.write("77/stat", "77 (cart) S 1 77 77 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 400000 1000000 100 18446744073709551615\n")
	p.write("77/status", "Name:\tcart\nUid:\t0\t0\t0\t0\nNSpid:\t77\n")
	p.write("77/cgroup", "0::/\n")
	exe, err := os.Executable()
	if err == nil {
		err = os.Symlink(exe, filepath.Join(p.dir, "77/exe"))
	}
	if err != nil {
		t.Fatal(err)
	}
	p.set("", "")
	return p
}

func (p fakeProc) write(name, text string) {
	p.t.Helper()
	path := filepath.Join(p.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		p.t.Fatal(err)
	}
}

// set sets the command line and the environment, words separated by spaces.
func (p fakeProc) set(cmdline, environ string) {
	p.t.Helper()
	p.write("77/cmdline", strings.ReplaceAll(cmdline, " ", "\x00"))
	p.write("77/environ", strings.ReplaceAll(environ, " ", "\x00"))
}

func (p fakeProc) scanner() *Scanner {
	p.t.Helper()
	s, err := New(Config{ProcRoot: p.dir, Host: "h", Rules: Rules{NoProbes: true, NoGops: true}})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = s.Close() })
	return s
}

// TestScanWaitsForACommandLine scans in the moment of exec in which a process has its executable and nothing else yet.
func TestScanWaitsForACommandLine(t *testing.T) {
	for _, tt := range []struct{ name, cmdline, environ string }{{"neither", "", ""}, {"no environment", "cart 1 ", ""}} {
		t.Run(tt.name, func(t *testing.T) {
			proc := newFakeProc(t)
			proc.set(tt.cmdline, tt.environ)
			s := proc.scanner()
			r, err := s.Scan(context.Background())
			if err != nil || len(r.Processes) != 0 {
				t.Fatalf("a process that is being started is taken with half of its facts: %+v, %v", r.Processes, err)
			}
			proc.set("cart 1 60 ", "SONDE_SERVICE=cart GOGC=50 ")
			r, err = s.Scan(context.Background())
			if err != nil || len(r.Processes) != 1 {
				t.Fatalf("%d processes, %v", len(r.Processes), err)
			}
			if p := r.Processes[0]; p.Service != "cart" || p.Conditions["args"] != "1 60" || p.Conditions["env_GOGC"] != "50" {
				t.Errorf("service %q, conditions %q", p.Service, p.Conditions)
			}
		})
	}
}

func TestScanTakesWhatHasNoEnvironment(t *testing.T) {
	proc := newFakeProc(t)
	proc.set("cart ", "")
	s := proc.scanner()
	for want := range 3 { // not in the first scan, from the second on for good
		r, err := s.Scan(context.Background())
		if err != nil || len(r.Processes) != min(want, 1) {
			t.Errorf("scan %d: %d processes, %v", want, len(r.Processes), err)
		}
	}
	if p, err := s.Look(context.Background(), 77); err != nil || p.PID != 77 {
		t.Errorf("looked at: %+v, %v", p, err)
	}
}

func TestLookAtOneThatIsBeingStarted(t *testing.T) {
	proc := newFakeProc(t)
	s := proc.scanner()
	if p, err := s.Look(context.Background(), 77); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%+v, %v", p, err)
	}
	c := Command{Args: []string{"./cart", "1", "60"}, Env: []string{"SONDE_SERVICE=cart", "GODEBUG=gctrace=1"}}
	p, err := s.LookStarted(context.Background(), 77, c)
	if err != nil || p.Service != "cart" || p.Labels["service_name"] != "cart" || p.Conditions["args"] != "1 60" || p.Conditions["env_GODEBUG"] != "gctrace=1" {
		t.Errorf("service %q, labels %q, conditions %q, %v", p.Service, p.Labels, p.Conditions, err)
	}
	proc.set("./cart 1 60 ", "SONDE_SERVICE=cart GODEBUG=gctrace=1 ")
	later, err := s.Look(context.Background(), 77)
	if err != nil || later.Instance != p.Instance || later.Service != p.Service || len(later.Conditions) != len(p.Conditions) {
		t.Errorf("who started it says %+v, proc later %+v, %v", p, later, err)
	}
}
