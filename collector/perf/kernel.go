package perf

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"slices"
	"strconv"
)

// maxKernelSymbols bounds the functions of the kernel and its modules; a distribution's kernel has some 120,000.
const maxKernelSymbols = 400_000

// errHidden says that the kernel shows no addresses of its functions.
var errHidden = errors.New("the kernel hides the addresses of its functions (kernel.kptr_restrict): CAP_SYSLOG is missing")

// kernelNames names addresses of the kernel.
type kernelNames struct {
	addrs []uint64
	at    []uint32 // where in text the name begins
	text  []byte   // names, each ended by a zero byte
}

// readKernelNames reads /proc/kallsyms.
func readKernelNames(r io.Reader) (*kernelNames, error) {
	type symbol struct {
		addr uint64
		at   uint32
	}
	var all []symbol
	k := &kernelNames{}
	lines := bufio.NewScanner(r)
	for lines.Scan() && len(all) < maxKernelSymbols {
		fields := bytes.Fields(lines.Bytes())
		if len(fields) < 3 || len(fields[1]) != 1 || !bytes.ContainsAny(fields[1], "tTwW") {
			continue
		}
		addr, err := strconv.ParseUint(string(fields[0]), 16, 64)
		if err != nil || addr == 0 {
			continue
		}
		all = append(all, symbol{addr, uint32(len(k.text))})
		k.text = append(append(k.text, fields[2]...), 0)
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, errHidden
	}
	slices.SortFunc(all, func(a, b symbol) int {
		if a.addr < b.addr {
			return -1
		}
		return 1
	})
	k.addrs, k.at = make([]uint64, len(all)), make([]uint32, len(all))
	for i, s := range all {
		k.addrs[i], k.at[i] = s.addr, s.at
	}
	return k, nil
}

// name returns the kernel's function at pc.
func (k *kernelNames) name(pc uint64) string {
	if k == nil {
		return "[kernel]"
	}
	i, found := slices.BinarySearch(k.addrs, pc)
	if !found {
		i--
	}
	if i < 0 {
		return "[kernel]"
	}
	name, _, _ := bytes.Cut(k.text[k.at[i]:], []byte{0})
	return string(name)
}
