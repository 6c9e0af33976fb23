package listen

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certificate is a pair of files that is read again when one of them changes: certificates are renewed more often than daemons restart.
type certificate struct {
	certFile, keyFile string
	logger            *slog.Logger

	mu     sync.Mutex
	loaded *tls.Certificate
	stamp  [2]stamp
}

type stamp struct {
	mod  time.Time
	size int64
}

func tlsConfig(certFile, keyFile string, logger *slog.Logger) (*tls.Config, error) {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	c := &certificate{certFile: certFile, keyFile: keyFile, logger: logger}
	c.stamp = c.stat()
	if err := c.load(); err != nil {
		return nil, fail("both files are PEM, the key belonging to the first certificate of the chain", "read TLS certificate: %w", err)
	}
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current(), nil },
	}, nil
}

func (c *certificate) load() error {
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("%s, %s: %w", c.certFile, c.keyFile, err)
	}
	c.loaded = &pair
	return nil
}

func (c *certificate) stat() (s [2]stamp) {
	for i, name := range []string{c.certFile, c.keyFile} {
		if st, err := os.Stat(name); err == nil {
			s[i] = stamp{st.ModTime(), st.Size()}
		}
	}
	return s
}

// current returns the certificate, read again if its files have changed. What cannot be read leaves the one before in force: the files are written
// one after the other, so a mismatch is mostly a moment's, and the next change is looked at again.
func (c *certificate) current() *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := c.stat(); now != c.stamp {
		c.stamp = now
		if err := c.load(); err != nil {
			c.logger.Warn("TLS certificate changed and cannot be read, the one before stays in force", "error", err)
		} else {
			c.logger.Info("TLS certificate read again", "file", c.certFile)
		}
	}
	return c.loaded
}
