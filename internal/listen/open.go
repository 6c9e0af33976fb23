package listen

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"
)

// Listener is an open listener with its policy.
type Listener struct {
	net.Listener
	policy Policy
	token  string
	secure bool // TLS
}

// Open checks p, reads its files and listens. logger, which may be nil, is told of certificates that cannot be read again. Errors that
// a person can cure are *Error.
func Open(ctx context.Context, p Policy, logger *slog.Logger) (*Listener, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	token, err := p.token()
	if err != nil {
		return nil, err
	}
	l := &Listener{policy: p, token: token}
	var config *tls.Config
	if p.TLSCertFile != "" {
		if config, err = tlsConfig(p.TLSCertFile, p.TLSKeyFile, logger); err != nil {
			return nil, err
		}
	}
	if l.Listener, err = p.listen(ctx); err != nil {
		return nil, err
	}
	if config != nil {
		l.Listener, l.secure = tls.NewListener(l.Listener, config), true
	}
	return l, nil
}

func (p Policy) listen(ctx context.Context) (net.Listener, error) {
	var lc net.ListenConfig
	if p.isUnix() {
		return listenUnix(ctx, strings.TrimPrefix(p.Address, unixPrefix))
	}
	ln, err := lc.Listen(ctx, "tcp", p.Address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fail("another sonde may be running; stop it or choose another port", "listen on %s: %w", p.Address, err)
	case err != nil:
		return nil, fmt.Errorf("listen on %s: %w", p.Address, err)
	}
	// A name that means loopback may have been given another address in the hosts file.
	if addr, ok := ln.Addr().(*net.TCPAddr); p.isLocal() && ok && !addr.IP.IsLoopback() {
		ln.Close()
		return nil, fail("give the address as a number", "listen on %s: %w: the name leads to %s", p.Address, ErrOpen, addr)
	}
	return ln, nil
}

// listenUnix listens on a socket that only this user may open, and replaces one that nobody listens on.
func listenUnix(ctx context.Context, path string) (net.Listener, error) {
	if st, err := os.Lstat(path); err == nil && st.Mode()&fs.ModeSocket != 0 {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "unix", path)
		if err == nil {
			conn.Close()
			return nil, fail("another sonde may be running; stop it or choose another path", "listen on %s: somebody listens there", path)
		}
		if errors.Is(err, syscall.ECONNREFUSED) {
			if err := os.Remove(path); err != nil {
				return nil, fmt.Errorf("listen on %s: remove stale socket: %w", path, err)
			}
		}
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		ln.Close()
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return ln, nil
}

// URL is where the listener is reached from this machine, without a slash at the end; for a Unix socket unix:PATH.
func (l *Listener) URL() string {
	addr, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return l.policy.Address
	}
	host := l.policy.host()
	if addr.IP.IsUnspecified() {
		host = "127.0.0.1"
	}
	scheme := "http://"
	if l.secure {
		scheme = "https://"
	}
	return scheme + net.JoinHostPort(host, fmt.Sprint(addr.Port))
}

// HasToken reports whether requests must carry a token.
func (l *Listener) HasToken() bool { return l.token != "" }
