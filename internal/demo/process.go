package demo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/sonde-io/sonde/internal/demo/service"
)

// Spec says which service to start and how.
type Spec struct {
	Name    string
	Version string    // becomes service_version
	Exe     string    // the program
	Args    []string  // its arguments
	Env     []string  // added to this process's environment
	Log     io.Writer // receives what the service prints; must be safe for concurrent use
}

// Process is a running service.
type Process struct {
	Spec
	Addr string // where it listens

	cmd     *exec.Cmd
	stdin   io.Closer
	waited  chan struct{} // closed once the process is gone
	waitErr error
	stop    sync.Once
}

// Start starts a service in a process group of its own and returns once it accepts connections.
func Start(ctx context.Context, spec Spec) (*Process, error) {
	cmd := exec.Command(spec.Exe, spec.Args...)
	cmd.Env = append(environ("OTEL_SERVICE_NAME="+spec.Name, "OTEL_RESOURCE_ATTRIBUTES=service.version="+spec.Version), spec.Env...)
	cmd.Stderr = spec.Log
	cmd.SysProcAttr = childAttr()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	p := &Process{Spec: spec, cmd: cmd, stdin: stdin, waited: make(chan struct{})}
	ready := make(chan string, 1)
	go p.follow(stdout, ready)
	select {
	case p.Addr = <-ready:
	case <-p.waited:
		return nil, fmt.Errorf("start %s: it ended at once: %w", spec.Name, firstError(p.waitErr, errors.New("exit status 0")))
	case <-ctx.Done():
		p.Stop(0)
		return nil, fmt.Errorf("start %s: %w", spec.Name, context.Cause(ctx))
	}
	return p, nil
}

func firstError(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}

// follow reads the process's output until it ends and then reaps it.
func (p *Process) follow(stdout io.Reader, ready chan<- string) {
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if addr, ok := strings.CutPrefix(lines.Text(), service.Ready+" "); ok {
			select {
			case ready <- addr:
			default:
			}
			continue
		}
		fmt.Fprintln(p.Log, lines.Text())
	}
	_, _ = io.Copy(io.Discard, stdout) // after a line too long for the scanner: the service must not block on a full pipe
	p.waitErr = p.cmd.Wait()
	close(p.waited)
}

// PID returns the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed once the process is gone.
func (p *Process) Done() <-chan struct{} { return p.waited }

// Stop asks the service to end, kills it after grace, and returns once it is gone. It may be called twice and at once.
func (p *Process) Stop(grace time.Duration) {
	p.stop.Do(func() {
		terminate(p.cmd.Process)
		p.stdin.Close()
		t := time.NewTimer(grace)
		defer t.Stop()
		select {
		case <-p.waited:
			return
		case <-t.C:
		}
		_ = p.cmd.Process.Kill() // fails only if it is gone by now
	})
	<-p.waited
}
