package privacy

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles"
	"github.com/sonde-io/sonde/profiles/store"
)

// Sink takes what was gathered; *store.Store and *forward.Forwarder are sinks.
type Sink interface {
	Append(ctx context.Context, p store.Push) error
}

// Sink returns a sink that hands on to next what may leave of each push; next itself where all may.
func (f *Filter) Sink(next Sink) Sink {
	if f == nil {
		return next
	}
	return &sink{f: f, next: next}
}

type sink struct {
	f    *Filter
	next Sink
}

// Append implements Sink. The push handed in is left as it is: a gatherer may hand it in again.
func (s *sink) Append(ctx context.Context, p store.Push) error {
	bufs := scratchPool.Get().(*scratch)
	defer bufs.release() // next does not keep the data
	if p.Process != nil {
		row := s.f.Process(*p.Process)
		p.Process = &row
	}
	p.Build = s.f.Build(p.Build)
	p.Events = s.f.Events(p.Events)
	out := make([]store.Profile, len(p.Profiles))
	for i, pr := range p.Profiles {
		pr.Labels = s.f.Labels(pr.Labels)
		pr.Data = s.f.profile(pr.Data, bufs)
		out[i] = pr
	}
	p.Profiles = out
	return s.next.Append(ctx, p)
}

// Process returns p as it may leave.
func (f *Filter) Process(p catalog.Process) catalog.Process {
	if f == nil {
		return p
	}
	p.Labels, p.Reason, p.Build = f.Labels(p.Labels), f.value(p.Reason), f.Build(p.Build)
	if len(p.Conditions) > 0 {
		conditions := make(map[string]string, len(p.Conditions))
		for key, value := range p.Conditions {
			conditions[key] = f.value(value)
		}
		p.Conditions = conditions
	}
	return p
}

// Processes returns ps as they may leave: for the rows that discovery reports.
func (f *Filter) Processes(ps []catalog.Process) []catalog.Process {
	if f == nil || f.redact == nil {
		return ps
	}
	out := make([]catalog.Process, len(ps))
	for i, p := range ps {
		out[i] = f.Process(p)
	}
	return out
}

// buildKey tells builds apart as far as their info does.
type buildKey struct {
	id   string
	size int
}

// Build returns b as it may leave: linker flags may set what a pattern matches.
func (f *Filter) Build(b *catalog.Build) *catalog.Build {
	if f == nil || f.redact == nil || b == nil || b.Info == "" {
		return b
	}
	key := buildKey{b.ID, len(b.Info)}
	f.mu.RLock()
	info, ok := f.builds[key]
	f.mu.RUnlock()
	if !ok {
		info, _ = f.Text(b.Info)
		f.mu.Lock()
		if len(info) <= 64<<10 { // a longer one is worked out every time
			if len(f.builds) >= maxCached/16 {
				clear(f.builds)
			}
			f.builds[key] = info
		}
		f.mu.Unlock()
	}
	if info == b.Info {
		return b
	}
	c := *b
	c.Info = info
	return &c
}

// Events returns es as they may leave: their texts and the values of their attributes.
func (f *Filter) Events(es []catalog.Event) []catalog.Event {
	if f == nil || f.redact == nil || len(es) == 0 {
		return es
	}
	out := make([]catalog.Event, len(es))
	for i, e := range es {
		e.Text, _ = f.Text(e.Text)
		if len(e.Attrs) > 0 {
			e.Attrs = maps.Clone(e.Attrs)
			for k, v := range e.Attrs {
				if k != "instance" {
					e.Attrs[k], _ = f.Text(v)
				}
			}
		}
		out[i] = e
	}
	return out
}

// scratch holds what one push needs while it is handed on.
type scratch struct {
	profiles []*profiles.Profile
	used     int
	values   map[string]string // of labels: redacted
}

// maxScratch bounds what is kept of a push for the next one, in samples and labels.
const maxScratch = 1 << 16

var scratchPool = sync.Pool{New: func() any { return &scratch{values: map[string]string{}} }}

func (b *scratch) release() {
	kept := b.profiles[:0]
	for _, p := range b.profiles {
		if cap(p.Samples) <= maxScratch && cap(p.Labels) <= maxScratch && len(kept) < 8 {
			clear(p.Labels[:cap(p.Labels)]) // their strings are the sender's
			*p = profiles.Profile{Samples: p.Samples[:0], Labels: p.Labels[:0]}
			kept = append(kept, p)
		}
	}
	clear(b.profiles[len(kept):])
	b.profiles, b.used = kept, 0
	clear(b.values)
	scratchPool.Put(b)
}

func (b *scratch) next() *profiles.Profile {
	if b.used == len(b.profiles) {
		b.profiles = append(b.profiles, &profiles.Profile{})
	}
	b.used++
	return b.profiles[b.used-1]
}

// profile returns p as it may leave: p itself where nothing of it is concerned, else a copy that shares its stacks and values.
func (f *Filter) profile(p *profiles.Profile, b *scratch) *profiles.Profile {
	if p == nil || len(p.Labels) == 0 && (f.redact == nil || len(p.Comments) == 0) {
		return p
	}
	c := b.next()
	samples, ls := c.Samples[:0], c.Labels[:0]
	*c = *p
	c.Comments = f.comments(p.Comments)
	if len(p.Labels) == 0 {
		c.Samples, c.Labels = p.Samples, nil
		return c
	}
	var from, to profiles.Span // of the sample before: neighbours share their labels
	for _, s := range p.Samples {
		if s.Labels != from || s.Labels.Len() == 0 {
			from = s.Labels
			to.Lo = uint32(len(ls))
			ls = f.sampleLabels(ls, p.Labels[from.Lo:from.Hi], b)
			to.Hi = uint32(len(ls))
		}
		s.Labels = to
		samples = append(samples, s)
	}
	c.Samples, c.Labels = samples, ls
	return c
}

// sampleLabels appends what may leave of one sample's labels to dst.
func (f *Filter) sampleLabels(dst, from []profiles.SampleLabel, b *scratch) []profiles.SampleLabel {
	first, changed := len(dst), false
	for _, l := range from {
		if !f.Keeps(l.Key) {
			continue
		}
		if !l.Numeric && f.redact != nil {
			v, ok := b.values[l.Str]
			if !ok {
				v = f.value(l.Str)
				b.values[l.Str] = v
			}
			changed = changed || v != l.Str
			l.Str = v
		}
		dst = append(dst, l)
	}
	if changed { // a profile's labels are sorted, and two that became one are one
		own := dst[first:]
		slices.SortFunc(own, func(x, y profiles.SampleLabel) int {
			return cmp.Or(strings.Compare(x.Key, y.Key), strings.Compare(x.Str, y.Str), cmp.Compare(x.Num, y.Num))
		})
		dst = dst[:first+len(slices.Compact(own))]
	}
	return dst
}

func (f *Filter) comments(cs []string) []string {
	if f.redact == nil || len(cs) == 0 {
		return cs
	}
	out := make([]string, len(cs))
	for i, c := range cs {
		out[i], _ = f.Text(c)
	}
	return out
}
