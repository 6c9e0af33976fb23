// Command target is a program whose goroutines and profiles are known. It prints the address of its /debug/pprof when they are, and does what each line of its
// standard input says; it ends when that ends.
package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

var (
	never  = make(chan int)
	noRead chan int
	keep   [][]byte
	nodes  []*node
	table  = map[string]*node{}
	group  sync.WaitGroup
	gate   sync.Mutex
	rw     sync.RWMutex
)

type node struct {
	next *node
	data [120]byte
}

type worker struct{ name string }

func (w *worker) wait() { <-never }

func (w worker) waitValue() { <-never }

type waiter interface{ waitValue() }

func receive() { inlinedReceive() }

func inlinedReceive() { inlinedDeeper() }

func inlinedDeeper() { <-never }

func send() { never2 <- 1 }

var never2 = make(chan int)

func nilReceive() { <-noRead }

func selects() {
	select {
	case <-never:
	case never2 <- 1:
	}
}

func sleeps() { time.Sleep(time.Hour) }

func waits() { group.Wait() }

func locks() { gate.Lock() }

func readLocks() { rw.RLock() }

func condWaits() {
	var mu sync.Mutex
	c := sync.NewCond(&mu)
	mu.Lock()
	c.Wait()
}

func generic[T any](v T) T {
	<-never
	return v
}

//go:noinline
func deep(n int) int {
	if n == 0 {
		<-never
		return 0
	}
	return deep(n-1) + 1
}

//go:noinline
func wide(n int) byte {
	var frame [3000]byte
	frame[n] = byte(n)
	if n == 0 {
		<-never
		return 0
	}
	return wide(n-1) + frame[n]
}

func readsPipe() {
	var fds [2]int
	if err := syscall.Pipe(fds[:]); err != nil {
		panic(err)
	}
	var b [1]byte
	syscall.Read(fds[0], b[:])
}

func accepts(l net.Listener) { l.Accept() }

func deferred() {
	defer func() { <-never }()
	panicsNot()
}

func panicking() {
	defer func() {
		recover()
		<-never
	}()
	var p *node
	p.next = nil
}

func panicsNot() {}

var spinning int64

func spin() {
	for {
		spinning++
	}
}

func goroutines() {
	for i := 0; i < 5; i++ {
		go receive()
	}
	go send()
	go nilReceive()
	for i := 0; i < 3; i++ {
		go selects()
	}
	go sleeps()
	group.Add(1)
	go waits()
	gate.Lock()
	go locks()
	rw.Lock()
	go readLocks()
	go condWaits()
	go generic("x")
	go generic(17)
	go deep(40)
	go deep(110)
	go wide(20)
	go readsPipe()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go accepts(l)
	go deferred()
	go panicking()
	w := &worker{}
	go w.wait()
	f := w.wait
	go f()
	var i waiter = w
	go i.waitValue()
	go func() { <-never }()
	for i := 0; i < 2; i++ {
		i := i
		go pprof.Do(context.Background(), pprof.Labels("account", strconv.Itoa(i), "region", "north"), func(context.Context) { <-never })
	}
	go pprof.Do(context.Background(), many(), func(context.Context) { <-never })
}

// many is a set of labels that needs more than one bucket of a hash table.
func many() pprof.LabelSet {
	var kv []string
	for i := 0; i < 20; i++ {
		kv = append(kv, fmt.Sprintf("label%d", i), fmt.Sprintf("value%d", i))
	}
	return pprof.Labels(kv...)
}

func allocate() {
	for i := 0; i < 2000; i++ {
		keep = append(keep, smallInlined(i))
		nodes = append(nodes, newNode())
		table[strconv.Itoa(i)] = newNode()
	}
	for i := 0; i < 20; i++ {
		keep = append(keep, large())
		garbage = large()
	}
	for i := 0; i < 500; i++ {
		nodes = append(nodes, deepNode(20))
	}
	garbage = nil
}

var garbage []byte

func smallInlined(n int) []byte { return smaller(n) }

func smaller(n int) []byte { return make([]byte, 64+n%7*16) }

func newNode() *node { return &node{} }

//go:noinline
func deepNode(n int) *node {
	if n == 0 {
		return newNode()
	}
	return deepNode(n - 1)
}

//go:noinline
func large() []byte { return make([]byte, 1<<18) }

func contend() {
	var mu sync.Mutex
	for round := 0; round < 20; round++ {
		mu.Lock()
		var done sync.WaitGroup
		for i := 0; i < 3; i++ {
			done.Add(1)
			go func() {
				defer done.Done()
				lockInlined(&mu)
			}()
		}
		time.Sleep(2 * time.Millisecond)
		unlockInlined(&mu)
		done.Wait()
	}
	ch := make(chan int)
	for i := 0; i < 20; i++ {
		go func() {
			time.Sleep(time.Millisecond)
			ch <- 1
		}()
		blockInlined(ch)
	}
}

func lockInlined(mu *sync.Mutex) {
	mu.Lock()
	unlockInlined(mu)
}

func unlockInlined(mu *sync.Mutex) { mu.Unlock() }

func blockInlined(ch chan int) int { return <-ch }

// churn starts and ends goroutines of all depths, and makes garbage, until the program ends.
func churn() {
	for i := 0; i < 4; i++ {
		go func() {
			for n := 0; ; n++ {
				var wg sync.WaitGroup
				for j := 0; j < 20; j++ {
					wg.Add(1)
					go func(j int) {
						defer wg.Done()
						churnDeep(j*3, n)
					}(j)
				}
				wg.Wait()
			}
		}()
	}
	go func() {
		for {
			runtime.GC()
			time.Sleep(time.Millisecond)
		}
	}()
}

var sink []*node

//go:noinline
func churnDeep(n, seed int) int {
	var frame [64]byte
	frame[seed&63] = byte(n)
	if n == 0 {
		ch := make(chan *node)
		go func() { ch <- &node{} }()
		<-ch
		if seed%16 == 0 {
			time.Sleep(time.Microsecond)
		}
		return 0
	}
	return churnDeep(n-1, seed) + int(frame[0])
}

func profile() {
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go http.Serve(l, nil)
	fmt.Println(l.Addr())
	return nil
}

func command(line string) {
	word, arg, _ := strings.Cut(line, " ")
	n, _ := strconv.Atoi(arg)
	switch word {
	case "goroutines":
		goroutines()
	case "allocate":
		allocate()
	case "contend":
		contend()
	case "churn":
		churn()
	case "spin":
		go spin()
	case "gc":
		runtime.GC()
	case "nogc":
		debug.SetGCPercent(-1)
	case "serve":
		profile()
		return
	case "park":
		for i := 0; i < n; i++ {
			go receive()
		}
	case "mutex":
		runtime.SetMutexProfileFraction(n)
	case "block":
		runtime.SetBlockProfileRate(n)
	}
	time.Sleep(50 * time.Millisecond) // those that were started have reached where they stay
	fmt.Println("done")
}

func init() {
	if s := os.Getenv("TARGET_RATE"); s != "" {
		runtime.MemProfileRate, _ = strconv.Atoi(s)
		for i := 0; i < 64; i++ { // the next allocation to be counted was chosen by the rate before
			garbage = large()
		}
	}
}

func main() {
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		command(in.Text())
	}
}
