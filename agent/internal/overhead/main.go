//go:build unix

// Command overhead is the program whose cost the overhead benchmark measures with and without an agent: an HTTP handler that
// decodes JSON, sorts, counts in maps and encodes JSON, called a fixed number of times by two goroutines over a live heap of a
// given size. It prints one JSON line of what the whole process used meanwhile.
package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"runtime"
	"runtime/metrics"
	"runtime/pprof"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/sonde-io/sonde/agent"
)

// result is what a run used, from after the warm-up to after the agent's Close.
type result struct {
	Requests  int   `json:"requests"`
	CPUNanos  int64 `json:"cpu_ns"`
	WallNanos int64 `json:"wall_ns"`
	GCCycles  int64 `json:"gc_cycles"`
	Faults    int64 `json:"faults"`
	HeapLive  int64 `json:"heap_live"`
	MaxRSS    int64 `json:"max_rss"`
}

func main() {
	heap := flag.Int("heap", 8, "live heap in MB")
	requests := flag.Int("requests", 0, "requests to serve; 0: as many as fit into -seconds")
	seconds := flag.Float64("seconds", 4, "seconds of serving where -requests is 0")
	mode := flag.String("mode", "off", "off, agent, or pprof: the runtime's CPU profile alone, cut every 15 s")
	goroutines := flag.Int("goroutines", 0, "idle goroutines")
	flag.Parse()
	if err := run(*heap, *requests, *goroutines, *seconds, *mode); err != nil {
		log.Fatal(err)
	}
}

func run(heap, requests, goroutines int, seconds float64, mode string) error {
	srv := newServer(heap)
	stop := idle(goroutines)
	defer close(stop)
	warm(srv)
	before, start := usage(), time.Now()
	var a *agent.Agent
	switch mode {
	case "agent":
		a = agent.Start(agent.Config{Service: "overhead"})
	case "pprof":
		var b bytes.Buffer
		if err := pprof.StartCPUProfile(&b); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	case "off":
	default:
		return fmt.Errorf("mode %q: want off, agent or pprof", mode)
	}
	served := serve(srv, requests, time.Duration(seconds*float64(time.Second)))
	if err := a.Close(); err != nil {
		return err
	}
	if mode == "pprof" {
		pprof.StopCPUProfile()
	}
	r := usage()
	r.Requests, r.WallNanos = served, int64(time.Since(start))
	r.CPUNanos -= before.CPUNanos
	r.GCCycles -= before.GCCycles
	r.Faults -= before.Faults
	runtime.KeepAlive(srv)
	return json.NewEncoder(os.Stdout).Encode(r)
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

func warm(s *server) {
	for i := range 500 {
		request(s, i)
	}
	runtime.GC()
}

// serve makes n requests, or as many as fit into d, on two goroutines and returns their number.
func serve(s *server, n int, d time.Duration) int {
	const workers = 2
	var wg sync.WaitGroup
	served := make([]int, workers)
	end := time.Now().Add(d)
	for w := range workers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := w; ; i += workers {
				if n > 0 && i >= n || n == 0 && i%64 < workers && time.Now().After(end) {
					return
				}
				request(s, i)
				served[w]++
			}
		}()
	}
	wg.Wait()
	return served[0] + served[1]
}

// idle starts goroutines that wait for the channel it returns.
func idle(n int) chan struct{} {
	stop := make(chan struct{})
	for range n {
		go func() { <-stop }()
	}
	return stop
}

func usage() (r result) {
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
		log.Fatal(err)
	}
	r.CPUNanos = ru.Utime.Nano() + ru.Stime.Nano()
	r.Faults = int64(ru.Minflt)
	r.MaxRSS = int64(ru.Maxrss)
	samples := []metrics.Sample{{Name: "/gc/cycles/total:gc-cycles"}, {Name: "/gc/heap/live:bytes"}}
	metrics.Read(samples)
	r.GCCycles, r.HeapLive = int64(samples[0].Value.Uint64()), int64(samples[1].Value.Uint64())
	return r
}
