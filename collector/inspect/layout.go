package inspect

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrVersion says that a process was built with a Go version whose structures this package does not know. The message names the version.
var ErrVersion = errors.New("structures of an unknown Go version")

// layout says where the fields of the runtime's structures are, in bytes, for the Go versions that share them. It is the same on amd64 and arm64.
// A test reads the same from the debug information of binaries that each version made.
type layout struct {
	minor uint16 // the first version 1.minor that it holds for
	g     gLayout
	// Of a profiler's bucket and its records the layout has not changed since Go 1.4: see buckets.go.
	labels labelForm
	reason []string // what g.waitreason counts
}

// gLayout is runtime.g as far as it is read. The first words are the bounds of the stack in all versions.
type gLayout struct {
	schedSP, schedPC, schedG, schedBP uint16 // of runtime.gobuf, from the start of g
	m                                 uint16
	syscallSP, syscallPC              uint16
	status, goid, waitSince           uint16
	waitReason                        uint16
	trackingSeq                       uint16 // a byte that counts each end of running
	lockedM, gopc, startPC, labels    uint16
	parentGoid                        uint16 // 0: there is none
	size                              uint16 // bytes that hold all of these
}

// labelForm is how the labels of a goroutine are kept.
type labelForm uint8

const (
	labelMap  labelForm = iota // *map[string]string, a hash table of buckets
	labelList                  // *struct{ []struct{ key, value string } }
)

// layouts are the known ones, the newest first.
var layouts = []layout{
	{minor: 26, g: g126, labels: labelList, reason: reasons126},
	{minor: 25, g: g125, labels: labelList, reason: reasons125},
	{minor: 24, g: g123, labels: labelList, reason: reasons124},
	{minor: 23, g: g123, labels: labelMap, reason: reasons123},
	{minor: 22, g: g121, labels: labelMap, reason: reasons122},
	{minor: 21, g: g121.with(188), labels: labelMap, reason: reasons120},
	{minor: 20, g: g118, labels: labelMap, reason: reasons120},
	{minor: 18, g: g118, labels: labelMap, reason: reasons118},
}

// newestMinor is the last Go version 1.newestMinor that is known.
const newestMinor = 26

var (
	g118 = gLayout{
		schedSP: 56, schedPC: 64, schedG: 72, schedBP: 104, m: 48, syscallSP: 112, syscallPC: 120, status: 144, goid: 152, waitSince: 168, waitReason: 176,
		trackingSeq: 189, lockedM: 232, gopc: 296, startPC: 312, labels: 360, size: 368,
	}
	g121 = gLayout{
		schedSP: 56, schedPC: 64, schedG: 72, schedBP: 104, m: 48, syscallSP: 112, syscallPC: 120, status: 144, goid: 152, waitSince: 168, waitReason: 176,
		trackingSeq: 191, lockedM: 208, parentGoid: 272, gopc: 280, startPC: 296, labels: 344, size: 352,
	}
	g123 = gLayout{
		schedSP: 56, schedPC: 64, schedG: 72, schedBP: 104, m: 48, syscallSP: 112, syscallPC: 120, status: 152, goid: 160, waitSince: 176, waitReason: 184,
		trackingSeq: 199, lockedM: 216, parentGoid: 280, gopc: 288, startPC: 304, labels: 352, size: 360,
	}
	g125 = gLayout{
		schedSP: 56, schedPC: 64, schedG: 72, schedBP: 96, m: 48, syscallSP: 104, syscallPC: 112, status: 144, goid: 152, waitSince: 168, waitReason: 176,
		trackingSeq: 191, lockedM: 208, parentGoid: 272, gopc: 280, startPC: 296, labels: 344, size: 352,
	}
	g126 = gLayout{
		schedSP: 56, schedPC: 64, schedG: 72, schedBP: 96, m: 48, syscallSP: 104, syscallPC: 112, status: 144, goid: 152, waitSince: 168, waitReason: 176,
		trackingSeq: 191, lockedM: 208, parentGoid: 280, gopc: 288, startPC: 304, labels: 352, size: 360,
	}
)

// with returns l with another place of trackingSeq.
func (l gLayout) with(trackingSeq uint16) gLayout {
	l.trackingSeq = trackingSeq
	return l
}

// layoutOf returns the layout of a Go version as binaries name it. Only releases are known: "go1.26.8", also with what vendors and experiments append
// ("go1.26.8 X:nodwarf5", "go1.22.5-1", "go1.22.5 (Red Hat …)"). Of a development version nobody can tell what its structures are.
func layoutOf(version string) (*layout, error) {
	refuse := func() (*layout, error) {
		if version == "" {
			version = "the binary does not say which"
		}
		return nil, fmt.Errorf("%w: %s; known are the releases of go1.%d to go1.%d", ErrVersion, version, layouts[len(layouts)-1].minor, newestMinor)
	}
	rest, ok := strings.CutPrefix(version, "go1.")
	if !ok {
		return refuse()
	}
	if i := strings.IndexAny(rest, " -"); i >= 0 {
		if strings.HasPrefix(rest[i:], "-devel") {
			return refuse()
		}
		rest = rest[:i]
	}
	first, patch, more := strings.Cut(rest, ".")
	minor, err := strconv.ParseUint(first, 10, 16)
	if _, perr := strconv.ParseUint(patch, 10, 16); err != nil || more && perr != nil || minor > newestMinor {
		return refuse() // go1.27, go1.26rc1
	}
	for i := range layouts {
		if uint16(minor) >= layouts[i].minor {
			return &layouts[i], nil
		}
	}
	return refuse()
}
