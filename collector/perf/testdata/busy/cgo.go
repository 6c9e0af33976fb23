//go:build cgo

package main

// static unsigned long spin(unsigned long n) { volatile unsigned long x = n; for (unsigned long i = 0; i < n; i++) x = x * 3 + i; return x; }
// unsigned long __attribute__((noinline)) native_spin(unsigned long n) { return spin(n); }
// unsigned long native_spin(unsigned long n);
import "C"

import "time"

//go:noinline
func callNative() { sink += uint64(C.native_spin(1000000)) }

func cgo(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		callNative()
	}
}
