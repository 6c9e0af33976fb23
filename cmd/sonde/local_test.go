package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/pprof/profile"

	"github.com/sonde-io/sonde/profiles"
)

// writeProfile writes a heap profile in which main.work holds inuse bytes.
func writeProfile(t *testing.T, name string, inuse int64) string {
	t.Helper()
	f := &profile.Function{ID: 1, Name: "main.work", Filename: "main.go"}
	g := &profile.Function{ID: 2, Name: "main.main", Filename: "main.go"}
	leaf := &profile.Location{ID: 1, Address: 0x1000, Line: []profile.Line{{Function: f, Line: 7}}}
	root := &profile.Location{ID: 2, Address: 0x2000, Line: []profile.Line{{Function: g, Line: 9}}}
	p := &profile.Profile{
		SampleType: []*profile.ValueType{{Type: "alloc_objects", Unit: "count"}, {Type: "alloc_space", Unit: "bytes"},
			{Type: "inuse_objects", Unit: "count"}, {Type: "inuse_space", Unit: "bytes"}},
		Sample:   []*profile.Sample{{Location: []*profile.Location{leaf, root}, Value: []int64{7, 70, 1, inuse}}},
		Location: []*profile.Location{leaf, root},
		Function: []*profile.Function{f, g},
	}
	file := filepath.Join(t.TempDir(), name)
	w, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := p.Write(w); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestLocalFiles(t *testing.T) {
	before, after := writeProfile(t, "before.pb.gz", 1<<20), writeProfile(t, "after.pb.gz", 3<<20)
	tests := []struct {
		name string
		args []string
		want []string
	}{
		{"the profile's own main column", []string{"top", after}, []string{"heap:inuse_space: 3.00MiB in 1 profile\n", "100.00%  main.work"}},
		{"another column", []string{"top", "--type", "heap:alloc_objects", after}, []string{"heap:alloc_objects: 7 in 1 profile"}},
		{"an alias", []string{"top", "--type", "allocs", after}, []string{"heap:alloc_space: 70B"}},
		{"flame", []string{"flame", after}, []string{"100.00%   3.00MiB    main.main\n", "  main.work\n"}},
		{"diff", []string{"diff", before, after}, []string{"3.00MiB, base 1.00MiB, change +2.00MiB (+200.0%)", "+2.00MiB  main.work"}},
		{"diff by share", []string{"diff", "--normalize", "share", before, after}, []string{"(scaled by 3), change 0B"}},
		{"by line", []string{"top", "--frames", "line", after}, []string{"100.00%  main.work:7", "main.main:9"}},
		{"callers", []string{"callers", "main.work", after}, []string{"main.work: self 3.00MiB (100.00% of all), total 3.00MiB", "called by\n100.00%   3.00MiB    main.main\n", "calls\n  nothing\n"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := sonde(t, nil, "", tt.args...)
			if r.code != 0 {
				t.Fatalf("exit %d: %s", r.code, r.stderr)
			}
			for _, w := range tt.want {
				if !strings.Contains(r.stdout, w) {
					t.Errorf("no %q in\n%s", w, r.stdout)
				}
			}
		})
	}
	data, err := os.ReadFile(after)
	if err != nil {
		t.Fatal(err)
	}
	r := sonde(t, nil, string(data), "flame", "-o", "json", "-")
	var f profiles.Flame
	if err := json.Unmarshal([]byte(r.stdout), &f); err != nil || f.Total != 3<<20 || validFlame(&f) != nil {
		t.Errorf("flame of standard input: %v, %s", err, r.stdout)
	}
	if r := sonde(t, nil, "", "top", "--type", "cpu", after); r.code != exitFailed || !strings.Contains(r.stderr, "hint: it has alloc_objects, alloc_space") {
		t.Errorf("a column that is not there: %+v", r)
	}
	if r := sonde(t, nil, "no profile", "top", "-"); r.code != exitFailed || !strings.Contains(r.stderr, "error: read -:") {
		t.Errorf("not a profile: %+v", r)
	}
}
