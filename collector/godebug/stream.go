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
	named bool // both have their process
}

func newStream(set *File, source string, o origin, redact func([]byte) []byte) *stream {
	s := &stream{set: set, source: source, origin: o, splits: map[string]*Splitter{}}
	s.rec = Recorder{Source: source, Redact: redact, Sampler: Sampler{Files: true}}
	return s
}

// add takes one entry that was read at the time now, Unix ms.
func (s *stream) add(e entry, now int64) {
	s.at, s.rec.Sampler.stamped = e.at, e.at != 0
	if s.at == 0 {
		s.at = now
	}
	split := s.splits[e.stream]
	if split == nil {
		split = NewSplitter(AllTraces, func([]byte) error { return nil }, s.line)
		s.splits[e.stream] = split
	}
	_ = split.Write(e.text) // pass never fails
}

// line takes a line of a trace. Before the recorder would leave anything out it is emptied: who reads the log sees that something is pending, and hands it over before more is read.
func (s *stream) line(text []byte, l *Line) {
	s.rec.Add(text, l, s.at)
	if s.rec.Full() {
		s.gather(false)
	}
}

// gather moves what was recorded to what is handed over next; flush ends a scheddetail that may go on, too.
func (s *stream) gather(flush bool) {
	if t := s.rec.Take(flush); len(t.Samples) > 0 || t.Lines != nil {
		s.pending = append(s.pending, handed{batch: series.Batch{Samples: t.Samples}, lines: t.Lines})
	}
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

// take gives what was gathered its process, and returns how many lines that are. flush: nothing more is there to be read for now.
func (s *stream) take(ls labels.Labels, flush bool) (lines int) {
	s.gather(flush && s.clean())
	for i := range s.pending {
		h := &s.pending[i]
		if h.named {
			continue
		}
		h.named, h.batch.Process = true, ls
		if h.lines != nil {
			h.lines.Process = ls
			lines += h.lines.Count
		}
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
	m := &s.rec.Sampler
	m.Started, m.sched, m.cycle = p.Started, p.Sched, p.Cycle
	m.told = [...]told{ofGC: {seen: p.Cycle != 0, own: p.GCAt}, ofSched: {seen: p.Sched != 0, own: p.SchedAt}, ofInit: {}}
}

func (s *stream) position() position {
	m := &s.rec.Sampler
	return position{Started: m.Started, Sched: m.sched, Cycle: m.cycle, GCAt: m.told[ofGC].own, SchedAt: m.told[ofSched].own}
}
