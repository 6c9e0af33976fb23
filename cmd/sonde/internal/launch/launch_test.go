//go:build unix

package launch

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sonde-io/sonde/collector/godebug"
	"github.com/sonde-io/sonde/internal/testgo"
)

// A test starts its own program again as the launcher: with this variable it launches its arguments, and writes how many lines it took to the file that it names.
const asLauncher = "LAUNCH_TEST_LINES"

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "rest" {
		Rest(os.Stdin, os.Stderr)
		os.Exit(0)
	}
	file := os.Getenv(asLauncher)
	if file == "" {
		os.Exit(m.Run())
	}
	_ = os.Unsetenv(asLauncher)
	var lines atomic.Int64
	var text bytes.Buffer
	path, err := exec.LookPath(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(99)
	}
	traces := godebug.Traces{GC: 1, Sched: 10 * time.Millisecond}
	end, err := Run(Config{Path: path, Args: os.Args[1:], Env: append(os.Environ(), "GODEBUG="+traces.Merge("")), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Traces: traces, Rest: []string{"rest"},
		Line: func(b []byte, l *godebug.Line, _ time.Time) { lines.Add(1); text.Write(b) }})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(98)
	}
	if err := os.WriteFile(file, text.Bytes(), 0o600); err != nil {
		os.Exit(97)
	}
	end.Mirror()
	os.Exit(end.ExitCode())
}

// launched returns a command that launches args, and the file with the lines that it took.
func launched(t *testing.T, args ...string) (*exec.Cmd, string) {
	t.Helper()
	file := t.TempDir() + "/lines"
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), asLauncher+"="+file)
	return cmd, file
}

// worker prints to standard error in whole and half lines while it collects, and at its end what the runtime says of its cycles.
const worker = `package main

import ("fmt"; "os"; "runtime"; "sync"; "time")

var sink [4][]byte

func main() {
	var wg sync.WaitGroup
	for w := 0; w < 4; w++ {
		wg.Add(1)
		go func(w int) {
			defer wg.Done()
			for i := 0; i < 3000; i++ { sink[w] = make([]byte, 64<<10) }
		}(w)
	}
	for i := 0; i < 300; i++ {
		fmt.Fprintf(os.Stderr, "line %d, and", i)
		time.Sleep(100*time.Microsecond)
		fmt.Fprintf(os.Stderr, " its end\n")
	}
	wg.Wait()
	runtime.GC()
	time.Sleep(20*time.Millisecond)
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	fmt.Println(m.NumGC, m.PauseTotalNs, m.NumForcedGC)
	fmt.Fprint(os.Stderr, "no line break")
}
`

// TestEveryCycle: of each Go version every cycle that the program had is taken, the pauses add up to what its runtime says, and its own bytes are as it wrote them.
func TestEveryCycle(t *testing.T) {
	var want strings.Builder
	for i := range 300 {
		fmt.Fprintf(&want, "line %d, and its end\n", i)
	}
	want.WriteString("no line break")
	for _, version := range testgo.Toolchains() {
		t.Run(version, func(t *testing.T) {
			program := testgo.BuildSource(t, version, nil, worker)
			for try := 1; ; try++ {
				why := everyCycle(t, program, want.String())
				if why == "" {
					return
				}
				if t.Log(why); try == 20 {
					t.Fatalf("so in each of %d runs", try)
				}
			}
		})
	}
}

// everyCycle runs the program once. It returns what may be so on a busy machine now and then, but not always: few cycles, since the collector did not get on, or more time in the trace than in
// MemStats, whose clock starts a moment later, where the thread lost its CPU in between.
func everyCycle(t *testing.T, program, want string) (why string) {
	t.Helper()
	cmd, file := launched(t, program)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, stderr.Bytes())
	}
	if stderr.String() != want {
		t.Errorf("standard error is not the program's own: %q", stderr.String())
	}
	var cycles, forced int
	var pauses int64
	if _, err := fmt.Sscan(stdout.String(), &cycles, &pauses, &forced); err != nil {
		t.Fatal(err)
	}
	got, sum, gotForced, slack := 0, 0.0, 0, 0.0
	for text := range bytes.Lines(read(t, file)) {
		l, ok := godebug.Parse(text)
		if !ok {
			t.Fatalf("taken and not read: %q", text)
		}
		if l.Kind != godebug.KindGC {
			continue
		}
		got++
		sum += l.GC.Pause()
		slack += lastDigit(l.GC.Clock[0]) + lastDigit(l.GC.Clock[2])
		if l.GC.Forced {
			gotForced++
		}
	}
	// That a cycle is forced is set while the one before may still be printing.
	if got != cycles || gotForced < forced || gotForced > forced+1 {
		t.Errorf("%d cycles, %d forced; the runtime says %d and %d", got, gotForced, cycles, forced)
	}
	ms := float64(pauses) / 1e6
	t.Logf("%d cycles, %.3f ms of pauses in the trace, %.3f ms in MemStats, rounding %.3f ms", got, sum, ms, slack)
	switch {
	case sum < ms-slack:
		t.Errorf("pauses of %.3f ms in the trace, %.3f ms in MemStats; rounding explains %.3f ms", sum, ms, slack)
	case sum > ms+slack:
		return fmt.Sprintf("pauses of %.3f ms in the trace, %.3f ms in MemStats; rounding explains %.3f ms", sum, ms, slack)
	case cycles < 20:
		return fmt.Sprintf("only %d cycles", cycles)
	}
	return ""
}

