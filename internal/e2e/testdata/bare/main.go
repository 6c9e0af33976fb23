// Command bare is a service with neither an agent nor an endpoint: a fixture of the end-to-end tests.
package main

import (
	"crypto/sha256"
	"fmt"
	"time"
)

var sum [32]byte

// hotspot uses the CPU for about d.
//
//go:noinline
func hotspot(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		for range 1000 {
			sum = sha256.Sum256(sum[:])
		}
	}
}

func main() {
	fmt.Println("ready")
	for {
		hotspot(30 * time.Millisecond)
		time.Sleep(70 * time.Millisecond)
	}
}
