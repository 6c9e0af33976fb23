package cgroup

import (
	"bytes"
	"errors"
	"math"
	"strconv"
)

// ErrMalformed says that a file is not what the kernel writes.
var ErrMalformed = errors.New("malformed")

// Paths are a process's cgroups: of the controllers of version 1, "" where they are not there, and of version 2.
type Paths struct{ Memory, CPU, CPUAcct, Unified string }

// ParsePaths reads /proc/PID/cgroup.
func ParsePaths(b []byte) (p Paths) {
	for line := range bytes.Lines(b) {
		parts := bytes.SplitN(bytes.TrimRight(line, "\n"), []byte(":"), 3)
		if len(parts) != 3 || len(parts[2]) == 0 || parts[2][0] != '/' || len(parts[2]) > MaxPath {
			continue
		}
		path := string(parts[2])
		if string(parts[0]) == "0" && len(parts[1]) == 0 {
			p.Unified = path
			continue
		}
		for controller := range bytes.SplitSeq(parts[1], []byte(",")) {
			switch string(controller) {
			case "memory":
				p.Memory = path
			case "cpu":
				p.CPU = path
			case "cpuacct":
				p.CPUAcct = path
			}
		}
	}
	return p
}

// MaxPath bounds the path of a cgroup, in bytes.
const MaxPath = 4096

// Keyed returns the number after a key in lines of "key number", as memory.stat and memory.events have them.
func Keyed(b []byte, key string) (int64, bool) {
	for line := range bytes.Lines(b) {
		rest, ok := bytes.CutPrefix(line, []byte(key))
		if ok && len(rest) > 0 && rest[0] == ' ' {
			n, err := strconv.ParseInt(string(bytes.TrimSpace(rest)), 10, 64)
			return n, err == nil && n >= 0
		}
	}
	return 0, false
}

// Unlimited is what stands for no limit.
const Unlimited = math.MaxInt64

// ParseLimit reads a limit in bytes: a number or "max". Version 1 writes a number near the largest where there is none.
func ParseLimit(b []byte) (int64, error) {
	b = bytes.TrimSpace(b)
	if string(b) == "max" {
		return Unlimited, nil
	}
	n, err := strconv.ParseInt(string(b), 10, 64)
	if err != nil || n < 0 {
		return 0, ErrMalformed
	}
	if n >= 1<<62 {
		return Unlimited, nil
	}
	return n, nil
}

// Pressure is one line of PSI: the share of the last 10 s in which tasks waited, in percent, and the time in which they did since the start, in microseconds.
type Pressure struct {
	Avg10 float64
	Total uint64
}

// ParsePressure reads a file of PSI: some says when at least one task waited, full when all did. A kernel may leave full out, which is then zero.
func ParsePressure(b []byte) (some, full Pressure, err error) {
	found := false
	for line := range bytes.Lines(b) {
		kind, rest, _ := bytes.Cut(line, []byte{' '})
		p := &full
		switch string(kind) {
		case "some":
			p, found = &some, true
		case "full":
		default:
			continue
		}
		for f := range bytes.FieldsSeq(rest) {
			name, value, _ := bytes.Cut(f, []byte{'='})
			switch string(name) {
			case "avg10":
				if p.Avg10, err = strconv.ParseFloat(string(value), 64); err != nil || !(p.Avg10 >= 0 && p.Avg10 <= 100) {
					return Pressure{}, Pressure{}, ErrMalformed
				}
			case "total":
				if p.Total, err = strconv.ParseUint(string(value), 10, 64); err != nil {
					return Pressure{}, Pressure{}, ErrMalformed
				}
			}
		}
	}
	if !found {
		return Pressure{}, Pressure{}, ErrMalformed
	}
	return some, full, nil
}

// ParseQuota reads cpu.max: how much CPU time may be used in a period, in microseconds. A period of 0 says that there is no limit.
func ParseQuota(b []byte) (quota, period int64, err error) {
	f := bytes.Fields(b)
	if len(f) != 2 {
		return 0, 0, ErrMalformed
	}
	if string(f[0]) == "max" {
		return 0, 0, nil
	}
	quota, err = strconv.ParseInt(string(f[0]), 10, 64)
	period, err2 := strconv.ParseInt(string(f[1]), 10, 64)
	if err != nil || err2 != nil || quota <= 0 || period <= 0 {
		return 0, 0, ErrMalformed
	}
	return quota, period, nil
}

// ParseCPUMax reads how many CPUs cpu.max allows, 0 for no limit.
func ParseCPUMax(b []byte) (float64, error) {
	quota, period, err := ParseQuota(b)
	if err != nil || period == 0 {
		return 0, err
	}
	return float64(quota) / float64(period), nil
}

// CPUs divides a quota by its period; a quota of -1 is none.
func CPUs(quota, period []byte) (float64, error) {
	q, err := strconv.ParseInt(string(bytes.TrimSpace(quota)), 10, 64)
	p, err2 := strconv.ParseInt(string(bytes.TrimSpace(period)), 10, 64)
	if err != nil || err2 != nil || p <= 0 {
		return 0, ErrMalformed
	}
	if q <= 0 {
		return 0, nil
	}
	return float64(q) / float64(p), nil
}
