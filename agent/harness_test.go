package agent

import (
	"bytes"
	"io"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

func env(pairs ...string) func(string) string {
	m := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return func(k string) string { return m[k] }
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logBuffer) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func quick(t *testing.T, c *collector, d time.Duration, cfg Config) *Agent {
	t.Helper()
	before := agentGoroutines()
	cfg.URL, cfg.Service = c.URL, "test"
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	queue := cfg.QueueBytes
	a := start(cfg, effects{first: d, getenv: env(), tune: func(c *Config) {
		c.Period = d // below what Config allows
		if queue > 0 {
			c.QueueBytes = queue
		}
	}})
	t.Cleanup(func() {
		_ = a.Close() // the test looked at its error where it matters
		c.CloseClientConnections()
		wait(t, "the agent's goroutines to end", func() bool { return agentGoroutines() <= before })
	})
	return a
}

func agentGoroutines() int {
	buf := make([]byte, 1<<20)
	n := 0
	for _, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if strings.Contains(g, "agent.(*recorder).run") || strings.Contains(g, "agent.(*uploader).run") || strings.Contains(g, "runtime/pprof.profileWriter") {
			n++
		}
	}
	return n
}

func burn(until time.Time) (n int) {
	for time.Now().Before(until) {
		for i := range 10000 {
			n += i * i
		}
	}
	return n
}

func hasString(p []byte, s string) bool { return bytes.Contains(p, []byte(s)) }
