package discover

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"iter"
	"net/netip"
	"strconv"
	"strings"
)

// Limits of what is read of one process.
const (
	maxFDs     = 20_000  // descriptors looked at for listening sockets; listeners are opened early and have low numbers
	maxEnviron = 1 << 20 // bytes
	maxCmdline = 64 << 10
	maxNetTCP  = 4 << 20
	maxCgroup  = 16 << 10
	maxAttrs   = 16 // resource attributes taken from the environment
	maxValue   = 256
)

var errMalformed = errors.New("malformed")

const kernelThread = 0x00200000 // PF_KTHREAD

// parseStat reads the flags and the start time, in clock ticks after boot, of /proc/PID/stat. The command in parentheses may hold
// anything, parentheses included.
func parseStat(b []byte) (flags, ticks uint64, err error) {
	i := bytes.LastIndexByte(b, ')')
	if i < 0 {
		return 0, 0, errMalformed
	}
	n := 2
	for f := range bytes.FieldsSeq(b[i+1:]) {
		n++ // f is field n of proc(5)
		switch n {
		case 9:
			if flags, err = strconv.ParseUint(string(f), 10, 64); err != nil {
				return 0, 0, errMalformed
			}
		case 22:
			if ticks, err = strconv.ParseUint(string(f), 10, 64); err != nil {
				return 0, 0, errMalformed
			}
			return flags, ticks, nil
		}
	}
	return 0, 0, errMalformed
}

// parseStatus reads the effective uid and the pids (NSpid) of /proc/PID/status. Kernels before 4.1 have no NSpid.
func parseStatus(b []byte) (uid int, pids []int, err error) {
	uid = -1
	for line := range bytes.Lines(b) {
		key, rest, ok := bytes.Cut(line, []byte(":"))
		if !ok {
			continue
		}
		fields := strings.Fields(string(rest))
		switch string(key) {
		case "Uid":
			if len(fields) < 2 {
				return 0, nil, errMalformed
			}
			if uid, err = strconv.Atoi(fields[1]); err != nil {
				return 0, nil, errMalformed
			}
		case "NSpid":
			for _, f := range fields {
				pid, err := strconv.Atoi(f)
				if err != nil || len(pids) > 32 {
					return 0, nil, errMalformed
				}
				pids = append(pids, pid)
			}
		}
	}
	if uid < 0 {
		return 0, nil, errMalformed
	}
	return uid, pids, nil
}

// listener is a listening TCP socket.
type listener struct {
	inode uint64
	addr  netip.AddrPort // unmapped
}

// parseNetTCP yields the listening sockets of /proc/PID/net/tcp or tcp6. The kernel lists them first: it stops at the first socket
// in another state, so that a hundred thousand connections need not be read.
func parseNetTCP(b []byte) iter.Seq[listener] {
	const listening, synReceived = "0A", "03" // before 4.4, half-open connections stood among the listeners
	return func(yield func(listener) bool) {
		first := true
		for line := range bytes.Lines(b) {
			if first { // the heading
				first = false
				continue
			}
			f := bytes.Fields(line)
			if len(f) < 10 {
				return
			}
			if st := string(f[3]); st == synReceived {
				continue
			} else if st != listening {
				return
			}
			addr, ok := parseHexAddr(f[1])
			inode, err := strconv.ParseUint(string(f[9]), 10, 64)
			if !ok || err != nil || inode == 0 {
				continue
			}
			if !yield(listener{inode: inode, addr: addr}) {
				return
			}
		}
	}
}

// parseHexAddr reads "0100007F:1F90": the address in 32-bit words of the machine's byte order, the port as a number.
func parseHexAddr(b []byte) (netip.AddrPort, bool) {
	host, port, ok := bytes.Cut(b, []byte(":"))
	if !ok || (len(host) != 8 && len(host) != 32) || len(port) != 4 {
		return netip.AddrPort{}, false
	}
	var raw [16]byte
	var p [2]byte
	n, err := hex.Decode(raw[:], host)
	if err != nil {
		return netip.AddrPort{}, false
	}
	if _, err := hex.Decode(p[:], port); err != nil {
		return netip.AddrPort{}, false
	}
	for i := 0; i < n; i += 4 {
		binary.BigEndian.PutUint32(raw[i:], binary.NativeEndian.Uint32(raw[i:]))
	}
	addr, ok := netip.AddrFromSlice(raw[:n])
	return netip.AddrPortFrom(addr.Unmap(), binary.BigEndian.Uint16(p[:])), ok
}

// socketInode reads "socket:[123]".
func socketInode(b []byte) (uint64, bool) {
	rest, ok := bytes.CutPrefix(b, []byte("socket:["))
	if !ok {
		return 0, false
	}
	digits, ok := bytes.CutSuffix(rest, []byte("]"))
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(string(digits), 10, 64)
	return n, err == nil
}
