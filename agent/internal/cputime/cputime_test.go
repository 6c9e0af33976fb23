package cputime

import (
	"runtime"
	"testing"
	"time"
)

func TestClocksAdvanceWithWork(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	thread, process := Thread(), Process()
	n := 0
	for end := time.Now().Add(30 * time.Second); Thread()-thread < 20*time.Millisecond; n++ {
		if time.Now().After(end) {
			t.Fatal("the thread's clock stands still")
		}
	}
	if d := Process() - process; d < 10*time.Millisecond {
		t.Errorf("the process used %v while its thread used 20 ms", d)
	}
}
