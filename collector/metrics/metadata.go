package metrics

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/scrape"

	"github.com/sonde-io/sonde/collector/series"
)

const (
	metaFile     = "metadata.json" // an array of names with type, help and unit
	maxMetadata  = 10_000          // names; what comes later is not kept
	maxHelpBytes = 1024
)

// metaStore keeps what is known of names that the vocabulary does not know.
type metaStore struct {
	path string

	mu     sync.Mutex
	byName map[string]scrape.MetricMetadata
	dirty  bool
}

func openMeta(path string) (*metaStore, error) {
	m := &metaStore{path: path, byName: map[string]scrape.MetricMetadata{}}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err != nil {
		return nil, err
	}
	var all []scrape.MetricMetadata
	if err := json.Unmarshal(b, &all); err != nil {
		return nil, fmt.Errorf("read %s: %w (it can be deleted: help and types are learnt again)", path, err)
	}
	for _, x := range all {
		m.byName[x.MetricFamily] = x
	}
	return m, nil
}

func (m *metaStore) put(x series.Metadata) {
	if x.Name == "" {
		return
	}
	if len(x.Help) > maxHelpBytes {
		x.Help = strings.ToValidUTF8(x.Help[:maxHelpBytes], "")
	}
	if x.Type == "" {
		x.Type = model.MetricTypeUnknown
	}
	want := scrape.MetricMetadata{MetricFamily: x.Name, Type: x.Type, Help: x.Help, Unit: x.Unit}
	m.mu.Lock()
	defer m.mu.Unlock()
	old, ok := m.byName[x.Name]
	if old == want || !ok && len(m.byName) >= maxMetadata {
		return
	}
	// What lives on is a copy: the message that these were cut out of may be large.
	want.MetricFamily, want.Help, want.Unit = strings.Clone(want.MetricFamily), strings.Clone(want.Help), strings.Clone(want.Unit)
	m.byName[want.MetricFamily] = want
	m.dirty = true
}

func (m *metaStore) get(name string) (scrape.MetricMetadata, bool) {
	m.mu.Lock()
	x, ok := m.byName[name]
	m.mu.Unlock()
	if ok {
		return x, true
	}
	known, ok := series.Describe(name)
	return scrape.MetricMetadata{MetricFamily: name, Type: known.Type, Help: known.Help, Unit: known.Unit}, ok
}

func (m *metaStore) save() error {
	m.mu.Lock()
	dirty := m.dirty
	m.dirty = false
	m.mu.Unlock()
	if !dirty {
		return nil
	}
	if err := m.saveTo(m.path); err != nil {
		m.mu.Lock()
		m.dirty = true
		m.mu.Unlock()
		return err
	}
	return nil
}

// saveTo writes all to path. It is not synced: what is lost is learnt again.
func (m *metaStore) saveTo(path string) error {
	m.mu.Lock()
	all := make([]scrape.MetricMetadata, 0, len(m.byName))
	for _, x := range m.byName {
		all = append(all, x)
	}
	m.mu.Unlock()
	slices.SortFunc(all, func(a, b scrape.MetricMetadata) int { return strings.Compare(a.MetricFamily, b.MetricFamily) })
	b, err := json.MarshalIndent(all, "", " ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".tmp", b, 0o600); err != nil {
		return errors.Join(err, os.Remove(path+".tmp"))
	}
	return os.Rename(path+".tmp", path)
}
