package cgroup

import (
	"bytes"
	"math"
	"path"
	"strconv"
	"strings"
)

// place is where a hierarchy is mounted, and what of it.
type place struct {
	mount string // directory
	root  string // the cgroup that is seen there
}

// dir returns the directory of a cgroup in the hierarchy. One that lies outside of what is mounted is the mount itself: a container sees its own there.
func (p place) dir(group string) string {
	group = path.Clean("/" + group)
	if p.root != "/" {
		rest, ok := strings.CutPrefix(group, p.root)
		if !ok || rest != "" && rest[0] != '/' {
			return p.mount
		}
		group = rest
	}
	return path.Join(p.mount, group)
}

// mounts finds in /proc/PID/mountinfo the unified hierarchy and those of version 1 by controller.
func mounts(mountinfo string) (unified *place, v1 map[string]place) {
	v1 = map[string]place{}
	for _, line := range strings.Split(mountinfo, "\n") {
		fields := strings.Fields(line)
		dash := -1
		for i, f := range fields {
			if f == "-" {
				dash = i
				break
			}
		}
		if dash < 5 || len(fields) < dash+4 {
			continue
		}
		p := place{mount: unescape(fields[4]), root: path.Clean(unescape(fields[3]))}
		switch fields[dash+1] {
		case "cgroup2":
			if unified == nil {
				unified = &p
			}
		case "cgroup":
			for _, c := range strings.Split(fields[dash+3], ",") {
				if _, has := v1[c]; !has {
					v1[c] = p
				}
			}
		}
	}
	return unified, v1
}

// unescape turns \040 and the like of mountinfo into what they stand for.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// groups reads /proc/PID/cgroup: the path in the unified hierarchy, and those of version 1 by controller.
func groups(text string) (unified string, v1 map[string]string) {
	v1 = map[string]string{}
	for _, line := range strings.Split(text, "\n") {
		parts := strings.SplitN(line, ":", 3)
		if len(parts) != 3 {
			continue
		}
		if parts[0] == "0" && parts[1] == "" {
			unified = parts[2]
		}
		for _, c := range strings.Split(parts[1], ",") {
			if c != "" {
				v1[c] = parts[2]
			}
		}
	}
	return unified, v1
}

// unlimited is more than any machine's memory: version 1 writes the largest multiple of a page where there is no limit.
const unlimited = 1 << 60

// memoryLimit reads memory.max or memory.limit_in_bytes; 0 where there is none.
func memoryLimit(text string) float64 {
	v, err := strconv.ParseUint(strings.TrimSpace(text), 10, 64)
	if err != nil || v >= unlimited {
		return 0
	}
	return float64(v)
}

// quota turns microseconds of CPU in a period into cores; +Inf where there is no limit.
func quota(allowed, period string) float64 {
	a, err1 := strconv.ParseFloat(allowed, 64)
	p, err2 := strconv.ParseFloat(period, 64)
	if err1 != nil || err2 != nil || !(a > 0) || !(p > 0) {
		return math.Inf(1)
	}
	return a / p
}

// number reads the decimal number at the start of b; false where there is none.
func number(b []byte) (v float64, ok bool) {
	for _, c := range b {
		if c < '0' || c > '9' {
			break
		}
		v, ok = v*10+float64(c-'0'), true
	}
	return v, ok
}

// field returns the number after key, which has to stand at the start of a line of b, with the space that follows it.
func field(b []byte, key string) (v float64, ok bool) {
	for len(b) > 0 {
		if len(b) > len(key) && string(b[:len(key)]) == key {
			return number(b[len(key):])
		}
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			break
		}
		b = b[i+1:]
	}
	return 0, false
}

// pressure reads "some avg10=12.34" out of a pressure file.
func pressure(b []byte) (v float64, ok bool) {
	const key = "some avg10="
	if len(b) < len(key) || string(b[:len(key)]) != key {
		return 0, false
	}
	b = b[len(key):]
	v, ok = number(b)
	if i := bytes.IndexByte(b, '.'); ok && i >= 0 {
		scale := 0.1
		for _, c := range b[i+1:] {
			if c < '0' || c > '9' {
				break
			}
			v += float64(c-'0') * scale
			scale /= 10
		}
	}
	return v, ok
}
