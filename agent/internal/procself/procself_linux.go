package procself

import (
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"strconv"
	"syscall"
)

// Read returns what is known now.
func Read() Reading {
	r := unknown()
	var buf [1024]byte
	if stat, err := readFile("/proc/self/stat", buf[:]); err == nil {
		r.VirtualBytes, r.ResidentBytes = memory(stat, float64(os.Getpagesize()))
	}
	r.OpenFDs = openFDs()
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) == nil {
		r.MaxFDs = float64(limit.Cur)
	}
	return r
}

// readFile reads the beginning of a file into buf.
func readFile(name string, buf []byte) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() // it was only read
	n, err := f.Read(buf)
	return buf[:n], err
}

// memory reads fields 23 and 24 of /proc/PID/stat. The command name before them can hold anything, so counting starts at its last parenthesis.
func memory(stat []byte, page float64) (virtual, resident float64) {
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 22 {
		return math.NaN(), math.NaN()
	}
	virtual, err := strconv.ParseFloat(string(fields[20]), 64)
	if err != nil {
		virtual = math.NaN()
	}
	pages, err := strconv.ParseFloat(string(fields[21]), 64)
	if err != nil {
		pages = math.NaN()
	}
	return virtual, pages * page
}

// openFDs asks for the size of the folder, which is their number since Linux 6.2, and counts its entries where that is 0.
func openFDs() float64 {
	const dir = "/proc/self/fd"
	var st syscall.Stat_t
	if syscall.Stat(dir, &st) == nil && st.Size > 0 {
		return float64(st.Size)
	}
	return countFDs(dir)
}

// maxCount is the most descriptors that are counted one by one, which costs some 20 ms.
const maxCount = 100_000

// countFDs counts the entries of a folder but for itself, without a string for each. More than maxCount are not counted to their end.
func countFDs(dir string) float64 {
	f, err := os.Open(dir)
	if err != nil {
		return math.NaN()
	}
	defer f.Close() // it was only read
	buf := make([]byte, 8<<10)
	entries := 0
	for entries < maxCount {
		n, err := syscall.ReadDirent(int(f.Fd()), buf)
		if err != nil {
			return math.NaN()
		}
		if n == 0 {
			return float64(max(entries-3, 0)) // ".", ".." and f
		}
		entries += dirents(buf[:n])
	}
	return math.NaN()
}

// dirents counts the records of linux_dirent64 in buf; the length of each is at its offset 16.
func dirents(buf []byte) (n int) {
	for len(buf) >= 18 {
		size := int(binary.NativeEndian.Uint16(buf[16:]))
		if size < 18 || size > len(buf) {
			return n
		}
		buf = buf[size:]
		n++
	}
	return n
}
