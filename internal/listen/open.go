package listen

import (
	"cmp"
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
	policies []Policy // one for each address
	token    string
	urls     []string
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
	var config *tls.Config
	if p.TLSCertFile != "" {
		if config, err = tlsConfig(p.TLSCertFile, p.TLSKeyFile, logger); err != nil {
			return nil, err
		}
	}
	each := p.each()
	l := &Listener{policies: each, token: token}
	var all []net.Listener
	for _, one := range each {
		ln, err := one.listen(ctx)
		if err != nil {
			for _, other := range all {
				other.Close() // nobody came
			}
			return nil, err
		}
		l.urls = append(l.urls, one.url(ln.Addr(), config != nil))
		// Several addresses are a network's and this machine's sockets: those need no TLS, which serves alone as it is told.
		if config != nil && (len(each) == 1 || !one.isUnix()) {
			ln = tls.NewListener(ln, config)
		}
		all = append(all, ln)
	}
	if l.Listener = all[0]; len(all) > 1 {
		l.Listener = merge(all)
	}
	return l, nil
}

func (p Policy) listen(ctx context.Context) (net.Listener, error) {
	var lc net.ListenConfig
	if p.isUnix() {
		return listenUnix(ctx, strings.TrimPrefix(p.Address, unixPrefix), cmp.Or(p.SocketMode, 0o600))
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

// listenUnix listens on a socket with these permissions, and replaces one that nobody listens on.
func listenUnix(ctx context.Context, path string, mode fs.FileMode) (net.Listener, error) {
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
	if err := os.Chmod(path, mode); err != nil {
		ln.Close()
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return ln, nil
}

// URL is where the listener is reached from this machine, by the first of its addresses, without a slash at the end; for a Unix socket unix:PATH.
func (l *Listener) URL() string { return l.urls[0] }

// URLs are where the listener is reached from this machine, as URL, one for each address.
func (l *Listener) URLs() []string { return l.urls }

func (p Policy) url(at net.Addr, secure bool) string {
	addr, ok := at.(*net.TCPAddr)
	if !ok {
		return p.Address
	}
	host := p.host()
	if addr.IP.IsUnspecified() {
		host = "127.0.0.1"
	}
	scheme := "http://"
	if secure {
		scheme = "https://"
	}
	return scheme + net.JoinHostPort(host, fmt.Sprint(addr.Port))
}

// HasToken reports whether requests must carry a token.
func (l *Listener) HasToken() bool { return l.token != "" }
