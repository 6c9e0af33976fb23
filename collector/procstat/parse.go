package procstat

import (
	"bytes"
	"errors"
	"strconv"
)

var errMalformed = errors.New("malformed")

// stat is what is read of /proc/PID/stat.
type stat struct {
	state   byte
	ticks   uint64 // of CPU time
	threads uint64
	start   uint64 // ticks after boot
	virtual uint64 // bytes
	pages   uint64 // resident
}

// ended reports whether the process is dead, though somebody has to reap it still.
func (s stat) ended() bool { return s.state == 'Z' || s.state == 'X' || s.state == 'x' }

// parseStat reads /proc/PID/stat. The command in parentheses may hold anything.
func parseStat(b []byte) (s stat, err error) {
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
			continue
		case 14, 15, 20, 22, 23, 24:
		default:
			continue
		}
		v, ok := number(f)
		if !ok {
			return s, errMalformed
		}
		switch n {
		case 14, 15:
			s.ticks += v
		case 20:
			s.threads = v
		case 22:
			s.start = v
		case 23:
			s.virtual = v
		case 24:
			s.pages = v
			return s, nil
		}
	}
	return s, errMalformed
}

// number reads a decimal number, without an allocation.
func number(b []byte) (n uint64, ok bool) {
	if len(b) == 0 || len(b) > 19 {
		return 0, false
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return n, true
}

// parseSwitches reads the context switches of a thread from its status.
func parseSwitches(b []byte) (voluntary, involuntary uint64, ok bool) {
	var v, i bool
	for line := range bytes.Lines(b) {
		switch name, value, _ := bytes.Cut(line, []byte{':'}); string(name) {
		case "voluntary_ctxt_switches":
			voluntary, v = number(bytes.TrimSpace(value))
		case "nonvoluntary_ctxt_switches":
			involuntary, i = number(bytes.TrimSpace(value))
		}
	}
	return voluntary, involuntary, v && i
}

// parseOpenFiles reads the soft limit of descriptors from /proc/PID/limits; 0 where there is none.
func parseOpenFiles(b []byte) (uint64, error) {
	for line := range bytes.Lines(b) {
		rest, ok := bytes.CutPrefix(line, []byte("Max open files"))
		if !ok {
			continue
		}
		f := bytes.Fields(rest)
		if len(f) < 2 {
			return 0, errMalformed
		}
		if string(f[0]) == "unlimited" {
			return 0, nil
		}
		return strconv.ParseUint(string(f[0]), 10, 64)
	}
	return 0, errMalformed
}
