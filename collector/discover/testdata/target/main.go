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
		h := http.StripPrefix(*prefix, pprofMux(*only))
		ready["pprof"] = serve(*pprofAddr, &http.Server{Handler: h})
	}
	if *plain != "" {
		ready["http"] = serve(*plain, &http.Server{Handler: http.NotFoundHandler()})
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

func pprofMux(only string) http.Handler {
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
