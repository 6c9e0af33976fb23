package inspect

// maxDepth is how many physical frames of a stack are unwound, as many as runtime/pprof keeps since Go 1.23.
const maxDepth = 128

// window is how much of a stack is read where the unwinder leaves what was read before, bytes.
const window = 8 << 10

// registers are where a goroutine stopped, addresses of the process.
type registers struct {
	pc, sp, bp uint64
	lo, hi     uint64 // of its stack
}

// stackReader is the memory of one stack, of which the beginning was read.
type stackReader struct {
	r    *reader
	at   uint64 // of b
	b    []byte
	hi   uint64
	buf  []byte // for what is read later
	more bool   // something was read later
	err  error
}

// word returns the word at addr, which lies in the stack; ok is false where it does not or cannot be read.
func (s *stackReader) word(addr uint64) (v uint64, ok bool) {
	if addr >= s.at && addr-s.at+8 <= uint64(len(s.b)) {
		return le.Uint64(s.b[addr-s.at:]), true
	}
	if addr < s.at || addr >= s.hi || s.hi-addr < 8 || s.err != nil {
		return 0, false
	}
	if s.buf == nil {
		s.buf = make([]byte, window)
	}
	b := s.buf[:min(window, s.hi-addr)]
	s.more = true
	if ok, s.err = s.r.read(addr, b); !ok {
		return 0, false
	}
	s.at, s.b = addr, b
	return le.Uint64(b), true
}

// frame is one physical frame: its pc, of the process, and whether that is a return address.
type frame struct {
	pc  uint64
	ret bool
}

// unwind appends the physical frames from regs on to dst, innermost first, without the one that every goroutine begins with. It goes by the table of
// stack pointer deltas, as the runtime itself does, which is exact for a goroutine that is parked; where a function has none (C, assembly that
// switches stacks) by the frame pointer. whole is false where the stack did not end at its end.
func (im *image) unwind(dst []frame, regs registers, bias uint64, st *stackReader) (frames []frame, whole bool) {
	pc, sp, bp, ret := regs.pc, regs.sp, regs.bp, true
	for range maxDepth {
		s := im.siteAt(pc-bias, ret)
		if s != nil && s.name == "runtime.goexit" {
			return dst, true
		}
		if s == nil && len(dst) > 0 && !im.isCode(pc-bias) {
			// A return address outside of Go: C, or no return address. It has no name.
			return dst, false
		}
		dst = append(dst, frame{pc, ret})
		var next uint64
		var ok bool
		switch {
		case s != nil && s.unwinds && im.machine == "arm64":
			next, ok = st.word(sp)
			if s.delta == 0 {
				return dst, false // the return address was in a register
			}
			sp += uint64(s.delta)
		case s != nil && s.unwinds:
			if s.delta >= 8 {
				if saved, got := st.word(sp + uint64(s.delta) - 8); got {
					bp = saved
				}
			}
			next, ok = st.word(sp + uint64(s.delta))
			sp += uint64(s.delta) + 8
		default:
			if bp < sp || bp >= regs.hi {
				return dst, false
			}
			at := bp
			bp, _ = st.word(at)
			next, ok = st.word(at + 8)
			sp = at + 16
		}
		if !ok || sp > regs.hi || next == 0 {
			return dst, false
		}
		// Below these the pc is where the function was interrupted, not where it called.
		ret = s == nil || !interrupts[s.name]
		pc = next
	}
	return dst, true
}

// interrupts are functions that seem to be called by the one that a signal interrupted.
var interrupts = map[string]bool{"runtime.asyncPreempt": true, "runtime.sigpanic": true, "runtime.debugCallV2": true, "runtime.debugCallV1": true}
