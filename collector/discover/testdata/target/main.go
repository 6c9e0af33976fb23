// Command target is the real process that the tests of discovery and scraping look at. It prints one line of JSON when it is ready
// and ends when its standard input does.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/pprof"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	gops "github.com/google/gops/agent"
)

var ready = map[string]string{}

func main() {
	pprofAddr := flag.String("pprof", "", "address of net/http/pprof")
	prefix := flag.String("prefix", "", "path before /debug/pprof")
	only := flag.String("only", "", "comma-separated profiles to serve, without an index; cmdline and profile always are")
	plain := flag.String("http", "", "address of an HTTP server without pprof")
	metrics := flag.String("metrics", "", "address of /metrics in the text format")
	kind := flag.String("kind", "", "of /metrics: nothing for those of client_golang; app (none of the runtime), html, json, other (of another process), long, refused, or the URL of a redirect")
	later := flag.String("later", "", "address of /metrics that is served from a request for /later on, until one for /close")
	logs := flag.Bool("log", false, "list the requests of net/http/pprof's server at /log")
	tls := flag.Bool("tls", false, "serve HTTPS too")
	mute := flag.String("mute", "", "address of a listener that never answers")
	gopsDir := flag.Bool("gops", false, "run a gops agent")
	args := flag.Bool("args", false, "change os.Args")
	work := flag.Bool("work", false, "burn CPU, allocate and contend")
	flag.Parse()
	if *args {
		os.Args = append(os.Args, "changed")
	}
	if *pprofAddr != "" {
		mux := pprofMux(*only)
		if *later != "" {
			serveLater(mux, *later)
		}
		h := http.StripPrefix(*prefix, mux)
		if *logs {
			h = logged(h)
		}
		ready["pprof"] = serve(*pprofAddr, &http.Server{Handler: h})
	}
	if *plain != "" {
		ready["http"] = serve(*plain, &http.Server{Handler: http.NotFoundHandler()})
	}
	if *metrics != "" {
		mux := http.NewServeMux()
		mux.HandleFunc("/metrics", func(w http.ResponseWriter, r *http.Request) { serveMetrics(w, r, *kind) })
		ready["metrics"] = serve(*metrics, &http.Server{Handler: mux})
	}
	if *tls {
		s := httptest.NewTLSServer(http.NotFoundHandler())
		ready["tls"] = s.Listener.Addr().String()
	}
	if *mute != "" {
		l := listen(*mute)
		ready["mute"] = l.Addr().String()
	}
	if *gopsDir {
		if err := gops.Listen(gops.Options{Addr: "127.0.0.1:0"}); err != nil {
			fail(err)
		}
	}
	if *work {
		runtime.SetMutexProfileFraction(1)
		runtime.SetBlockProfileRate(1)
		go burn()
		contend()
	}
	json.NewEncoder(os.Stdout).Encode(ready)
	io.Copy(io.Discard, os.Stdin)
}

func pprofMux(only string) *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("/env", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "OTEL_SERVICE_NAME=%s\n", os.Getenv("OTEL_SERVICE_NAME"))
	})
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	if only == "" {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		return mux
	}
	for name := range strings.SplitSeq(only, ",") {
		mux.Handle("/debug/pprof/"+name, pprof.Handler(name))
	}
	return mux
}

// serveMetrics answers as promhttp does, or as what looks like it.
func serveMetrics(w http.ResponseWriter, r *http.Request, kind string) {
	contentType, start := "text/plain; version=0.0.4; charset=utf-8", started
	switch kind {
	case "":
	case "app":
		w.Header().Set("Content-Type", contentType)
		io.WriteString(w, "# HELP go_to What go_to is.\n# TYPE app_orders counter\napp_orders{of=\"\\ngo_x 1\"} 7\ngo_around the houses\n")
		return
	case "html":
		contentType = "text/html"
	case "json":
		contentType = "application/json"
	case "other":
		start = start.Add(-time.Hour)
	case "refused":
		http.Error(w, "go_goroutines 1", http.StatusUnauthorized)
		return
	case "long":
		w.Header().Set("Content-Type", contentType)
		for line := strings.Repeat("x", 99) + " 1\n"; ; {
			if _, err := io.WriteString(w, line); err != nil {
				return
			}
		}
	default:
		http.Redirect(w, r, kind, http.StatusFound)
		return
	}
	w.Header().Set("Content-Type", contentType)
	fmt.Fprintf(w, "# HELP app_orders Orders.\n# TYPE app_orders counter\napp_orders{of=\"%s\"} 7\n# TYPE go_goroutines gauge\ngo_goroutines %d\n# TYPE go_info gauge\ngo_info{version=%q} 1\n"+
		"# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds %.3f\n", strings.Repeat("a", 80<<10), runtime.NumGoroutine(), runtime.Version(), float64(start.UnixMilli())/1000)
}

var started = time.Now()

// serveLater opens the port of the metrics when it is told to.
func serveLater(mux *http.ServeMux, addr string) {
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { serveMetrics(w, r, "") })}
	mux.HandleFunc("/later", func(http.ResponseWriter, *http.Request) { serve(addr, srv) })
	mux.HandleFunc("/close", func(http.ResponseWriter, *http.Request) { srv.Close() })
}

// logged lists at /log what h was asked before, and by whom.
func logged(h http.Handler) http.Handler {
	var mu sync.Mutex
	var paths []string
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if r.URL.Path == "/log" {
			fmt.Fprintln(w, strings.Join(paths, "\n"))
			return
		}
		paths = append(paths, r.URL.Path+" "+r.UserAgent())
		h.ServeHTTP(w, r)
	})
}

func listen(addr string) net.Listener {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		fail(err)
	}
	return l
}

func serve(addr string, s *http.Server) string {
	l := listen(addr)
	go s.Serve(l)
	return l.Addr().String()
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "target:", err)
	os.Exit(1)
}

var sink [][]byte

// burn is what the CPU profile has to show: a third of a core.
func burn() {
	for {
		for start := time.Now(); time.Since(start) < 3*time.Millisecond; {
			x := 0
			for i := range 10_000 {
				x += i * i
			}
			sink = [][]byte{make([]byte, 1024+x&1)}
		}
		time.Sleep(7 * time.Millisecond)
	}
}

func contend() {
	var mu sync.Mutex
	for range 2 {
		go func() {
			for {
				mu.Lock()
				time.Sleep(time.Millisecond)
				mu.Unlock()
			}
		}()
	}
}
