package trigger

import (
	"bytes"
	"errors"
	"math"
	"strconv"
)

var errMalformed = errors.New("malformed")

// cgroupPaths are a process's cgroups: of the memory and cpu controllers of version 1, "" where they are not there, and of version 2.
type cgroupPaths struct{ memory, cpu, unified string }

// parseCgroup reads /proc/PID/cgroup.
func parseCgroup(b []byte) (p cgroupPaths) {
	for line := range bytes.Lines(b) {
		parts := bytes.SplitN(bytes.TrimRight(line, "\n"), []byte(":"), 3)
		if len(parts) != 3 || len(parts[2]) == 0 || parts[2][0] != '/' || len(parts[2]) > maxPath {
			continue
		}
		path := string(parts[2])
		if string(parts[0]) == "0" && len(parts[1]) == 0 {
			p.unified = path
			continue
		}
		for controller := range bytes.SplitSeq(parts[1], []byte(",")) {
			switch string(controller) {
			case "memory":
				p.memory = path
			case "cpu":
				p.cpu = path
			}
		}
	}
	return p
}

// maxPath bounds the path of a cgroup, in bytes.
const maxPath = 4096

// keyed returns the number after a key in lines of "key number", as memory.stat and memory.events have them.
func keyed(b []byte, key string) (int64, bool) {
	for line := range bytes.Lines(b) {
		rest, ok := bytes.CutPrefix(line, []byte(key))
		if ok && len(rest) > 0 && rest[0] == ' ' {
			n, err := strconv.ParseInt(string(bytes.TrimSpace(rest)), 10, 64)
			return n, err == nil && n >= 0
		}
	}
	return 0, false
}

// unlimited is what stands for no limit.
const unlimited = math.MaxInt64

// parseLimit reads a limit in bytes: a number or "max". Version 1 writes a number near the largest where there is none.
func parseLimit(b []byte) (int64, error) {
	b = bytes.TrimSpace(b)
	if string(b) == "max" {
		return unlimited, nil
	}
	n, err := strconv.ParseInt(string(b), 10, 64)
	if err != nil || n < 0 {
		return 0, errMalformed
	}
	if n >= 1<<62 {
		return unlimited, nil
	}
	return n, nil
}

// parsePressure reads the share of the last 10 s in which some task waited, in percent, of memory.pressure.
func parsePressure(b []byte) (float64, error) {
	for line := range bytes.Lines(b) {
		rest, ok := bytes.CutPrefix(line, []byte("some "))
		if !ok {
			continue
		}
		for f := range bytes.FieldsSeq(rest) {
			if v, ok := bytes.CutPrefix(f, []byte("avg10=")); ok {
				x, err := strconv.ParseFloat(string(v), 64)
				if err != nil || !(x >= 0 && x <= 100) {
					return 0, errMalformed
				}
				return x, nil
			}
		}
	}
	return 0, errMalformed
}

// parseCPUMax reads how many CPUs cpu.max allows, 0 for no limit.
func parseCPUMax(b []byte) (float64, error) {
	f := bytes.Fields(b)
	if len(f) != 2 {
		return 0, errMalformed
	}
	if string(f[0]) == "max" {
		return 0, nil
	}
	return cpus(f[0], f[1])
}

// cpus divides a quota by its period; a quota of -1 is none.
func cpus(quota, period []byte) (float64, error) {
	q, err := strconv.ParseInt(string(bytes.TrimSpace(quota)), 10, 64)
	p, err2 := strconv.ParseInt(string(bytes.TrimSpace(period)), 10, 64)
	if err != nil || err2 != nil || p <= 0 {
		return 0, errMalformed
	}
	if q <= 0 {
		return 0, nil
	}
	return float64(q) / float64(p), nil
}

// procStat is what is read of /proc/PID/stat.
type procStat struct {
	state byte
	ticks uint64 // CPU time used, in ticks
	start uint64 // ticks after boot
}

// ended reports whether the process is dead, though somebody has to reap it still.
func (s procStat) ended() bool { return s.state == 'Z' || s.state == 'X' || s.state == 'x' }

// parseStat reads /proc/PID/stat. The command in parentheses may hold anything.
func parseStat(b []byte) (s procStat, err error) {
	i := bytes.LastIndexByte(b, ')')
	if i < 0 {
		return s, errMalformed
	}
	n := 2
	for f := range bytes.FieldsSeq(b[i+1:]) {
		n++
		switch n {
		case 3:
			s.state = f[0]
		case 14, 15, 22:
			v, err := strconv.ParseUint(string(f), 10, 64)
			if err != nil {
				return s, errMalformed
			}
			if n == 22 {
				s.start = v
				return s, nil
			}
			s.ticks += v
		}
	}
	return s, errMalformed
}

// ticksPerSecond is USER_HZ: 100 on every system that Go runs on.
const ticksPerSecond = 100
