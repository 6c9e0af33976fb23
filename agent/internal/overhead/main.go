//go:build unix

// Command overhead is the program whose cost the overhead benchmark measures with and without an agent: an HTTP handler that
// decodes JSON, sorts, counts in maps and encodes JSON, called all the time by two goroutines over a live heap of a given size.
//
// One process measures both sides, in phases: off, on, off, on, …, off. Two processes of one binary differ by a few percent by their hash
// seeds and memory layouts alone, which is more than an agent costs. It prints one JSON line for each phase.
package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"runtime"
	"runtime/metrics"
	"runtime/pprof"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sonde-io/sonde/agent"
)

// phase is what the process used in one phase. Its live heap is the last collection's.
type phase struct {
	On         bool  `json:"on"`
	Requests   int64 `json:"requests"`
	CPUNanos   int64 `json:"cpu_ns"`
	UserNanos  int64 `json:"user_ns"`
	GCCycles   int64 `json:"gc_cycles"`
	Faults     int64 `json:"faults"`
	AllocBytes int64 `json:"alloc_bytes"`
	HeapLive   int64 `json:"heap_live"`
	MaxRSS     int64 `json:"max_rss"`
}

// options are the flags.
type options struct {
	heap, goroutines, pairs int
	lead, length            time.Duration
	mode                    string
}

func main() {
	var o options
	flag.IntVar(&o.heap, "heap", 8, "live heap in MB")
	flag.IntVar(&o.goroutines, "goroutines", 0, "idle goroutines")
	flag.IntVar(&o.pairs, "pairs", 1, "phases with the agent; there is one more without")
	flag.DurationVar(&o.lead, "lead", 5600*time.Millisecond, "from the agent's start to the measuring: its first window ends within")
	flag.DurationVar(&o.length, "length", 15*time.Second, "of each phase")
	flag.StringVar(&o.mode, "mode", "agent", "what is on: agent, pprof (the runtime's CPU profile alone, cut once in a phase), ballast (a buffer of the size of that profile's, and no profile), or off")
	flag.Parse()
	if err := run(o); err != nil {
		log.Fatal(err)
	}
}

func run(o options) error {
	srv := newServer(o.heap)
	stop := idle(o.goroutines)
	defer close(stop)
	for i := range 500 {
		request(srv, i)
	}
	var served atomic.Int64
	end := serve(srv, &served)
	defer end()
	out := json.NewEncoder(os.Stdout)
	for i := range 2*o.pairs + 1 {
		on := i%2 == 1
		p, err := measure(o, on, &served)
		if err != nil {
			return err
		}
		if err := out.Encode(p); err != nil {
			return err
		}
	}
	runtime.KeepAlive(srv)
	return nil
}

// profBuf is the size of the buffer that the runtime's CPU profile keeps in the heap while it runs.
const profBuf = 1<<20 + 1<<17

// measure runs one phase. What the start and the end of the agent cost is outside of it.
func measure(o options, on bool, served *atomic.Int64) (phase, error) {
	mode := o.mode
	if !on {
		mode = "off"
	}
	var cut func()
	switch mode {
	case "agent":
		a := agent.Start(agent.Config{Service: "overhead"})
		time.Sleep(o.lead)
		defer func() {
			if err := a.Close(); err != nil {
				log.Print(err)
			}
		}()
	case "pprof":
		if err := pprof.StartCPUProfile(io.Discard); err != nil {
			return phase{}, err
		}
		defer pprof.StopCPUProfile()
		cut = func() {
			pprof.StopCPUProfile()
			if err := pprof.StartCPUProfile(io.Discard); err != nil {
				log.Print(err)
			}
		}
	case "ballast":
		b := make([]byte, profBuf)
		defer runtime.KeepAlive(b)
	case "off":
	default:
		return phase{}, fmt.Errorf("mode %q: want off, agent, pprof or ballast", o.mode)
	}
	time.Sleep(time.Second) // what the phase before left is collected
	before := usage(served)
	if cut != nil {
		time.AfterFunc(o.length/2, cut)
	}
	time.Sleep(o.length)
	p := usage(served)
	p.On = on
	p.Requests -= before.Requests
	p.CPUNanos -= before.CPUNanos
	p.UserNanos -= before.UserNanos
	p.GCCycles -= before.GCCycles
	p.Faults -= before.Faults
	p.AllocBytes -= before.AllocBytes
	return p, nil
}

