package trigger

import (
	"bytes"
	"strconv"

	"github.com/sonde-io/sonde/internal/cgroup"
)

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
		return s, cgroup.ErrMalformed
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
				return s, cgroup.ErrMalformed
			}
			if n == 22 {
				s.start = v
				return s, nil
			}
			s.ticks += v
		}
	}
	return s, cgroup.ErrMalformed
}

// ticksPerSecond is USER_HZ: 100 on every system that Go runs on.
const ticksPerSecond = 100
