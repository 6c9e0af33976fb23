package capture

import (
	"bytes"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/sonde-io/sonde/profiles"
)

// columns are those of which a profile of the kind has one. What answers under a name may be something else.
var columns = map[string][]string{
	CPU: {"cpu", "samples"}, Heap: {"inuse_space"}, Allocs: {"alloc_space"}, Goroutine: {"goroutine", "goroutines"}, Mutex: {"delay", "contentions"}, Block: {"delay", "contentions"},
	ThreadCreate: {"threadcreate"}, Wall: {"wall"}, OffCPU: {"offcpu"},
}

// Limits bound what a capture may hold: a heap or goroutine profile of a large process is larger than what a push may bring.
var Limits = profiles.Limits{MaxBytes: 256 << 20, MaxSamples: 1_000_000}

// Validate returns what is wrong with data as a capture of that kind. What it accepts is safe to decode again.
func Validate(kind string, data []byte) error {
	switch {
	case len(data) == 0:
		return fmt.Errorf("the %s capture is empty", kind)
	case kind == Goroutines:
		return validText(data)
	case kind == Trace || kind == Flight:
		return validTrace(data)
	case !ValidKind(kind):
		return fmt.Errorf("%.64q is no kind of capture", kind)
	}
	p, err := profiles.Parse(data, Limits)
	if err != nil {
		return fmt.Errorf("%s capture: %w", kind, err)
	}
	if !slices.ContainsFunc(columns[kind], func(c string) bool { return p.Column(c) >= 0 }) {
		return fmt.Errorf("what was sent is no %s profile: it has none of the columns %q", kind, columns[kind])
	}
	return nil
}

// traceMagic starts an execution trace: "go 1.22 trace", filled up with zeros to 16 bytes.
var traceMagic = []byte("go 1.")

const traceHeader = 16

func validTrace(data []byte) error {
	version, ok := bytes.CutPrefix(data[:min(len(data), traceHeader)], traceMagic)
	if ok && len(data) >= traceHeader {
		version = bytes.TrimRight(version, "\x00")
		digits := bytes.TrimLeft(version, "0123456789")
		ok = len(digits) < len(version) && string(digits) == " trace"
	}
	if !ok {
		return fmt.Errorf("what was sent is no execution trace: it starts with %.32q", data[:min(len(data), traceHeader)])
	}
	return nil
}

func validText(data []byte) error {
	if !bytes.HasPrefix(data, []byte("goroutine ")) {
		return fmt.Errorf("what was sent are no goroutines: it starts with %.32q", data[:min(len(data), 32)])
	}
	// At a limit the text is cut anywhere; labels may hold any bytes that are text.
	if bytes.IndexByte(data, 0) >= 0 || !utf8.Valid(data[:min(len(data), 4096)/4*3]) && !utf8.Valid(data[:min(len(data), 4096)]) {
		return fmt.Errorf("what was sent are no goroutines: it is not text")
	}
	return nil
}

// sniff returns which of kinds data is, "" where none.
func sniff(kinds []string, data []byte) string {
	for _, k := range kinds {
		if Validate(k, data) == nil {
			return k
		}
	}
	return ""
}
