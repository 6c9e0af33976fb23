// Command leaker serves net/http/pprof, and once it reads a line fills its memory at a steady rate until something stops it: a fixture of tests.
package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"strconv"
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
	rate, err := strconv.Atoi(os.Args[1]) // bytes a second
	if err != nil {
		panic(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go http.Serve(l, nil)
	fmt.Println(l.Addr())
	if !bufio.NewScanner(os.Stdin).Scan() {
		return
	}
	const step = 20 * time.Millisecond
	for range time.Tick(step) {
		leakHere(rate / int(time.Second/step))
	}
}
