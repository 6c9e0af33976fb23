package godebug

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"maps"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/series"
	"github.com/sonde-io/sonde/collector/wire"
)

// Known is a process that logs may be of.
type Known struct {
	Labels      labels.Labels
	Started     int64 // Unix ms
	ContainerID string
	PodUID      string
	Container   string // its name in the pod
	PID         int
}

// stream takes the traces out of one log, or out of one process's part of a journal.
type stream struct {
	set     *File
	source  string
	origin  origin
	pid     int // of a journal; 0: not told
	splits  map[string]*Splitter
	rec     Recorder
	at      int64 // of the entry that is read, Unix ms
	pending []handed
}

// handed is what was taken and could not be handed over yet.
type handed struct {
	batch series.Batch
	lines *wire.LinesChunk
}

func newStream(set *File, source string, o origin, redact func([]byte) []byte) *stream {
	s := &stream{set: set, source: source, origin: o, splits: map[string]*Splitter{}}
	s.rec = Recorder{Source: source, Redact: redact, Sampler: Sampler{Files: true}}
	return s
}

// add takes one entry that was read at the time now, Unix ms.
func (s *stream) add(e entry, now int64) {
	s.at = e.at
	if s.at == 0 {
		s.at = now
	}
	split := s.splits[e.stream]
	if split == nil {
		split = NewSplitter(AllTraces, func([]byte) error { return nil }, func(text []byte, l *Line) { s.rec.Add(text, l, s.at) })
		s.splits[e.stream] = split
	}
	_ = split.Write(e.text) // pass never fails
}

// clean reports whether nothing is in the middle of a line: from here on the log can be read anew.
func (s *stream) clean() bool {
	for _, split := range s.splits {
		if len(split.held) > 0 {
			return false
		}
	}
	return true
}

// giveUp lets go what was begun and did not go on.
func (s *stream) giveUp() {
	for _, split := range s.splits {
		_ = split.Close()
	}
}

// take moves what was gathered to what is handed over next, and returns how many lines that are.
func (s *stream) take(ls labels.Labels) (lines int) {
	if s.rec.Empty() && s.rec.Sampler.block == nil {
		return 0
	}
	t := s.rec.Take(s.clean())
	if t.Lines != nil {
		t.Lines.Process, lines = ls, t.Lines.Count
	}
	if len(t.Samples) > 0 || t.Lines != nil {
		s.pending = append(s.pending, handed{batch: series.Batch{Process: ls, Samples: t.Samples}, lines: t.Lines})
	}
	return lines
}

// hand hands over what was taken. After an error it is tried again.
func (s *stream) hand(ctx context.Context, to series.Appender, lines wire.LinesSink) error {
	for len(s.pending) > 0 {
		h := &s.pending[0]
		if len(h.batch.Samples) > 0 && to != nil {
			if err := to.AppendSeries(ctx, h.batch); err != nil {
				return err
			}
		}
		if h.lines != nil && lines != nil {
			if err := lines.AppendLines(ctx, *h.lines); err != nil {
				return err
			}
		}
		s.pending = s.pending[1:]
	}
	return nil
}

// labels are those of the process that writes the log, with when that started, 0: not known.
func (s *stream) labels(known []Known, host string) (labels.Labels, int64) {
	ls, started := map[string]string{}, int64(0)
	for i := range known {
		if k := &known[i]; s.isOf(k) {
			ls, started = k.Labels.Map(), k.Started
			break
		}
	}
	if len(ls) == 0 {
		sum := sha256.Sum256([]byte("sonde log\x00" + host + "\x00" + s.source))
		ls["service_name"], ls["service_instance_id"] = s.origin.name, hex.EncodeToString(sum[:16])
		if host != "" {
			ls["host_name"] = host
		}
		if s.origin.container != "" {
			ls["container_id"] = s.origin.container
		}
	}
	if s.set.Service != "" {
		ls["service_name"] = s.set.Service
	}
	maps.Copy(ls, s.set.Labels)
	return labels.FromMap(ls), started
}

func (s *stream) isOf(k *Known) bool {
	switch {
	case s.pid != 0:
		return k.PID == s.pid
	case s.origin.container != "":
		return k.ContainerID == s.origin.container
	case s.origin.podUID != "":
		return k.PodUID == s.origin.podUID && (k.Container == "" || k.Container == s.origin.name)
	}
	return false
}

// restore and position carry over what times count from, so that what is read again after a start has the same.
func (s *stream) restore(p position) {
	s.rec.Sampler.Started, s.rec.Sampler.sched, s.rec.Sampler.cycle = p.Started, p.Sched, p.Cycle
}

func (s *stream) position() position {
	return position{Started: s.rec.Sampler.Started, Sched: s.rec.Sampler.sched, Cycle: s.rec.Sampler.cycle}
}
