package discover

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"time"

	"github.com/sonde-io/sonde/symbols/build"
)

// Look describes one process as it is now, for who meets it between two scans: nothing is sent to it, and its ports are not looked at, so its State says only whether the
// rules, its agent or its being the scanner itself leave it alone, else NotProbed. A process that is gone or is no Go program is an error that wraps fs.ErrNotExist, one
// that may not be read one that wraps fs.ErrPermission. Look does not wait for a scan.
func (s *Scanner) Look(ctx context.Context, pid int) (Process, error) {
	if err := ctx.Err(); err != nil {
		return Process{}, err
	}
	s.spotMu.Lock()
	defer s.spotMu.Unlock()
	if s.spotClosed {
		return Process{}, errors.New("look at process: the scanner is closed")
	}
	p, err := s.lookNow(pid)
	if err == nil && p.bare {
		p, err = s.lookAgain(ctx, pid)
	}
	if err != nil {
		return Process{}, fmt.Errorf("look at process %d: %w", pid, err)
	}
	return s.spotted(p), nil
}

// spotted returns a process that was looked at between two scans.
func (s *Scanner) spotted(p *proc) Process {
	if now := time.Now(); !s.leftAlone(p) && !s.awaited(p, now) {
		p.set(NotProbed, "its ports were not looked at yet")
	}
	return p.report()
}

// lookAgain waits a moment for a process that may just be starting. One that still has no command line is the next scan's.
func (s *Scanner) lookAgain(ctx context.Context, pid int) (p *proc, err error) {
	for try := 0; try < 5; try++ {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(time.Millisecond << try):
		}
		if p, err = s.lookNow(pid); err != nil || !p.bare {
			return p, err
		}
	}
	if len(p.cmdline) == 0 {
		return nil, fmt.Errorf("it is being started: %w", fs.ErrNotExist)
	}
	return p, nil
}

// Command is what a process was started with, as who started it knows.
type Command struct {
	Args, Env []string // as of exec: the program's name first, NAME=VALUE
}

// LookStarted is Look for who has just started the process: what /proc tells of its arguments and its environment a moment later only is taken from c.
func (s *Scanner) LookStarted(ctx context.Context, pid int, c Command) (Process, error) {
	if err := ctx.Err(); err != nil {
		return Process{}, err
	}
	s.spotMu.Lock()
	defer s.spotMu.Unlock()
	if s.spotClosed {
		return Process{}, errors.New("look at process: the scanner is closed")
	}
	p, err := s.lookNow(pid)
	if err != nil {
		return Process{}, fmt.Errorf("look at process %d: %w", pid, err)
	}
	name := strconv.Itoa(pid)
	p.cmdline, p.bare = joined(c.Args, maxCmdline), false
	env := joined(c.Env, maxEnviron)
	p.env = parseEnviron(env)
	cgroup, _ := s.fs.read(name+"/cgroup", s.spot.buf[:maxCgroup])
	p.base.Conditions = s.conditions(pid, p.cmdline, env, cgroup)
	s.label(&p.base, p.env, p.base.Build)
	return s.spotted(p), nil
}

// joined returns words as /proc has them, up to what is read of them there.
func joined(words []string, most int) []byte {
	var b []byte
	for _, w := range words {
		b = append(append(b, w...), 0)
	}
	return b[:min(len(b), most)]
}

// Names returns what a program is called that is started from a file with this environment: its service, and the labels that it gives itself. info may be nil.
func Names(env []string, exe string, info *build.Info) (service string, labels map[string]string) {
	service, _, labels = parseEnviron(joined(env, maxEnviron)).names(exe, info)
	return service, labels
}

func (s *Scanner) lookNow(pid int) (*proc, error) {
	key, err := s.fs.exe(pid)
	if err != nil {
		return nil, err
	}
	name := strconv.Itoa(pid)
	exe, err := s.executable(key, name+"/exe")
	if err != nil {
		return nil, err
	}
	if exe.info == nil {
		return nil, fmt.Errorf("it is no Go program: %w", fs.ErrNotExist)
	}
	b, err := s.fs.read(name+"/stat", s.spot.buf)
	if err != nil {
		return nil, err
	}
	_, ticks, err := parseStat(b)
	if err != nil {
		return nil, err
	}
	return s.load(&s.spot, pid, ticks, exe.info, s.booted.Add(time.Duration(ticks)*(time.Second/ticksPerSecond)))
}

// unwatched reports whether Config.Sampled is asked for a process that a scan has decided on: nothing else gathers from it, and nothing keeps Sonde off it. Ports that are denied
// say nothing against a look from outside.
func (s *Scanner) unwatched(p *proc) bool {
	if s.cfg.Sampled == nil || p.barred {
		return false
	}
	return slices.Contains([]State{NoEndpoint, NeedsRoot, OtherNetNS, Denied}, p.state)
}

// sample lets Config.Sampled decide on a process.
func (s *Scanner) sample(p *Process, dry bool) {
	gatherer, reason := s.cfg.Sampled(p)
	switch {
	case gatherer != "":
		p.State, p.Gatherer, p.Reason = Profiling, gatherer, reason
		if dry {
			p.Touch = append(p.Touch, gatherer+" from outside: nothing is sent to it")
		}
	case reason != "" && p.Reason != "":
		p.Reason += "; " + reason
	case reason != "":
		p.Reason = reason
	}
}
