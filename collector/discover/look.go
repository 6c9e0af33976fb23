package discover

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"time"
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
	if err != nil {
		return Process{}, fmt.Errorf("look at process %d: %w", pid, err)
	}
	if now := time.Now(); !s.leftAlone(p) && !s.awaited(p, now) {
		p.set(NotProbed, "its ports were not looked at yet")
	}
	return p.report(), nil
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
