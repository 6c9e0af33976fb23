package perf

import (
	"bytes"
	"slices"
	"strconv"
	"time"
)

// maxMappings bounds the executable mappings of one process; a Go program has a handful, one with many C libraries some hundred.
const maxMappings = 4096

// mapsPeriod is how often the n mappings of a process that maps more and more are read again at most: a process must not be able to keep the sampler busy with that.
func mapsPeriod(n int) time.Duration {
	if n > 500 {
		return 15 * time.Second
	}
	return time.Second
}

// mapping is an executable part of a process's memory.
type mapping struct {
	start, end, offset uint64
	file               fileID
	path               string // as in /proc/PID/maps; "[vdso]" and the like, "" for memory without a file
}

// fileID names a file on this machine.
type fileID struct {
	dev   string // as in /proc/PID/maps: "fd:01"
	inode uint64
}

// parseMaps reads the executable mappings of /proc/PID/maps, by address.
func parseMaps(b []byte) []mapping {
	var out []mapping
	for line := range bytes.Lines(b) {
		fields := bytes.Fields(line)
		if len(fields) < 5 || len(fields[1]) < 3 || fields[1][2] != 'x' {
			continue
		}
		lo, hi, ok := bytes.Cut(fields[0], []byte("-"))
		start, err1 := strconv.ParseUint(string(lo), 16, 64)
		end, err2 := strconv.ParseUint(string(hi), 16, 64)
		offset, err3 := strconv.ParseUint(string(fields[2]), 16, 64)
		inode, err4 := strconv.ParseUint(string(fields[4]), 10, 64)
		if !ok || err1 != nil || err2 != nil || err3 != nil || err4 != nil || end <= start {
			continue
		}
		m := mapping{start: start, end: end, offset: offset, file: fileID{string(fields[3]), inode}}
		if len(fields) > 5 {
			m.path = string(bytes.Join(fields[5:], []byte(" ")))
		}
		if out = append(out, m); len(out) == maxMappings {
			break
		}
	}
	slices.SortFunc(out, func(a, b mapping) int {
		if a.start < b.start {
			return -1
		}
		return 1
	})
	return out
}

// find returns the mapping that holds pc, nil where none does.
func findMapping(maps []mapping, pc uint64) *mapping {
	i, found := slices.BinarySearchFunc(maps, pc, func(m mapping, pc uint64) int {
		switch {
		case m.end <= pc:
			return -1
		case m.start > pc:
			return 1
		}
		return 0
	})
	if !found {
		return nil
	}
	return &maps[i]
}
