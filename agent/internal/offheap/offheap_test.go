package offheap

import "testing"

func TestSlice(t *testing.T) {
	s := Make[[3]uint64](1000)
	if s.Len() != 1000 {
		t.Fatalf("length %d", s.Len())
	}
	for i, v := range s.All() {
		if v != [3]uint64{} {
			t.Fatalf("value %d is not zero", i)
		}
		s.All()[i][2] = uint64(i)
	}
	if got := s.All()[999][2]; got != 999 {
		t.Errorf("read %d back, want 999", got)
	}
	s.Release()
	s.Release()
	if s.Len() != 0 {
		t.Error("not empty after Release")
	}
	if empty := Make[int](0); empty.Len() != 0 {
		t.Error("Make(0) is not empty")
	}
}

func TestPointersAreRefused(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a type with a string was accepted")
		}
	}()
	Make[struct {
		n int
		s [2]string
	}](1)
}
