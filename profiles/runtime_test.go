package profiles

import (
	"bytes"
	"fmt"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"
)

var sink [][]byte

//go:noinline
func allocateForDelta(n int) {
	for range n {
		sink = append(sink, make([]byte, 64<<10))
	}
	sink = nil
}

// TestDeltaOfThisProcess takes real heap captures of the running test, with other work going on, and finds what was allocated between them.
func TestDeltaOfThisProcess(t *testing.T) {
	old := runtime.MemProfileRate
	runtime.MemProfileRate = 1 // every allocation, so that what is counted is exact
	defer func() { runtime.MemProfileRate = old }()
	d := NewDelta("heap")
	next := func() *Profile {
		t.Helper()
		runtime.GC() // the profile shows what was allocated up to the last but one cycle
		runtime.GC()
		var b bytes.Buffer
		if err := pprof.Lookup("heap").WriteTo(&b, 0); err != nil {
			t.Fatal(err)
		}
		p, err := Parse(b.Bytes(), Limits{})
		if err != nil {
			t.Fatal(err)
		}
		out, err := d.Next(p)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if out := next(); out != nil {
		t.Fatalf("the baseline gave %d samples", len(out.Samples))
	}
	for _, n := range []int{5, 0, 12} {
		allocateForDelta(n)
		out := next()
		b := NewBuilder(Type{Profile: "heap", Sample: "alloc_space"}, 0, 1)
		if err := b.Add(out, out.Column("alloc_space"), 1); err != nil {
			t.Fatal(err)
		}
		var got int64
		for _, row := range NewTop(b.Stacks(), nil, TopOptions{Limit: -1}).Rows {
			if strings.HasSuffix(row.Function, ".allocateForDelta") {
				got = row.Total
			}
		}
		// Beside the blocks there is the slice that holds them.
		if want := int64(n) * 64 << 10; got < want || got > want+4096 {
			t.Errorf("%d blocks of 64 KiB: the interval shows %d bytes", n, got)
		}
	}
}

// TestLargeGoroutineProfilesAreWithinTheDefaults: 100,000 goroutines, every one with its own stack and labels, and 200,000 locations.
func TestLargeGoroutineProfilesAreWithinTheDefaults(t *testing.T) {
	p := &Profile{SampleTypes: []ValueType{{"goroutine", "count"}}, Functions: []Function{{Name: "main.handle", SystemName: "main.handle", File: "/src/main.go", StartLine: 10}}}
	const goroutines, locations, depth = 100_000, 200_000, 30
	for i := range locations {
		p.Lines = append(p.Lines, Line{Function: 0, Line: int64(i)})
		p.Locations = append(p.Locations, Location{Address: uint64(i + 1), Lines: Span{uint32(i), uint32(i + 1)}})
	}
	for i := range goroutines {
		s := Sample{Locations: Span{Lo: uint32(len(p.LocationIDs))}, Labels: Span{uint32(len(p.Labels)), uint32(len(p.Labels) + 3)}}
		for j := range depth {
			p.LocationIDs = append(p.LocationIDs, uint32((i*2+j)%locations))
		}
		s.Locations.Hi = uint32(len(p.LocationIDs))
		p.Labels = append(p.Labels, SampleLabel{Key: "request", Str: fmt.Sprintf("r%d", i)}, SampleLabel{Key: "span_id", Str: fmt.Sprintf("%016x", i)}, SampleLabel{Key: "trace_id", Str: fmt.Sprintf("%032x", i)})
		p.Samples = append(p.Samples, s)
		p.Values = append(p.Values, 1)
	}
	var b bytes.Buffer
	if err := WriteProfile(&b, p); err != nil {
		t.Fatal(err)
	}
	got, err := Parse(b.Bytes(), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Samples) != goroutines || len(got.Locations) != locations || len(got.Labels) != 3*goroutines {
		t.Errorf("%d samples, %d locations, %d labels", len(got.Samples), len(got.Locations), len(got.Labels))
	}
	s := NewSymbols()
	s.AddProfile(got, nil)
	if len(s.Stacks) != goroutines+1 {
		t.Errorf("%d stacks", len(s.Stacks))
	}
}

// TestDecodeInParallel: Decode's shared scratch is nobody else's, which -race and the comparison show.
func TestDecodeInParallel(t *testing.T) {
	files, data := readCorpus(t, 60)
	want := make([]string, len(data))
	for i := range data {
		want[i] = summary(t, data[i])
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range data {
				if got := summary(t, data[i]); got != want[i] {
					t.Errorf("%s: %s, want %s", files[i].Path, got, want[i])
				}
				if _, err := Parse(data[i], Limits{MaxStrings: 3}); err == nil {
					t.Errorf("%s: more than 3 strings are accepted at a limit of 3", files[i].Path)
				}
			}
		})
	}
	wg.Wait()
}

func summary(t *testing.T, data []byte) string {
	var d Decoder
	p, err := d.Decode(data, Limits{})
	if err != nil {
		t.Error(err)
		return ""
	}
	var sum int64
	for _, v := range p.Values {
		sum += v
	}
	names := 0
	for _, f := range p.Functions {
		names += len(f.Name) + len(f.File)
	}
	return fmt.Sprint(len(p.Samples), len(p.Locations), sum, names, p.SampleTypes)
}