// lastDigit is one of the last digit with which the runtime prints so many ms, and cuts off what is behind it: from 10 ms on whole ones, else two digits, three behind the point at most.
func lastDigit(ms float64) float64 {
	switch {
	case ms >= 10:
		return 1
	case ms >= 1:
		return 0.1
	case ms >= 0.1:
		return 0.01
	}
	return 0.001
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestEnds(t *testing.T) {
	for _, code := range []int{0, 1, 7, 255} {
		cmd, _ := launched(t, "sh", "-c", "exit "+strconv.Itoa(code))
		_ = cmd.Run()
		if got := cmd.ProcessState.ExitCode(); got != code {
			t.Errorf("exit status %d, want %d", got, code)
		}
	}
	for _, s := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGILL, syscall.SIGTRAP, syscall.SIGABRT, syscall.SIGBUS, syscall.SIGFPE, syscall.SIGKILL, syscall.SIGUSR1, syscall.SIGSEGV,
		syscall.SIGUSR2, syscall.SIGPIPE, syscall.SIGALRM, syscall.SIGTERM, syscall.SIGXCPU, syscall.SIGPROF, syscall.SIGSYS} {
		if signal.Ignored(s) { // by whoever started the test, as nohup does: nothing that it starts dies of it
			continue
		}
		cmd, _ := launched(t, "sh", "-c", fmt.Sprintf("ulimit -c 0; kill -%d $$", int(s)))
		_ = cmd.Run()
		if ws := cmd.ProcessState.Sys().(syscall.WaitStatus); !ws.Signaled() || ws.Signal() != s {
			t.Errorf("killed by %v: ended as %v", s, cmd.ProcessState)
		}
	}
	cmd, _ := launched(t, "/etc/passwd")
	if err := cmd.Run(); cmd.ProcessState.ExitCode() != 99 && cmd.ProcessState.ExitCode() != 98 {
		t.Errorf("no program: %v", err)
	}
}

// TestSignals: what is sent to the launcher reaches the program.
func TestSignals(t *testing.T) {
	script := `for s in HUP INT QUIT TERM USR1 USR2 ALRM WINCH; do trap "echo $s" $s; done; echo ready; while :; do sleep 0.01; done`
	cmd, _ := launched(t, "sh", "-c", script)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // no terminal
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	}()
	lines := bufio.NewScanner(out)
	want := func(text string) {
		t.Helper()
		if !lines.Scan() || lines.Text() != text {
			t.Fatalf("got %q, want %q", lines.Text(), text)
		}
	}
	want("ready")
	for _, s := range []struct {
		signal syscall.Signal
		name   string
	}{{syscall.SIGHUP, "HUP"}, {syscall.SIGINT, "INT"}, {syscall.SIGQUIT, "QUIT"}, {syscall.SIGTERM, "TERM"}, {syscall.SIGTERM, "TERM"}, {syscall.SIGUSR1, "USR1"}, {syscall.SIGUSR2, "USR2"}, {syscall.SIGALRM, "ALRM"}} {
		if signal.Ignored(s.signal) { // by whoever started the test, as nohup does: nothing that it starts may take the signal
			continue
		}
		if err := cmd.Process.Signal(s.signal); err != nil {
			t.Fatal(err)
		}
		want(s.name)
	}
}

