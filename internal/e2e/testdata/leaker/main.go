// Command leaker knows nothing of Sonde: it serves net/http/pprof, and once it reads a line it fills its memory until something stops it. A fixture of the end-to-end tests.
package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"time"
)

var kept [][]byte

// leakHere keeps n bytes for good, and touches them.
//
//go:noinline
func leakHere(n int) {
	b := make([]byte, n)
	for i := 0; i < n; i += 4096 {
		b[i] = 1
	}
	kept = append(kept, b)
}

func main() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go http.Serve(l, nil)
	fmt.Println("ready")
	if !bufio.NewScanner(os.Stdin).Scan() {
		return
	}
	for range time.Tick(20 * time.Millisecond) { // 25 MB a second
		leakHere(500_000)
	}
}
