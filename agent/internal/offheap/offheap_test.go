package offheap

import (
	"errors"
	"testing"
)

func TestSlice(t *testing.T) {
	s, err := Make[[3]uint64](nil, 1000)
	if err != nil {
		t.Fatal(err)
	}
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
	if empty, err := Make[int](nil, 0); err != nil || empty.Len() != 0 {
		t.Errorf("Make(0) has %d values: %v", empty.Len(), err)
	}
}

func TestAccountIsNeverOverdrawn(t *testing.T) {
	acct := NewAccount(100)
	s, err := Make[uint64](acct, 10)
	if err != nil {
		t.Fatal(err)
	}
	var full *FullError
	if _, err := Make[uint64](acct, 3); !errors.As(err, &full) || *full != (FullError{24, 80, 100}) {
		t.Errorf("24 bytes in the 20 that are left: %v", err)
	}
	s.Release()
	s.Release()
	if now, peak := acct.Used(); now != 0 || peak != 80 {
		t.Errorf("after Release %d bytes are taken, at most %d were; want 0 and 80", now, peak)
	}
}

func TestPointersAreRefused(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a type with a string was accepted")
		}
	}()
	_, _ = Make[struct {
		n int
		s [2]string
	}](nil, 1)
}
