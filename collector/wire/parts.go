package wire

import (
	"context"

	"github.com/prometheus/prometheus/model/labels"
)

// The bounds of the metrics and lines of one push.
const (
	MaxMetricsBytes  = 1 << 20 // of a WriteRequest
	MaxMetricSamples = 20_000
	MaxLinesBytes    = 1 << 20 // of the text of one part
	MaxLinesParts    = 64
)

// Part is one of the parts that follow the meta object, in the order in which a record has them: the profiles, the metrics, the lines.
type Part struct {
	Name string
	Kind PartKind
}

// PartKind says what a part holds.
type PartKind string

// The kinds of parts.
const (
	PartProfile PartKind = "profile"
	PartMetrics PartKind = "metrics"
	PartLines   PartKind = "lines"
)

// Parts returns the parts that m lists.
func (m *Meta) Parts() []Part {
	out := make([]Part, 0, len(m.Profiles)+len(m.Lines)+1)
	for i := range m.Profiles {
		out = append(out, Part{m.Profiles[i].Part, PartProfile})
	}
	if m.Metrics != "" {
		out = append(out, Part{m.Metrics, PartMetrics})
	}
	for i := range m.Lines {
		out = append(out, Part{m.Lines[i].Part, PartLines})
	}
	return out
}

// Unregistered reports whether m, of a record, holds metrics and lines and nothing else: it is about no process, its series and lines carry all their labels, and to take it twice changes nothing.
func (m *Meta) Unregistered() bool {
	nothing := m.Instance == "" && m.Key == "" && m.Window == 0 && m.Idempotency == "" && (len(m.Process) == 0 || string(m.Process) == "null") && len(m.Profiles)+len(m.Events)+len(m.Seen) == 0
	return nothing && (m.Metrics != "" || len(m.Lines) > 0)
}

// LinesChunk is a chunk of lines of one process on its way to whoever keeps them.
type LinesChunk struct {
	Process   labels.Labels // of the process, service_name among them
	Source    string        // as in Lines
	From, To  int64         // Unix ms
	Count     int
	Gzip      []byte // the text, each line ended by a line break
	TextBytes int    // of it
	// Key is the same for the same chunk that comes again, which is then kept once. "": by what it holds.
	Key string
}

// LinesSink keeps lines. A nil error says that the chunk is kept, or was before; nothing of it is held on to after AppendLines returns.
type LinesSink interface {
	AppendLines(ctx context.Context, c LinesChunk) error
}
