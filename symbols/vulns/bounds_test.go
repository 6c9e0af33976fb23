package vulns

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// entryJSON is an entry of module example.com/m whose details have n bytes.
func entryJSON(id string, n int) string {
	return fmt.Sprintf(`{"id":%q,"details":%q,"affected":[{"package":{"name":"example.com/m"},"ranges":[{"type":"SEMVER","events":[{"introduced":"0"}]}]}]}`, id, strings.Repeat("x", n))
}

// TestMemory has a small zip file whose entries are large.
func TestMemory(t *testing.T) {
	entry := entryJSON("GO-1", maxEntryBytes-1000)
	n := 0
	for _, index := range []bool{true, false} {
		if !index && testing.Short() {
			continue
		}
		if index {
			n = 2
		} else {
			n = maxMemoryBytes/len(entry) + 1
		}
		var b bytes.Buffer
		z := zip.NewWriter(&b)
		add := func(name, text string) {
			w, err := z.Create(name)
			if err == nil {
				_, err = w.Write([]byte(text))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if index {
			ids := make([]string, n)
			for i := range ids {
				ids[i] = fmt.Sprintf(`{"id":"GO-%d"}`, i)
			}
			add(modulesIndex, `[{"path":"example.com/m","vulns":[`+strings.Join(ids, ",")+`]}]`)
		}
		for i := range n {
			add(fmt.Sprintf("ID/GO-%d.json", i), strings.Replace(entry, "GO-1", fmt.Sprintf("GO-%d", i), 1))
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		d, err := OpenZip(bytes.NewReader(b.Bytes()), int64(b.Len()))
		if err == nil {
			d.memory = maxMemoryBytes - maxEntryBytes // there is room for one
			_, err = d.Module("example.com/m")
		}
		if !errors.Is(err, ErrTooLarge) {
			t.Errorf("index %v: %d entries in %d bytes: error %v", index, n, b.Len(), err)
		}
	}
}

func TestManyItems(t *testing.T) {
	text := strings.Replace(entryJSON("GO-1", 1), `"events":[`, `"events":[`+strings.Repeat("{},", maxSymbols), 1)
	if _, err := ParseEntry([]byte(text)); err == nil || !strings.Contains(err.Error(), "ranges") {
		t.Errorf("error %v", err)
	}
}
