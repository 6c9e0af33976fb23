package metrics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/storage/remote"
	"go.yaml.in/yaml/v3"
)

// RemoteWrites are the servers to which all that is stored is sent on, as Prometheus' configuration has them under remote_write, with two defaults of our own: where an entry does not
// say it, protobuf_message is io.prometheus.write.v2.Request and send_native_histograms is true, since histograms of Go's runtime are native ones with buckets of their own,
// which remote-write 1.0 cannot carry. A server that knows 1.0 only wants protobuf_message: prometheus.WriteRequest, and goes without these.
type RemoteWrites []yaml.Node

// Validate returns an error that names what is wrong.
func (r RemoteWrites) Validate() error {
	_, err := r.config("")
	return err
}

// config reads the entries as Prometheus does. Relative names of files begin in dir.
func (r RemoteWrites) config(dir string) (*config.Config, error) {
	all := make([]yaml.Node, len(r))
	for i, n := range r {
		if n.Kind != yaml.MappingNode {
			return nil, fmt.Errorf("setting metrics.remote_write: want a list of entries with url and more, line %d is none", n.Line)
		}
		n.Content = slices.Clone(n.Content)
		setDefault(&n, "protobuf_message", "io.prometheus.write.v2.Request")
		setDefault(&n, "send_native_histograms", "true")
		all[i] = n
	}
	text, err := yaml.Marshal(map[string]any{"remote_write": all})
	if err != nil {
		return nil, fmt.Errorf("setting metrics.remote_write: %w", err)
	}
	cfg, err := config.Load(string(text), promslog.NewNopLogger())
	if err != nil {
		return nil, fmt.Errorf("setting metrics.remote_write: as in Prometheus' configuration: %w", err)
	}
	for _, w := range cfg.RemoteWriteConfigs {
		w.SetDirectory(dir)
	}
	return cfg, nil
}

// setDefault adds a key to a mapping that does not have it.
func setDefault(n *yaml.Node, key, value string) {
	for i := 0; i < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return
		}
	}
	n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: key}, &yaml.Node{Kind: yaml.ScalarNode, Value: value})
}

// RemoteWriterConfig configures a RemoteWriter.
type RemoteWriterConfig struct {
	To            RemoteWrites
	Dir           string                // where relative names of files in To begin
	FlushDeadline time.Duration         // how long what is queued is still sent at the end; 0: 10s
	Logger        *slog.Logger          // nil: none
	Registerer    prometheus.Registerer // nil: no metrics
}

// RemoteWriter sends what a Store takes on to other servers.
type RemoteWriter struct {
	storage *remote.Storage
	once    sync.Once
	closed  error
}

// NewRemoteWriter begins to follow the write-ahead log. It is called before anything is appended. It is closed, by the end of Run or by Close, before the Store.
// As with Prometheus nothing is lost while a server is away for less than the log reaches back (about two hours), but what a server did not take before this program ends is not sent later.
func (s *Store) NewRemoteWriter(cfg RemoteWriterConfig) (*RemoteWriter, error) {
	to, err := cfg.To.config(cfg.Dir)
	if err != nil {
		return nil, err
	}
	if cfg.FlushDeadline <= 0 {
		cfg.FlushDeadline = 10 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	w := &RemoteWriter{storage: remote.NewStorage(cfg.Logger, cfg.Registerer, func() (int64, error) { return 0, nil }, s.cfg.Dir, cfg.FlushDeadline, nil, false)}
	s.db.SetWriteNotified(w.storage)
	if err := w.storage.ApplyConfig(to); err != nil {
		return nil, errors.Join(fmt.Errorf("begin remote write: %w", err), w.Close())
	}
	return w, nil
}

// Run sends until ctx ends, then what is queued, within FlushDeadline.
func (w *RemoteWriter) Run(ctx context.Context) error {
	<-ctx.Done()
	return w.Close()
}

// Close sends what is queued, within FlushDeadline, and ends. It may be called twice.
func (w *RemoteWriter) Close() error {
	w.once.Do(func() {
		if err := w.storage.Close(); err != nil {
			w.closed = fmt.Errorf("end remote write: %w", err)
		}
	})
	return w.closed
}
