// Package service runs one small HTTP service of the demo in a process of its own.
//
// It is compiled in two places: into the sonde binary, and into the binary of checkout's second version, which the demo
// builds from the sources embedded here. So it may import the standard library only.
package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// Ready is the word before the address on the one line that a service prints once it accepts connections.
const Ready = "ready"

// Main serves handler on addr until SIGINT, SIGTERM or the end of standard input, whichever comes first, and returns after the
// requests in flight are answered. The end of standard input is how a service learns that the demo is gone, on every system.
func Main(addr string, handler http.Handler) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		// Blocks until the parent closes the pipe or dies; the process ends with Main, so there is nobody to wait for it.
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	return Serve(ctx, addr, handler, os.Stdout)
}

// Serve listens on addr, writes the Ready line to out and serves handler until ctx is done.
func Serve(ctx context.Context, addr string, handler http.Handler, out io.Writer) error {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", addr, err)
	}
	srv := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second}
	fmt.Fprintf(out, "%s %s\n", Ready, ln.Addr())

	stopped := make(chan error, 1)
	go func() {
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		err := srv.Shutdown(grace)
		if err != nil { // a CPU profile being taken outlasts the grace: cut it
			err = srv.Close()
		}
		stopped <- err
	}()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve on %s: %w", addr, err)
	}
	return <-stopped
}
