package receive

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// pipeListener hands out one end of each pipe: connections whose deadlines follow the test's clock.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}
func (l *pipeListener) Close() error   { close(l.done); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// TestSlowBody: a body that does not come gives its place up after seconds, one that comes slowly but steadily is read, and one that takes for ever is not.
func TestSlowBody(t *testing.T) {
	for _, tt := range []struct {
		name   string
		chunk  int
		pause  time.Duration
		size   int
		status int
		took   time.Duration
	}{
		{"silent", 0, time.Hour, 1 << 20, 408, paceTime},
		{"a byte a second", 1, time.Second, 1 << 20, 408, paceTime},
		{"steady", paceBytes, paceTime / 2, 8 * paceBytes, 422, 8 * paceTime / 2},
		{"steady for too long", paceBytes, paceTime / 2, 16 << 20, 408, bodyTime},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, mux, _ := newTest(t, new(memory), nil)
				l := &pipeListener{conns: make(chan net.Conn, 1), done: make(chan struct{})}
				srv := &http.Server{Handler: mux}
				go srv.Serve(l)
				client, server := net.Pipe()
				l.conns <- server
				ctx, stop := context.WithCancel(t.Context())
				defer stop()
				go func() {
					fmt.Fprintf(client, "POST /api/v1/profiles?service=a&type=cpu HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", tt.size)
					for sent := 0; sent < tt.size && tt.chunk > 0 && ctx.Err() == nil; sent += tt.chunk {
						if _, err := client.Write([]byte(strings.Repeat("x", tt.chunk))); err != nil {
							return
						}
						time.Sleep(tt.pause)
					}
				}()
				began := time.Now()
				resp, err := http.ReadResponse(bufio.NewReader(client), nil)
				if err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); resp.StatusCode != tt.status || took > tt.took+time.Second {
					t.Errorf("%d after %v, want %d after %v", resp.StatusCode, took, tt.status, tt.took)
				}
				if len(h.slots) != 0 {
					t.Error("it still has a place")
				}
				stop()
				client.Close()
				srv.Close()
				time.Sleep(paceTime) // for the server's connection to end
			})
		})
	}
}
