// Command withagent is a service with the agent: a fixture of the end-to-end tests.
package main

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/sonde-io/sonde/agent"
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
	defer agent.Start(agent.Config{Service: "withagent"}).Close()
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	fmt.Println("ready")
	for {
		hotspot(30 * time.Millisecond)
		select {
		case <-stop:
			return
		case <-time.After(70 * time.Millisecond):
		}
	}
}
