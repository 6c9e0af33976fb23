package profiles

import (
	"encoding/json"
	"testing"
)

// TestFlameJSON: the writer of flame graphs writes what the general encoder writes.
func TestFlameJSON(t *testing.T) {
	total := int64(-7)
	for name, f := range map[string]*Flame{
		"empty": {},
		"plain": {Type: TypeDesc{ID: "cpu:cpu", Unit: "nanoseconds"}, From: 1, To: 1 << 60, Total: 99, Names: []string{"total", "main.main"}, Kinds: []string{"", "own"},
			Files: []string{"", "/src/main.go"}, Name: []uint32{0, 1}, Depth: []uint32{0, 12}, Value: []int64{99, -10}, Self: []int64{0, 9}, Nodes: 2, Dropped: 3, Stats: MergeStats{Profiles: 2, Saturated: true}},
		"diff":  {BaseFrom: 5, BaseTo: 6, BaseTotal: &total, Names: []string{}, BaseValue: []int64{1 << 62, -1 << 63}, BaseSelf: []int64{0, 10}, BaseStats: &MergeStats{Last: 4}, Scale: &Scale{Normalize: NormalizeShare, Per: "<all>", Now: 0.001, Base: 1e-9}},
		"signs": {Names: []string{`a"b`, "c\\d", "main.Map[<go.shape.int>]&", "tab\there", "ünïcode\u2028", "bad\xffutf8", "del\x7f"}},
	} {
		want, err := json.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		if got := f.AppendJSON([]byte("x")); string(got) != "x"+string(want) {
			t.Errorf("%s: wrote\n%s\nwant\n%s", name, got[1:], want)
		}
	}
}
