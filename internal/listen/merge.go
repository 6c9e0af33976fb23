package listen

import (
	"errors"
	"net"
	"sync"
)

// merged is several listeners as one. Its address is that of the first.
type merged struct {
	all      []net.Listener
	accepted chan accepted
	quit     chan struct{}
	close    func() error
}

type accepted struct {
	conn net.Conn
	err  error
}

func merge(all []net.Listener) net.Listener {
	m := &merged{all: all, accepted: make(chan accepted), quit: make(chan struct{})}
	var accepting sync.WaitGroup
	for _, l := range all {
		accepting.Go(func() { m.accept(l) })
	}
	m.close = sync.OnceValue(func() error {
		close(m.quit)
		var errs []error
		for _, l := range all {
			errs = append(errs, l.Close())
		}
		accepting.Wait()
		return errors.Join(errs...)
	})
	return m
}

// accept hands on what l accepts until it is closed. An error of another kind is the server's to judge, which may call Accept again.
func (m *merged) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		select {
		case m.accepted <- accepted{conn, err}:
		case <-m.quit:
			if err == nil {
				conn.Close() // it comes too late
			}
			return
		}
		if errors.Is(err, net.ErrClosed) {
			return
		}
	}
}

func (m *merged) Accept() (net.Conn, error) {
	select {
	case a := <-m.accepted:
		return a.conn, a.err
	case <-m.quit:
		return nil, net.ErrClosed
	}
}

func (m *merged) Close() error { return m.close() }

func (m *merged) Addr() net.Addr { return m.all[0].Addr() }