// TestPromptAtOnce: what has no line break is not waited with, and standard input is the program's.
func TestPromptAtOnce(t *testing.T) {
	cmd, _ := launched(t, "sh", "-c", `printf 'name: ' >&2; read name; printf "hello $name" >&2; read end`)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct{ out, in string }{{"name: ", "bob\n"}, {"hello bob", "\n"}} {
		got := make([]byte, len(step.out))
		if _, err := io.ReadFull(stderr, got); err != nil || string(got) != step.out {
			t.Fatalf("%q, %v; want %q", got, err, step.out)
		}
		if _, err := io.WriteString(in, step.in); err != nil {
			t.Fatal(err)
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
}

// TestChildKeepsStderr: a child that outlives the program and holds its standard error does not hold the launcher up.
func TestChildKeepsStderr(t *testing.T) {
	cmd, _ := launched(t, "sh", "-c", `sleep 60 & echo $!; echo last >&2; exit 3`)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := os.Create(t.TempDir() + "/stderr") // a file: exec would wait for a pipe
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	cmd.Stderr = stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Kill(child, syscall.SIGKILL) }()
	_, _ = cmd.Process.Wait()
	if err := syscall.Kill(child, 0); err != nil {
		t.Errorf("the launcher ended with the child: %v", err)
	}
	if got := read(t, stderr.Name()); string(got) != "last\n" {
		t.Errorf("standard error is %q", got)
	}
}

// TestDaemon: a child that outlives the program writes to its standard error as it would without a launcher, and what passes that on ends with it: the other side is closed then.
func TestDaemon(t *testing.T) {
	for _, tc := range []struct{ name, daemon, want string }{
		{"writes later", "read go <%[1]s/go; echo late >&2 && echo wrote >%[1]s/wrote", "last\nlate\n"},
		{"in its own session", "exec setsid sh -c 'read go <%[1]s/go; echo late >&2 && echo wrote >%[1]s/wrote'", "last\nlate\n"},
		{"silent", "read go <%[1]s/go; echo wrote >%[1]s/wrote", "last\n"},
		{"traces are its own", "read go <%[1]s/go; echo 'GC forced' >&2 && echo wrote >%[1]s/wrote", "last\nGC forced\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := exec.LookPath("setsid"); err != nil && strings.Contains(tc.daemon, "setsid") {
				t.Skipf("SKIPPED: a daemon in a session of its own is NOT tested: %v", err)
			}
			dir := t.TempDir()
			if err := syscall.Mkfifo(dir+"/go", 0o600); err != nil {
				t.Fatal(err)
			}
			cmd, _ := launched(t, "sh", "-c", "("+fmt.Sprintf(tc.daemon, dir)+") & echo last >&2; exit 3")
			ours, theirs, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer ours.Close()
			cmd.Stderr = theirs
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			_ = theirs.Close()
			_ = cmd.Wait() // for the launcher only: what it has are files
			if got := cmd.ProcessState.ExitCode(); got != 3 {
				t.Errorf("exit status %d, want 3", got)
			}
			if err := os.WriteFile(dir+"/go", []byte("go\n"), 0o600); err != nil { // the program has ended, and its launcher
				t.Fatal(err)
			}
			got, err := io.ReadAll(ours) // until nobody holds it, the process that passes it on either
			if err != nil || string(got) != tc.want {
				t.Errorf("standard error is %q, %v; want %q", got, err, tc.want)
			}
			if wrote, err := os.ReadFile(dir + "/wrote"); err != nil || string(wrote) != "wrote\n" {
				t.Errorf("the daemon wrote %q at its end, %v", wrote, err)
			}
		})
	}
}

// TestDaemonNobodyReads: where standard error is closed on the other side, the daemon meets that as it would without a launcher.
func TestDaemonNobodyReads(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(dir+"/ended", 0o600); err != nil {
		t.Fatal(err)
	}
	cmd, _ := launched(t, "sh", "-c", fmt.Sprintf(`(trap "" PIPE; while echo x >&2; do :; done; echo ended >%s/ended) & exit 0`, dir))
	ours, theirs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = theirs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = theirs.Close()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for running := true; running; { // what is written meanwhile is read, or the launcher waits to pass it on
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("ended with %v", err)
			}
			running = false
		default:
			if _, err := ours.Read(make([]byte, 64<<10)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := ours.Read(make([]byte, 1)); err != nil { // it writes on
		t.Fatal(err)
	}
	_ = ours.Close()
	if got := string(read(t, dir+"/ended")); got != "ended\n" {
		t.Errorf("the daemon says %q", got)
	}
}

// TestNobodyReads: where standard error is closed on the other side, the program meets that as it would without a launcher.
func TestNobodyReads(t *testing.T) {
	cmd, _ := launched(t, "sh", "-c", `while :; do echo hello >&2 || exit 5; done`)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(stderr, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	if err := stderr.Close(); err != nil {
		t.Fatal(err)
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		t.Fatalf("ended with %v", err)
	}
	if ws := exit.Sys().(syscall.WaitStatus); ws.Signal() != syscall.SIGPIPE && ws.ExitStatus() != 5 {
		t.Errorf("ended with %v", err)
	}
}
