package privacy

import (
	"bytes"
	"context"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/series"
	"github.com/sonde-io/sonde/collector/wire"
)

// Series returns an appender that hands on to next what may leave of each batch; next itself where all may. Names of metrics are let through, as those of functions are.
//
// A series with a label that DropLabels names is left out, and so are series of a batch that are the same once their values are redacted: with one label less, several series would be one, which tells lies.
// KeepLabels is of samples of profiles only: le, quantile and version are labels of series.
func (f *Filter) Series(next series.Appender) series.Appender {
	if f == nil {
		return next
	}
	return &appender{f: f, next: next}
}

type appender struct {
	f    *Filter
	next series.Appender
}

// AppendSeries implements series.Appender. The batches handed in are left as they are.
func (a *appender) AppendSeries(ctx context.Context, batches ...series.Batch) error {
	out := make([]series.Batch, len(batches))
	for i, b := range batches {
		out[i] = a.f.batch(b)
	}
	return a.next.AppendSeries(ctx, out...)
}

// batch returns b as it may leave.
func (f *Filter) batch(b series.Batch) series.Batch {
	b.Process = f.Labels(b.Process)
	samples := make([]series.Sample, 0, len(b.Samples))
	changed := map[uint64]labels.Labels{} // by the hash of what they became: what they were; empty: several
	var last, now labels.Labels
	leaves := false
	for i, s := range b.Samples {
		if i == 0 || !labels.Equal(s.Labels, last) {
			last = s.Labels
			now, leaves = f.own(s.Labels)
			if leaves && !labels.Equal(now, last) {
				hash, from := now.Hash(), last
				if was, ok := changed[hash]; ok && !labels.Equal(was, last) {
					from = labels.EmptyLabels()
				}
				changed[hash] = from
			}
		}
		if leaves {
			s.Labels = now
			samples = append(samples, s)
		}
	}
	if len(changed) > 0 {
		kept := samples[:0]
		for _, s := range samples {
			if was, ok := changed[s.Labels.Hash()]; !ok || !was.IsEmpty() {
				kept = append(kept, s)
			}
		}
		samples = kept
	}
	f.leftOut.Add(int64(len(b.Samples) - len(samples)))
	b.Samples = samples
	b.Metadata = f.metadata(b.Metadata)
	return b
}

// LeftOut returns how many samples of series did not leave.
func (f *Filter) LeftOut() int64 {
	if f == nil {
		return 0
	}
	return f.leftOut.Load()
}

// own returns a series' own labels as they may leave, and whether it may.
func (f *Filter) own(ls labels.Labels) (out labels.Labels, leaves bool) {
	out, leaves = ls, true
	var b *labels.Builder
	ls.Range(func(l labels.Label) {
		if l.Name == model.MetricNameLabel {
			return
		}
		if len(f.drop) > 0 && matches(f.drop, l.Name) {
			leaves = false
		}
		if v := f.value(l.Value); v != l.Value && !identity(l.Name) {
			if b == nil {
				b = labels.NewBuilder(ls)
			}
			b.Set(l.Name, v)
		}
	})
	if b != nil {
		out = b.Labels()
	}
	return out, leaves
}

func (f *Filter) metadata(ms []series.Metadata) []series.Metadata {
	if f.redact == nil || len(ms) == 0 {
		return ms
	}
	out := make([]series.Metadata, len(ms))
	for i, m := range ms {
		m.Help, _ = f.Text(m.Help)
		out[i] = m
	}
	return out
}

// Bytes returns b without what a pattern matches: for lines, before they are compressed. b is not changed.
func (f *Filter) Bytes(b []byte) []byte {
	if f == nil || f.redact == nil || len(b) == 0 || !f.redact.Match(b) {
		return b
	}
	return f.redact.ReplaceAllLiteral(bytes.Clone(b), []byte(Redacted))
}

// Lines returns a sink that hands on to next the labels of lines as they may leave; next itself where all may. Their text is compressed by then: it passes Bytes before.
func (f *Filter) Lines(next wire.LinesSink) wire.LinesSink {
	if f == nil {
		return next
	}
	return &linesSink{f: f, next: next}
}

type linesSink struct {
	f    *Filter
	next wire.LinesSink
}

// AppendLines implements wire.LinesSink.
func (s *linesSink) AppendLines(ctx context.Context, c wire.LinesChunk) error {
	c.Process, c.Source = s.f.Labels(c.Process), s.f.value(c.Source)
	return s.next.AppendLines(ctx, c)
}
