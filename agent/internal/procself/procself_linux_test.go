package procself

import (
	"math"
	"os"
	"testing"
)

func TestRead(t *testing.T) {
	before := Read()
	if before.ResidentBytes < 1<<20 || before.VirtualBytes < before.ResidentBytes || before.OpenFDs < 3 || before.MaxFDs < before.OpenFDs {
		t.Fatalf("got %+v", before)
	}
	var files []*os.File
	defer func() {
		for _, f := range files {
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		}
	}()
	for range 50 {
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	if now := Read().OpenFDs; now != before.OpenFDs+50 {
		t.Errorf("%v open files, want %v", now, before.OpenFDs+50)
	}
	if asked, counted := openFDs(), countFDs("/proc/self/fd"); asked != counted {
		t.Errorf("the folder's size says %v, its entries are %v", asked, counted)
	}
}

func TestMemory(t *testing.T) {
	tail := " S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 1000 7 0"
	for name, tc := range map[string]struct {
		stat              string
		virtual, resident float64
	}{
		"plain":           {"1 (cart)" + tail, 1000, 7 * 4096},
		"any name":        {"1 (a) b 1 2 (c))" + tail, 1000, 7 * 4096},
		"too short":       {"1 (cart) S 1", math.NaN(), math.NaN()},
		"nothing":         {"", math.NaN(), math.NaN()},
		"no numbers":      {"1 (cart) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 x y 0", math.NaN(), math.NaN()},
		"no end of names": {"1 cart S", math.NaN(), math.NaN()},
	} {
		virtual, resident := memory([]byte(tc.stat), 4096)
		if !same(virtual, tc.virtual) || !same(resident, tc.resident) {
			t.Errorf("%s: got %v and %v, want %v and %v", name, virtual, resident, tc.virtual, tc.resident)
		}
	}
}

func same(a, b float64) bool { return a == b || math.IsNaN(a) && math.IsNaN(b) }

func FuzzMemory(f *testing.F) {
	f.Add([]byte("1 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 1000 7 0"), []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 24, 0, 4, '.', 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, stat, entries []byte) {
		memory(stat, 4096)
		if n := dirents(entries); n > len(entries)/18 {
			t.Errorf("%d entries in %d bytes", n, len(entries))
		}
	})
}
