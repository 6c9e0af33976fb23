package inspect

import (
	"errors"
	"math"
	"testing"
)

func TestGoroutinesAreThoseOfTheProcess(t *testing.T) {
	eachTarget(t, func(t *testing.T, version string, flags []string) {
		p := start(t, version, flags)
		p.do("serve", "goroutines")
		v := attach(t, p.pid)
		minor, n := v.im.layout.minor, depth(v.im.layout.minor)
		serving := []string{"net/http.", "main.main:"} // these answer questions
		agree(t, func() string {
			got, st, err := v.goroutineProfile()
			if err != nil {
				t.Fatal(err)
			}
			if st.own < 30 || st.unreadable > 0 {
				t.Errorf("%+v", st)
			}
			gotStacks, wantStacks := without(stacks(got, n), serving...), without(stacks(p.profile("goroutine"), n), serving...)
			delete(wantStacks, "") // one that has just been made for the question
			return difference(withoutWrappersOf(minor, gotStacks), withoutWrappersOf(minor, wantStacks), exactly)
		})
	})
}

func TestHeapIsThatOfTheProcess(t *testing.T) {
	eachTarget(t, func(t *testing.T, version string, flags []string) {
		p := start(t, version, flags, "TARGET_RATE=4096")
		p.do("serve", "allocate")
		v := attach(t, p.pid)
		n := depth(v.im.layout.minor)
		agree(t, func() string {
			want := p.profile("heap?gc=1")
			got, oneCycle, err := v.heapProfile()
			if err != nil {
				t.Fatal(err)
			}
			own := of(stacks(got, n), "main.")
			if len(own) < 10 {
				t.Errorf("%d stacks of the program's own", len(own))
			}
			if !oneCycle {
				return "the heap was not read as of one garbage collection"
			}
			return difference(own, of(stacks(want, n), "main."), exactly)
		})
	})
}

func TestContentionsAreThoseOfTheProcess(t *testing.T) {
	// The counter's frequency is measured by each process for itself.
	near := func(got, want []int64) bool {
		return got[0] == want[0] && math.Abs(float64(got[1]-want[1])) <= 0.02*float64(want[1])+1
	}
	eachTarget(t, func(t *testing.T, version string, flags []string) {
		p := start(t, version, flags)
		v := attach(t, p.pid)
		for _, kind := range []bucketKind{mutexBucket, blockBucket} {
			var no *offError
			if _, err := v.contentionProfile(kind); !errors.As(err, &no) {
				t.Errorf("before profiles were turned on: %v", err)
			}
		}
		p.do("serve", "mutex 3", "block 1", "contend", "block 0")
		for kind, name := range map[bucketKind]string{mutexBucket: "mutex", blockBucket: "block"} {
			got, err := v.contentionProfile(kind)
			if err != nil {
				t.Fatal(err)
			}
			n := depth(v.im.layout.minor)
			own := of(stacks(got, n), "main.")
			if diff := difference(own, of(stacks(p.profile(name), n), "main."), near); diff != "" {
				t.Error(diff)
			}
			if len(own) < 2 {
				t.Errorf("%d stacks of the program's own in the %s profile", len(own), name)
			}
		}
	})
}
