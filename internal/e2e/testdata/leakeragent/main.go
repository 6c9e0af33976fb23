// Command leakeragent is a service with the agent that fills its memory, once it reads a line, until something stops it: a fixture of the end-to-end tests.
package main

import (
	"bufio"
	"fmt"
	"os"
	"time"

	"github.com/sonde-io/sonde/agent"
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
	defer agent.Start(agent.Config{Service: "leakeragent"}).Close()
	fmt.Println("ready")
	if !bufio.NewScanner(os.Stdin).Scan() {
		return
	}
	for range time.Tick(20 * time.Millisecond) { // 25 MB a second
		leakHere(500_000)
	}
}
