package capture

import (
	"bytes"
	"testing"

	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles"
)

// FuzzValidate: whatever is delivered is refused or safe to keep, and says the same when it is looked at again.
func FuzzValidate(f *testing.F) {
	for i, k := range Kinds {
		if c := columns[k]; c != nil {
			raw := profiles.AppendProfile(nil, &profiles.Profile{SampleTypes: []profiles.ValueType{{Type: c[0], Unit: "count"}}, Samples: make([]profiles.Sample, 1), Values: []int64{7}})
			f.Add(uint8(i), raw)
		}
	}
	f.Add(uint8(9), []byte("goroutine 1 [running]:\n"))
	f.Add(uint8(10), []byte("go 1.22 trace\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, kind uint8, data []byte) {
		k := Kinds[int(kind)%len(Kinds)]
		err := Validate(k, data)
		if again := Validate(k, bytes.Clone(data)); (err == nil) != (again == nil) {
			t.Errorf("%s: %v, then %v", k, err, again)
		}
		sniff(Kinds[:4], data)
	})
}

// FuzzFile: a blob is read back as it was written, or refused.
func FuzzFile(f *testing.F) {
	c := catalog.Capture{ID: "x", Kind: Heap, State: catalog.CaptureDone, Size: 3}
	whole, err := encodeFile(c, []byte("abc"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[2:])
	f.Add([]byte(fileMagic))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, _, err := readMeta(bytes.NewReader(data), folder+"x", int64(len(data)))
		if err != nil {
			return
		}
		if got.ID != "x" || got.Size < 0 || got.Size > int64(len(data)) {
			t.Errorf("read %+v of %d bytes", got, len(data))
		}
	})
}
