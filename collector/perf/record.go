package perf

import (
	"encoding/binary"
	"math/bits"
)

// Kinds of records, as linux/perf_event.h numbers them.
const (
	recordLost        = 2
	recordComm        = 3
	recordExit        = 4
	recordThrottle    = 5
	recordFork        = 7
	recordSample      = 9
	recordMmap2       = 10
	recordLostSamples = 13
	recordSwitch      = 14
	recordSwitchCPU   = 15
)

const (
	miscExec      = 1 << 13 // of recordComm: the name changed by exec
	miscSwitchOut = 1 << 13 // of recordSwitch: away from the CPU
	contextMax    = ^uint64(4095 - 1)
	contextKernel = ^uint64(128 - 1)
	contextUser   = ^uint64(512 - 1)
	maxChain      = 1 << 10 // frames of one sample; the kernel's own limit is 127 by default
	maxUserStack  = 1 << 10
)

// record is one record of a ring, decoded. Its slices are valid until the next is decoded.
type record struct {
	kind     uint32
	misc     uint16
	pid, tid uint32
	ppid     uint32 // fork
	time     uint64 // CLOCK_MONOTONIC, ns
	lost     uint64 // lost records
	period   uint64 // of a sample: nanoseconds of CPU time, or switches

	user   []uint64 // leaf first
	kernel []uint64
	sp, lr uint64 // of the user's registers
	stack  []byte // from sp up
}

// decoder decodes records of events that were opened with sampleType and sample_id_all.
type decoder struct {
	regs         uint64 // sample_regs_user
	user, kernel []uint64
}

// decode reads one record, header included. ok is false for one that contradicts itself.
func (d *decoder) decode(b []byte) (r record, ok bool) {
	if len(b) < 8 {
		return r, false
	}
	le := binary.NativeEndian
	r.kind, r.misc = le.Uint32(b), le.Uint16(b[4:])
	if int(le.Uint16(b[6:])) != len(b) {
		return r, false
	}
	body := b[8:]
	if r.kind == recordSample {
		return r, d.sample(&r, body)
	}
	if len(body) < 16 { // the trailer: pid, tid, time
		return r, false
	}
	trailer := body[len(body)-16:]
	body = body[:len(body)-16]
	r.pid, r.tid, r.time = le.Uint32(trailer), le.Uint32(trailer[4:]), le.Uint64(trailer[8:])
	need := map[uint32]int{recordLost: 16, recordLostSamples: 8, recordComm: 8, recordExit: 24, recordFork: 24, recordMmap2: 8, recordSwitchCPU: 8}[r.kind]
	if len(body) < need {
		return r, false
	}
	switch r.kind {
	case recordLost:
		r.lost = le.Uint64(body[8:])
	case recordLostSamples:
		r.lost = le.Uint64(body)
	case recordComm, recordMmap2:
		r.pid, r.tid = le.Uint32(body), le.Uint32(body[4:])
	case recordExit, recordFork:
		r.pid, r.ppid, r.tid, r.time = le.Uint32(body), le.Uint32(body[4:]), le.Uint32(body[8:]), le.Uint64(body[16:])
	}
	return r, true
}

// sample reads TID, TIME, PERIOD, CALLCHAIN, REGS_USER and STACK_USER, in the kernel's order.
func (d *decoder) sample(r *record, b []byte) bool {
	le := binary.NativeEndian
	if len(b) < 32 {
		return false
	}
	r.pid, r.tid, r.time, r.period = le.Uint32(b), le.Uint32(b[4:]), le.Uint64(b[8:]), le.Uint64(b[16:])
	n := le.Uint64(b[24:])
	b = b[32:]
	if n > maxChain || uint64(len(b)) < 8*n {
		return false
	}
	d.user, d.kernel = d.user[:0], d.kernel[:0]
	context := contextUser
	for i := range int(n) {
		ip := le.Uint64(b[8*i:])
		switch {
		case ip >= contextMax:
			context = ip
		case context == contextKernel:
			d.kernel = append(d.kernel, ip)
		case context == contextUser:
			d.user = append(d.user, ip)
		}
	}
	r.user, r.kernel = d.user, d.kernel
	b = b[8*n:]
	if d.regs == 0 {
		return true
	}
	if len(b) < 8 {
		return false
	}
	abi := le.Uint64(b)
	b = b[8:]
	if abi != 0 {
		words := bits.OnesCount64(d.regs)
		if len(b) < 8*words {
			return false
		}
		if words == 2 {
			r.lr = le.Uint64(b) // the lower number of the two
		}
		r.sp = le.Uint64(b[8*(words-1):])
		b = b[8*words:]
	}
	if len(b) < 8 {
		return false
	}
	size := le.Uint64(b)
	b = b[8:]
	if size == 0 {
		return true
	}
	if size > maxUserStack || uint64(len(b)) < size+8 {
		return false
	}
	r.stack = b[:min(size, le.Uint64(b[size:]))]
	return true
}
