package listen

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// Limits of every connection. A handler that needs longer says so with http.ResponseController.
const (
	headerTimeout  = 10 * time.Second // to send the headers: what a slow-loris holds open
	readTimeout    = 2 * time.Minute  // to send the body: 16 MiB at 1 Mbit/s
	writeTimeout   = 5 * time.Minute  // from the headers to the end of the answer
	idleTimeout    = 2 * time.Minute  // between requests; longer than the agents' push period
	maxHeaderBytes = 64 << 10

	lastMoment = 2 * time.Second // for handlers to return once their contexts have ended
)

// Serving says how to serve and to stop. The zero value is good.
type Serving struct {
	Exempt   func(*http.Request) bool // requests that need no token; nil: none
	Logger   *slog.Logger             // nil: discard
	Settle   time.Duration            // how long open connections are answered with Connection: close before they are shut; 0: 1.5 s
	Deadline time.Duration            // how long the whole stop may take; 0: 10 s
}

// Serve serves h behind the listener's Guard until ctx ends. Then it stops: it closes the listener, so that new connections go elsewhere; answers
// what still arrives on open ones with Connection: close, because shutting an idle connection at once drops the request that is just on its
// way; then shuts down, waiting for what is in flight. At the deadline connections are cut, the requests' contexts end, and their handlers
// get a moment to return. It returns nil if it stopped because of ctx and nothing was cut.
func (l *Listener) Serve(ctx context.Context, h http.Handler, s Serving) error {
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	if s.Settle == 0 {
		s.Settle = 1500 * time.Millisecond
	}
	if s.Deadline == 0 {
		s.Deadline = 10 * time.Second
	}
	// Requests outlive ctx: they are to be answered during the stop.
	base, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	d := &drain{}
	srv := &http.Server{
		Protocols:         protocols(),
		Handler:           d.wrap(l.Guard(h, s.Exempt)),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.Logger.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return base },
		ConnState:         d.connState,
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l.Listener) }()
	select {
	case err := <-served:
		srv.Close()
		return err
	case <-ctx.Done():
	}
	deadline, cancel := context.WithTimeout(base, s.Deadline)
	defer cancel()
	err := d.stop(deadline, srv, l.Listener, served, s)
	if err != nil {
		cut()
		d.waitFor(context.Background(), &d.handling, lastMoment)
	}
	return err
}

// protocols are HTTP/1.1 and HTTP/2, this without TLS too: gRPC's clients speak nothing else.
func protocols() *http.Protocols {
	p := &http.Protocols{}
	p.SetHTTP1(true)
	p.SetHTTP2(true)
	p.SetUnencryptedHTTP2(true)
	return p
}

// drain tells open connections to go.
type drain struct {
	on       atomic.Bool
	open     atomic.Int64 // connections
	handling atomic.Int64 // requests
}

func (d *drain) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.handling.Add(1)
		defer d.handling.Add(-1)
		if d.on.Load() {
			w.Header().Set("Connection", "close") // HTTP/2 turns it into GOAWAY
		}
		next.ServeHTTP(w, r)
	})
}

func (d *drain) connState(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		d.open.Add(1)
	case http.StateClosed, http.StateHijacked:
		d.open.Add(-1)
	}
}

func (d *drain) stop(ctx context.Context, srv *http.Server, ln net.Listener, served <-chan error, s Serving) error {
	d.on.Store(true)
	ln.Close() // the error would be that it is closed
	<-served
	d.waitFor(ctx, &d.open, s.Settle)
	err := srv.Shutdown(ctx)
	if err != nil {
		srv.Close()
		if errors.Is(err, context.DeadlineExceeded) {
			s.Logger.Warn("requests were cut at the deadline of the stop", "deadline", s.Deadline, "connections", d.open.Load())
		}
	}
	return err
}

// waitFor waits until n is 0, for at most the given time.
func (d *drain) waitFor(ctx context.Context, n *atomic.Int64, most time.Duration) {
	end := time.NewTimer(most)
	defer end.Stop()
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for n.Load() > 0 {
		select {
		case <-end.C:
			return
		case <-ctx.Done():
			return
		case <-poll.C:
		}
	}
}

// Close closes the listener where Serve was never called. It may be called twice and after Serve.
func (l *Listener) Close() error {
	if err := l.Listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}
