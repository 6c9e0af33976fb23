package profiles

import (
	"errors"
	"os"
	"testing"

	"github.com/google/pprof/profile"

	"github.com/sonde-io/sonde/internal/testcorpus"
)

// seedProfiles are small real profiles where the corpus is at hand, and always those of testdata's shapes.
func seedProfiles(f *testing.F) {
	ok := raw{}.num(1, 1).num(2, 5)
	f.Add([]byte(smallest(ok)))
	f.Add([]byte(smallest(ok.bytes(3, raw{}.num(1, 1).num(2, 2)).bytes(3, raw{}.num(1, 2).num(3, 16).num(4, 2)))))
	f.Add([]byte(smallest(ok, raw{}.bytes(3, raw{}.num(1, 1).num(2, 4096).num(3, 8192).num(5, 3).num(7, 1)), raw{}.bytes(4, raw{}.num(1, 9).num(2, 1).num(3, 5000)), raw{}.bytes(2, raw{}.num(1, 9).num(2, 1)))))
	f.Add(AppendPprof(nil, testStacks("cpu", before)))
	if os.Getenv(testcorpus.Env) == "" {
		return // the fuzzer's workers run elsewhere: only an explicit folder is read
	}
	for i, file := range testcorpus.Files(f) {
		if i%200 == 0 {
			data, err := os.ReadFile(file.Path)
			if err != nil {
				f.Fatal(err)
			}
			out, err := Gunzip(nil, data, 1<<20)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(out)
		}
	}
}

// FuzzDecode: google/pprof and we accept the same bytes, limits apart, and read the same from them; what was accepted can be interned, viewed and written.
func FuzzDecode(f *testing.F) {
	seedProfiles(f)
	lim := Limits{MaxBytes: 1 << 20, MaxSamples: 1000, MaxLocations: 1000, MaxFunctions: 1000, MaxLines: 1000, MaxStrings: 1000}
	f.Fuzz(func(t *testing.T, data []byte) {
		var p Profile
		err := p.Decode(data, lim)
		ref, refErr := profile.ParseUncompressed(data)
		if refErr == nil {
			refErr = ref.CheckValid()
		}
		var le *LimitError
		if errors.As(err, &le) {
			return
		}
		if (err == nil) != (refErr == nil) {
			t.Fatalf("we say %v, google/pprof says %v", err, refErr)
		}
		if err != nil {
			var fe *FormatError
			if !errors.As(err, &fe) {
				t.Fatalf("%T is neither a FormatError nor a LimitError", err)
			}
			if len(p.Samples)+len(p.Functions)+len(p.Values) != 0 {
				t.Fatal("a refused profile left something behind")
			}
			return
		}
		if diff := diffGoogle(&p, ref); diff != "" {
			t.Fatal(diff)
		}
		useEverything(t, &p)
	})
}

func useEverything(t *testing.T, p *Profile) {
	again, err := Parse(AppendProfile(nil, p), Limits{})
	if err != nil {
		t.Fatalf("what we write we do not read: %v", err)
	}
	s := NewSymbols()
	ids, want := s.AddProfile(p, nil), NewSymbols().AddProfile(again, nil)
	for i, id := range ids {
		if id != want[i] || s.describe(id) != describeSample(p, i) {
			t.Fatalf("sample %d became stack %d and after writing %d:\n%s\nwant\n%s", i, id, want[i], s.describe(id), describeSample(p, i))
		}
	}
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	if p.Columns() == 0 {
		return
	}
	b := NewBuilder(Type{Profile: "cpu", Sample: p.SampleTypes[0].Type}, 0, 1000)
	if err := b.Add(p, 0, 1000); err != nil {
		t.Fatal(err)
	}
	stacks := b.Stacks()
	f := NewFlame(stacks, stacks, FlameOptions{MaxNodes: 20})
	if f.Nodes > 20 {
		t.Fatalf("%d nodes of at most 20", f.Nodes)
	}
	NewTop(stacks, nil, TopOptions{})
	if _, err := Parse(AppendPprof(nil, stacks), Limits{}); err != nil {
		t.Fatalf("what we merged and wrote we do not read: %v", err)
	}
}

// FuzzDelta: two captures in a row never panic and never give a negative value in a cumulative column whose values were none.
func FuzzDelta(f *testing.F) {
	small := []byte(smallest(raw{}.num(1, 1).num(2, 5)))
	f.Add(small, []byte(smallest(raw{}.num(1, 1).num(2, 9))))
	f.Add(small, small)
	f.Add(AppendPprof(nil, testStacks("cpu", before)), AppendPprof(nil, testStacks("cpu", after)))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		d := NewDelta("heap")
		kept := false
		for capture, data := range [][]byte{first, second} {
			p, err := Parse(data, Limits{MaxBytes: 1 << 20})
			if err != nil {
				return
			}
			for _, v := range p.Values {
				if v < 0 || v > 1<<40 {
					return
				}
			}
			out, err := d.Next(p)
			if (out == nil) == (err == nil) && kept {
				t.Fatalf("capture %d gave %v, %v", capture, out, err)
			}
			kept = kept || out == nil && err == nil // a capture without cumulative columns is passed on or refused, and the next one is the first
			if out == nil {
				continue
			}
			for _, v := range out.Values {
				if v < 0 {
					t.Fatalf("a value of %d", v)
				}
			}
		}
	})
}

// FuzzGunzip: no input panics or gives more than the limit.
func FuzzGunzip(f *testing.F) {
	f.Add([]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 1, 0, 0, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{0x1f, 0x8b})
	f.Fuzz(func(t *testing.T, data []byte) {
		out, err := Gunzip(nil, data, 1000)
		var fe *FormatError
		var le *LimitError
		if err == nil && len(out) > 1000 || cap(out) > 4096 || err != nil && !errors.As(err, &fe) && !errors.As(err, &le) {
			t.Fatalf("%d bytes, %d of memory, %v", len(out), cap(out), err)
		}
	})
}
