package collector

import (
	"bytes"
	"context"
	"io"

	"github.com/sonde-io/sonde/collector/capture"
	"github.com/sonde-io/sonde/collector/inspect"
	"github.com/sonde-io/sonde/profiles/store"
)

// observed is the sink that lets the triggers see what is gathered.
type observed struct {
	g    *gatherers
	next sink
}

// Append implements sink.
func (o observed) Append(ctx context.Context, p store.Push) error {
	if t := o.g.trigger; t != nil && p.Process != nil {
		for i := range p.Profiles {
			t.Observe(p.Process.Instance, p.Profiles[i].Type, p.Profiles[i].Data)
		}
	}
	return o.next.Append(ctx, p)
}

// late is the gatherers as one executor, for those that are made before they are.
type late struct{ g *gatherers }

func (l late) Instances() []string { return l.g.executors().Instances() }

func (l late) Capture(ctx context.Context, t capture.Task) (string, io.ReadCloser, error) {
	return l.g.executors().Capture(ctx, t)
}

// fromMemory takes captures out of the memory of processes.
type fromMemory struct{ *inspect.Inspector }

func (m fromMemory) Instances() []string {
	var watched []string
	for _, st := range m.Status() {
		watched = append(watched, st.Instance)
	}
	return watched
}

func (m fromMemory) Capture(ctx context.Context, t capture.Task) (string, io.ReadCloser, error) {
	if t.Kind != capture.Goroutines {
		kinds := []string{capture.Goroutine, capture.Heap, capture.Mutex, capture.Block}
		return capture.Profiler{Name: "memory", Kinds: kinds, List: m.Instances, Take: m.Inspector.Capture}.Capture(ctx, t)
	}
	text, err := m.Text(ctx, t.Instance)
	if err != nil {
		return "", nil, err
	}
	return capture.ContentType(t.Kind), io.NopCloser(bytes.NewReader(text)), nil
}

// executors are what takes captures of the processes that are gathered here, the one that disturbs them least first.
func (g *gatherers) executors() capture.Executors {
	es := capture.Executors{g.filter.Executor(g.scraper)}
	if g.memory != nil {
		es = append(es, g.filter.Executor(fromMemory{g.memory}))
	}
	if g.perf != nil {
		es = append(es, g.filter.Executor(capture.Profiler{Name: "perf", Kinds: []string{capture.CPU, capture.OffCPU}, Take: g.perf.Capture, List: func() []string {
			var watched []string
			for _, st := range g.perf.Status() {
				watched = append(watched, st.Instance)
			}
			return watched
		}}))
	}
	return es
}
