// Command program is what the end-to-end test compiles with each Go release: it does something of every kind that the agent profiles, says how many
// goroutines the agent added, and closes it.
package main

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/sonde-io/sonde/agent"
)

var kept [][]byte

//go:noinline
func hotLoop(until time.Time) (n int) {
	for time.Now().Before(until) {
		for i := range 100000 {
			n ^= i * n
		}
	}
	return n
}

//go:noinline
func keepMemory() {
	for range 64 {
		kept = append(kept, make([]byte, 1<<20))
	}
}

//go:noinline
func waitForever(c chan struct{}) { <-c }

//go:noinline
func fightForLock(mu *sync.Mutex) {
	var wg sync.WaitGroup
	mu.Lock()
	for range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			mu.Lock()
			time.Sleep(time.Millisecond)
			mu.Unlock()
		}()
	}
	time.Sleep(20 * time.Millisecond)
	mu.Unlock()
	wg.Wait()
}

func main() {
	before := runtime.NumGoroutine()
	a := agent.Start(agent.Config{Service: "program", MutexFraction: 1, BlockRate: 1})
	time.Sleep(50 * time.Millisecond)
	fmt.Println("goroutines", runtime.NumGoroutine()-before)
	c := make(chan struct{})
	go waitForever(c)
	keepMemory()
	fightForLock(new(sync.Mutex))
	runtime.GC() // the program's own, so that the heap profile is of now
	runtime.GC()
	hotLoop(time.Now().Add(1200 * time.Millisecond))
	if err := a.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	close(c)
	runtime.KeepAlive(kept)
}
