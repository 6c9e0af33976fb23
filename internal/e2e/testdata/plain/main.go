// Command plain is a service without an agent that serves net/http/pprof: a fixture of the end-to-end tests.
package main

import (
	"crypto/sha256"
	"fmt"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
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
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	go http.Serve(ln, nil)
	fmt.Println("ready", ln.Addr())
	for {
		hotspot(30 * time.Millisecond)
		time.Sleep(70 * time.Millisecond)
	}
}
