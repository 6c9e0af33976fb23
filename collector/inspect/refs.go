package inspect

import "encoding/binary"

// access is how an instruction uses the word of memory that it refers to.
type access uint8

const (
	loads    access = iota // moves it to a register
	stores                 // moves a register or a constant to it
	compares               // compares it
	address                // takes its address
)

// ref is one use of a global by an instruction.
type ref struct {
	at   uint64 // of the instruction
	addr uint64 // of the global
	how  access
	size int   // of what is read or written, bytes; 0 for an address
	imm  int64 // what it is compared with or set to, where that is a constant
}

var le = binary.LittleEndian

// refs returns the uses of globals in [lo, hi) that the code at address entry makes, in the order of the code. It knows the few instructions that
// Go's compiler uses for that, and looks for them without decoding the rest: what is no instruction but looks like one yields a ref to some address, so a caller
// checks what it finds there.
func refs(machine string, code []byte, entry, lo, hi uint64) []ref {
	if machine == "arm64" {
		return refsARM64(code, entry, lo, hi)
	}
	return refsAMD64(code, entry, lo, hi)
}

// refsAMD64 looks for operands relative to the instruction pointer: [REX] opcode ModRM(mod 0, rm 5) disp32 [immediate].
func refsAMD64(code []byte, entry, lo, hi uint64) []ref {
	var out []ref
	for i := 0; i+6 <= len(code); i++ {
		if code[i+1]&0xc7 != 5 {
			continue
		}
		op, reg := code[i], code[i+1]>>3&7
		start, wide := i, false
		if i > 0 && code[i-1]&0xf0 == 0x40 {
			start, wide = i-1, code[i-1]&8 != 0
		}
		r := ref{at: entry + uint64(start), size: 4}
		if wide {
			r.size = 8
		}
		imm := 0 // bytes of the immediate
		switch {
		case op == 0x8b:
			r.how = loads
		case op == 0x8d && wide:
			r.how, r.size = address, 0
		case op == 0x89:
			r.how = stores
		case op == 0x39 || op == 0x3b:
			r.how = compares
		case op == 0x83 && reg == 7:
			r.how, imm = compares, 1
		case op == 0x80 && reg == 7:
			r.how, r.size, imm = compares, 1, 1
		case op == 0xc7 && reg == 0:
			r.how, imm = stores, 4
		case op == 0xc6 && reg == 0:
			r.how, r.size, imm = stores, 1, 1
		default:
			continue
		}
		end := i + 6 + imm
		if end > len(code) {
			continue
		}
		r.addr = entry + uint64(end) + uint64(int64(int32(le.Uint32(code[i+2:]))))
		switch imm {
		case 1:
			r.imm = int64(int8(code[i+6]))
		case 4:
			r.imm = int64(int32(le.Uint32(code[i+6:])))
		}
		if r.addr >= lo && r.addr < hi && r.addr%uint64(max(r.size, 1)) == 0 {
			out = append(out, r)
		}
	}
	return out
}

// refsARM64 looks for ADRP and what uses its register next: ADD, loads and stores, also through the sum that ADD leaves.
func refsARM64(code []byte, entry, lo, hi uint64) []ref {
	var out []ref
	var held [32]uint64 // the address in each register; 0: something else
	for i := 0; i+4 <= len(code); i += 4 {
		ins, pc := le.Uint32(code[i:]), entry+uint64(i)
		rd, rn := ins&31, ins>>5&31
		if ins&0x9f000000 == 0x90000000 { // ADRP: 21 bits, of which two are apart
			pages := int64(int32(ins<<8)>>13)<<2 | int64(ins>>29&3)
			held[rd] = pc&^0xfff + uint64(pages<<12)
			continue
		}
		r, ok := memoryARM64(ins)
		if !ok {
			continue
		}
		r.at = pc
		base := held[rn]
		r.addr += base
		if base != 0 && r.addr >= lo && r.addr < hi {
			out = append(out, r)
		}
		switch {
		case r.how == address && base != 0:
			held[rd] = r.addr
		case r.how != stores:
			held[rd] = 0
		}
	}
	return out
}

// memoryARM64 decodes ADD with a constant, and loads and stores at a constant from a register. addr of what it returns is the constant.
func memoryARM64(ins uint32) (r ref, ok bool) {
	imm := uint64(ins >> 10 & 0xfff)
	switch ins & 0xffc00000 {
	case 0x91000000: // ADD Xd, Xn, #imm
		return ref{how: address, addr: imm}, true
	case 0xf9400000: // LDR Xt
		return ref{how: loads, size: 8, addr: imm * 8}, true
	case 0xb9400000: // LDR Wt
		return ref{how: loads, size: 4, addr: imm * 4}, true
	case 0x39400000: // LDRB
		return ref{how: loads, size: 1, addr: imm}, true
	case 0xf9000000: // STR Xt
		return ref{how: stores, size: 8, addr: imm * 8}, true
	case 0xb9000000: // STR Wt
		return ref{how: stores, size: 4, addr: imm * 4}, true
	case 0x39000000: // STRB
		return ref{how: stores, size: 1, addr: imm}, true
	}
	switch ins & 0xfffffc00 {
	case 0xc8dffc00: // LDAR Xt
		return ref{how: loads, size: 8}, true
	case 0x88dffc00: // LDAR Wt
		return ref{how: loads, size: 4}, true
	}
	return ref{}, false
}
