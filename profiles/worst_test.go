package profiles

import (
	"bytes"
	"runtime"
	"testing"
)

// worstProfiles are uncompressed profiles that make the most memory of the fewest bytes, each until a default limit or 64 MiB ends it.
func worstProfiles() map[string]func() []byte {
	repeat := func(unit []byte) func() []byte {
		return func() []byte {
			return append(smallest(raw{}.num(1, 1).num(2, 5)), bytes.Repeat(unit, (63<<20)/len(unit))...)
		}
	}
	deep := raw{}.bytes(2, raw{}.bytes(1, bytes.Repeat([]byte{1}, 1024)).num(2, 1))
	labels := raw{}.num(1, 1).num(2, 1)
	for range 62 {
		labels = labels.bytes(3, raw{}.num(1, 1).num(2, 2))
	}
	wide := func() []byte {
		b := make([]byte, 0, 63<<20)
		for id := uint64(1) << 40; len(b) < 62<<20; id++ {
			b = raw(b).bytes(2, raw{}.num(1, id))
		}
		return b
	}
	return map[string]func() []byte{
		"samples":   repeat(raw{}.bytes(2, raw{}.num(1, 1).num(2, 1))),
		"frames":    repeat(deep),
		"labels":    repeat(raw{}.bytes(2, labels)),
		"strings":   repeat(raw{}.bytes(6, nil)),
		"functions": repeat(raw{}.bytes(5, raw{}.num(1, 1))),
		"locations": repeat(raw{}.bytes(4, nil)),
		"lines":     repeat(raw{}.bytes(4, bytes.Repeat(raw{}.bytes(4, nil), 1000))),
		"ids":       wide,
		"columns":   repeat(raw{}.bytes(2, raw{}.bytes(2, make([]byte, 16)))),
	}
}

// TestWorstProfilesStayWithinMemory decodes each and looks at all that was allocated meanwhile: growing arrays count with every step, so what is held at a time is less.
func TestWorstProfilesStayWithinMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("takes hundreds of megabytes")
	}
	const most = 512 << 20
	for name, build := range worstProfiles() {
		data := build()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := new(Profile).Decode(data, Limits{})
		runtime.ReadMemStats(&after)
		allocated := after.TotalAlloc - before.TotalAlloc
		t.Logf("%s: %d MiB of %d MiB: %v", name, allocated>>20, len(data)>>20, err)
		if err == nil || allocated > most {
			t.Errorf("%s: %d MiB allocated, %v", name, allocated>>20, err)
		}
	}
}
