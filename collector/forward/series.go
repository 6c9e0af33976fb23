package forward

import (
	"bytes"
	"context"
	"fmt"

	"github.com/klauspost/compress/gzip"

	"github.com/sonde-io/sonde/collector/forward/spool"
	"github.com/sonde-io/sonde/collector/series"
	"github.com/sonde-io/sonde/collector/wire"
)

// seriesPiece is how many samples are encoded at once: with their labels they seldom pass the bound of a record.
const seriesPiece = 2000

// AppendSeries keeps metrics of this machine, those of many processes in one record: they carry their labels, job and instance among them. They are on disk when it returns nil.
func (f *Forwarder) AppendSeries(ctx context.Context, batches ...series.Batch) error {
	r := &seriesRecords{f: f}
	for _, b := range batches {
		b.Process = series.WithTarget(b.Process)
		for {
			piece := b
			piece.Samples = b.Samples[:min(len(b.Samples), seriesPiece)]
			if err := r.add(piece); err != nil {
				return err
			}
			if b.Samples, b.Metadata = b.Samples[len(piece.Samples):], nil; len(b.Samples) == 0 {
				break
			}
		}
	}
	if err := r.flush(); err != nil || len(r.out) == 0 {
		return err
	}
	if err := f.keep(ctx, r.out...); err != nil {
		return err
	}
	f.metrics.samples.WithLabelValues("kept").Add(float64(r.kept))
	f.metrics.samples.WithLabelValues("dropped").Add(float64(r.dropped))
	return nil
}

// seriesRecords makes records of samples, each as large as a collector takes.
type seriesRecords struct {
	f       *Forwarder
	msg     []byte // encoded messages, one after the other: together they are one
	samples int    // in msg
	out     []*spool.Push

	kept, dropped int
}

// add encodes b. What does not fit into one record goes into several; a single sample that does not is counted.
func (r *seriesRecords) add(b series.Batch) error {
	msg, err := series.Encode(&b, true)
	if err != nil {
		return fmt.Errorf("encode metrics: %w", err)
	}
	n := len(b.Samples)
	if len(msg) > wire.MaxMetricsBytes {
		if n < 2 {
			r.dropped += n
			return nil
		}
		first, second := b, b
		first.Samples, second.Samples, second.Metadata = b.Samples[:n/2], b.Samples[n/2:], nil
		if err := r.add(first); err != nil {
			return err
		}
		return r.add(second)
	}
	if len(r.msg)+len(msg) > wire.MaxMetricsBytes || r.samples+n > wire.MaxMetricSamples {
		if err := r.flush(); err != nil {
			return err
		}
	}
	r.msg = append(r.msg, msg...)
	r.samples += n
	r.kept += n
	return nil
}

// flush makes a record of what is encoded.
func (r *seriesRecords) flush() error {
	if len(r.msg) == 0 {
		return nil
	}
	var buf bytes.Buffer
	zip, err := gzip.NewWriterLevel(&buf, gzip.BestSpeed)
	if err == nil {
		_, err = zip.Write(r.msg)
	}
	if err == nil {
		err = zip.Close()
	}
	if err != nil {
		return fmt.Errorf("compress metrics: %w", err)
	}
	p, err := r.f.unregistered(&wire.Meta{Metrics: "metrics"}, "", buf.Bytes())
	if err != nil {
		return err
	}
	r.out = append(r.out, p)
	r.msg, r.samples = r.msg[:0], 0
	return nil
}

// AppendLines keeps lines that a process of this machine printed: they are on disk when it returns nil.
func (f *Forwarder) AppendLines(ctx context.Context, c wire.LinesChunk) error {
	m := &wire.Meta{Lines: []wire.Lines{{Part: "lines", Source: c.Source, From: c.From, To: c.To, Count: c.Count, Labels: c.Process.Map()}}}
	p, err := f.unregistered(m, c.Process.Get(instanceLabel), c.Gzip)
	if err != nil {
		return err
	}
	return f.keep(ctx, p)
}

// unregistered makes a record that is about no process, of one part. What has the same order stays in it.
func (f *Forwarder) unregistered(m *wire.Meta, order string, part []byte) (*spool.Push, error) {
	m.V, m.Profiles = wire.Version, []wire.Entry{}
	f.interval(m, nil)
	p := &spool.Push{Profiles: [][]byte{part}}
	return p, f.finish(p, m, order)
}
