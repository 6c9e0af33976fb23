// Command alltypes is a service with the agent that gives every type of profile something to show: a fixture of the end-to-end tests.
package main

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/sonde-io/sonde/agent"
)

var (
	sum  [32]byte
	kept [][]byte
)

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

// allocate keeps 8 MB and makes what it kept before garbage.
//
//go:noinline
func allocate() {
	kept = nil
	for range 8 {
		kept = append(kept, make([]byte, 1<<20))
	}
}

// contend makes one goroutine wait for another's lock.
//
//go:noinline
func contend(mu *sync.Mutex) {
	var wg sync.WaitGroup
	mu.Lock()
	wg.Add(1)
	go func() {
		defer wg.Done()
		mu.Lock()
		defer mu.Unlock()
	}()
	time.Sleep(2 * time.Millisecond)
	mu.Unlock()
	wg.Wait()
}

//go:noinline
func waitForever(c chan struct{}) { <-c }

func main() {
	defer agent.Start(agent.Config{Service: "alltypes", MutexFraction: 1, BlockRate: 1}).Close()
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	go waitForever(make(chan struct{}))
	fmt.Println("ready")
	var mu sync.Mutex
	for {
		hotspot(20 * time.Millisecond)
		allocate()
		contend(&mu)
		select {
		case <-stop:
			runtime.KeepAlive(kept)
			return
		case <-time.After(50 * time.Millisecond):
		}
	}
}