// item is one entry of the live heap.
type item struct {
	ID   int      `json:"id"`
	Name string   `json:"name"`
	Tags []string `json:"tags"`
	Rank float64  `json:"rank"`
}

// server answers from a cache, which is the live heap.
type server struct {
	mu    sync.RWMutex
	cache map[int]*item
	n     int
}

// itemBytes is about what an item costs in the heap.
const itemBytes = 330

func newServer(heapMB int) *server {
	s := &server{n: max(heapMB*1_000_000/itemBytes, 64)}
	s.cache = make(map[int]*item, s.n)
	for i := range s.n {
		id := strconv.Itoa(i)
		s.cache[i] = &item{ID: i, Name: "item number " + id, Tags: []string{"tag-" + id, "tag-" + strconv.Itoa(i%97), "all"}, Rank: float64(i*7919%1000) / 10}
	}
	return s
}

// query is a request's body.
type query struct {
	From  int               `json:"from"`
	Count int               `json:"count"`
	Attrs map[string]string `json:"attrs"`
}

// reply is the answer.
type reply struct {
	Items []item         `json:"items"`
	Tags  map[string]int `json:"tags"`
	Attrs []string       `json:"attrs"`
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var q query
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	out := reply{Tags: map[string]int{}}
	s.mu.RLock()
	for i := range q.Count {
		it := s.cache[(q.From+i*31)%s.n]
		out.Items = append(out.Items, *it)
		for _, t := range it.Tags {
			out.Tags[t]++
		}
	}
	s.mu.RUnlock()
	slices.SortFunc(out.Items, func(a, b item) int { return cmp.Or(cmp.Compare(b.Rank, a.Rank), cmp.Compare(a.ID, b.ID)) })
	for k, v := range q.Attrs {
		out.Attrs = append(out.Attrs, k+"="+v)
	}
	slices.Sort(out.Attrs)
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(out); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

// discard is a ResponseWriter without a connection: the work is the handler's, not the kernel's.
type discard struct{ h http.Header }

func (d discard) Header() http.Header         { return d.h }
func (d discard) Write(p []byte) (int, error) { return len(p), nil }
func (d discard) WriteHeader(int)             {}

func request(s *server, i int) {
	body := fmt.Sprintf(`{"from":%d,"count":40,"attrs":{"user":"u%d","region":"eu-%d","kind":"search"}}`, i*13%s.n, i%1000, i%5)
	req, err := http.NewRequest(http.MethodPost, "http://localhost/search", bytes.NewReader([]byte(body)))
	if err != nil {
		panic(err) // the arguments are constants
	}
	s.ServeHTTP(discard{http.Header{}}, req)
}

// serve makes requests on two goroutines and counts them until the function that it returns is called.
func serve(s *server, served *atomic.Int64) (end func()) {
	const workers = 2
	var wg sync.WaitGroup
	var over atomic.Bool
	for w := range workers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := w; !over.Load(); i += workers {
				request(s, i)
				served.Add(1)
			}
		}()
	}
	return func() {
		over.Store(true)
		wg.Wait()
	}
}

// idle starts goroutines that wait for the channel it returns.
func idle(n int) chan struct{} {
	stop := make(chan struct{})
	for range n {
		go func() { <-stop }()
	}
	return stop
}

func usage(served *atomic.Int64) (p phase) {
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
		log.Fatal(err)
	}
	p.Requests = served.Load()
	p.UserNanos = ru.Utime.Nano()
	p.CPUNanos = p.UserNanos + ru.Stime.Nano()
	p.Faults = int64(ru.Minflt)
	p.MaxRSS = int64(ru.Maxrss)
	samples := []metrics.Sample{{Name: "/gc/cycles/total:gc-cycles"}, {Name: "/gc/heap/live:bytes"}, {Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(samples)
	p.GCCycles, p.HeapLive, p.AllocBytes = int64(samples[0].Value.Uint64()), int64(samples[1].Value.Uint64()), int64(samples[2].Value.Uint64())
	return p
}
