// Command resting is a service that does next to nothing: one of the many on a node.
package main

import (
	"crypto/sha256"
	"time"
)

var sum [32]byte

func main() {
	for {
		for range 100 {
			sum = sha256.Sum256(sum[:])
		}
		time.Sleep(time.Second)
	}
}
