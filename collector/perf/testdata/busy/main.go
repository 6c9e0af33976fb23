// Command busy is what the tests of perf watch: hot functions of known names, in several shapes.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"time"
)

var sink uint64

// mix is small enough to be inlined into hotLoop.
func mix(x uint64) uint64 {
	x ^= x << 13
	x ^= x >> 7
	return x ^ x<<17
}

//go:noinline
func hotLoop(n int) uint64 {
	x := uint64(n) | 1
	for i := 0; i < n; i++ {
		x = mix(x)
	}
	return x
}

//go:noinline
func leaf(x uint64) uint64 { return x*2862933555777941757 + 3037000493 }

//go:noinline
func callsLeaf(n int) uint64 {
	x := uint64(n)
	for i := 0; i < n; i++ {
		x = leaf(x)
	}
	return x
}

type worker struct{ name string }

//go:noinline
func (w *worker) run(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		sink += hotLoop(2_000_000)
		sink += callsLeaf(1_000_000)
	}
}

// threads starts threads that end: a goroutine that is locked to its thread takes it along.
func threads(d time.Duration) {
	w := &worker{"threads"}
	for end := time.Now().Add(d); time.Now().Before(end); {
		done := make(chan bool)
		for i := 0; i < 2; i++ {
			go func() {
				runtime.LockOSThread()
				w.run(20 * time.Millisecond)
				done <- true
			}()
		}
		<-done
		<-done
	}
}

// spawn starts processes of itself that live for each.
func spawn(each, d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		cmd := exec.Command(os.Args[0], "run", each.String())
		if err := cmd.Run(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
}

// sleep blocks a thread in a system call, again and again.
func sleep(d time.Duration) {
	r, w, err := os.Pipe()
	if err != nil {
		panic(err)
	}
	go func() {
		for {
			time.Sleep(20 * time.Millisecond)
			w.Write([]byte{1})
		}
	}()
	fd := int(r.Fd()) // blocking from here on
	var b [1]byte
	for end := time.Now().Add(d); time.Now().Before(end); {
		blockingRead(fd, b[:])
	}
}

func main() {
	d := func(i int) time.Duration {
		v, err := time.ParseDuration(os.Args[i])
		if err != nil {
			panic(err)
		}
		return v
	}
	fmt.Println("ready " + strconv.Itoa(os.Getpid()))
	switch os.Args[1] {
	case "run":
		(&worker{"run"}).run(d(2))
	case "threads":
		threads(d(2))
	case "spawn":
		spawn(d(2), d(3))
	case "sleep":
		sleep(d(2))
	case "idle":
		time.Sleep(d(2))
	case "exec":
		(&worker{"exec"}).run(d(2))
		replace(d(3))
	case "cgo":
		cgo(d(2))
	}
}
