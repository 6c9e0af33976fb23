package forward

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/forward/spool"
	"github.com/sonde-io/sonde/collector/wire"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles"
	"github.com/sonde-io/sonde/profiles/store"
)

const (
	serviceLabel  = "service_name"
	instanceLabel = "service_instance_id"
)

// Append keeps a push of a gatherer of this machine, encoded as an agent would: it is on disk when Append returns nil. p.Taken is called before
// the wait for the disk. Errors: store.ErrInvalid for what the collector would not take, ctx's, and the spool's.
func (f *Forwarder) Append(ctx context.Context, p store.Push) error {
	e := encoders.Get().(*encoder)
	defer e.put()
	out, err := f.encode(e, &p)
	if err != nil {
		return err
	}
	if p.Taken != nil {
		p.Taken()
	}
	return f.keep(ctx, out)
}

// keep appends to the spool and counts what could not be kept.
func (f *Forwarder) keep(ctx context.Context, pushes ...*spool.Push) error {
	err := f.spool.Append(ctx, pushes...)
	if err != nil && ctx.Err() == nil {
		f.metrics.keepErrors.Inc()
		if first, n := f.quiet.say("keep", f.cfg.Now()); first {
			f.log.Error("cannot keep a push in the spool", "error", err, "since_last", n)
		}
	}
	return err
}

// encode makes the record of p.
func (f *Forwarder) encode(e *encoder, p *store.Push) (*spool.Push, error) {
	process, own := processOf(p)
	m := wire.Meta{V: wire.Version, Window: p.Key.Window, Part: p.Key.Part, Idempotency: p.Key.Idempotency, Profiles: []wire.Entry{}}
	out := &spool.Push{}
	if process != nil {
		if own.Get(serviceLabel) == "" {
			return nil, fmt.Errorf("%w: a process without %s", store.ErrInvalid, serviceLabel)
		}
		object := wire.ProcessOf(process, p.Build)
		var err error
		if out.Process, out.Hash, err = object.Encode(); err != nil {
			return nil, fmt.Errorf("encode process %s: %w", process.Instance, err)
		}
		out.Instance, out.Service = process.Instance, own.Get(serviceLabel)
		m.Instance, m.ProcessHash = process.Instance, out.Hash
	}
	if m.Idempotency == "" {
		if m.Key = p.Key.Instance; m.Key == m.Instance {
			m.Key = ""
		}
		if p.Key.Instance == "" { // on the way it may be sent twice, which must not store it twice
			m.Window, m.Part, m.Idempotency = 0, 0, "relay-"+rand.Text()
		}
	}
	for _, ev := range p.Events {
		m.Events = append(m.Events, wire.EventOf(ev))
	}
	for i := range p.Profiles {
		pr := &p.Profiles[i]
		entry := wire.Entry{Part: strconv.Itoa(i), Type: pr.Type, Start: pr.Start, End: pr.End}
		if !labels.Equal(pr.Labels, own) {
			entry.Labels = pr.Labels.Map()
		}
		m.Profiles = append(m.Profiles, entry)
		raw, err := e.profile(pr.Data)
		if err != nil {
			return nil, fmt.Errorf("encode profile of %s: %w", pr.Type, err)
		}
		out.Profiles = append(out.Profiles, raw)
	}
	f.interval(&m, process)
	return out, f.finish(out, &m, cmp.Or(m.Instance, m.Key, m.Idempotency))
}

// processOf returns the process that a push is about, nil where it is about none, and the labels that the collector will give its profiles.
func processOf(p *store.Push) (*catalog.Process, labels.Labels) {
	switch {
	case p.Process == nil && len(p.Profiles) == 0:
		return nil, labels.EmptyLabels()
	case p.Process == nil: // nobody is to remember it
		ls := labels.NewBuilder(p.Profiles[0].Labels).Del(instanceLabel).Labels()
		return &catalog.Process{Labels: ls, Gatherer: "push"}, ls
	}
	process := *p.Process
	if process.Labels.IsEmpty() && len(p.Profiles) > 0 {
		process.Labels = p.Profiles[0].Labels
	}
	b := labels.NewBuilder(process.Labels)
	if process.Labels.Get(serviceLabel) == "" {
		b.Set(serviceLabel, process.Service)
	}
	process.Labels = b.Set(instanceLabel, process.Instance).Labels()
	return &process, process.Labels
}

// interval sets what m is about in time: its profiles, else when the process was seen.
func (f *Forwarder) interval(m *wire.Meta, process *catalog.Process) {
	for _, e := range m.Profiles {
		if m.Start == 0 || e.Start < m.Start {
			m.Start = e.Start
		}
		m.End = max(m.End, e.End)
	}
	if process != nil && process.LastSeen > m.End {
		m.End = process.LastSeen
	}
	if m.End == 0 {
		m.End = f.cfg.Now().UnixMilli()
	}
	// A check of the collector: it is at most a day long.
	if m.Start == 0 || m.End-m.Start > (24*time.Hour).Milliseconds() {
		m.Start = m.End - 1
	}
}

// finish fills in what all records have.
func (f *Forwarder) finish(out *spool.Push, m *wire.Meta, order string) (err error) {
	out.Lane, out.Start, out.End = laneOf(order), m.Start, m.End
	if out.Meta, err = json.Marshal(m); err != nil {
		return fmt.Errorf("encode meta: %w", err)
	}
	return nil
}

// own makes a record of what the sidecar itself tells; it is of a lane's order.
func (f *Forwarder) own(lane uint8, fill func(*wire.Meta)) (*spool.Push, error) {
	now := f.cfg.Now().UnixMilli()
	m := wire.Meta{V: wire.Version, Key: fmt.Sprintf("%s/%d", f.key, lane), Window: f.windows[lane].Add(1), Start: now - 1, End: now, Profiles: []wire.Entry{}}
	fill(&m)
	out := &spool.Push{}
	err := f.finish(out, &m, "")
	out.Lane = lane
	return out, err
}

// The bounds of one record of what the sidecar tells; the collector's are larger.
const (
	maxOwnEvents = 256
	maxOwnSeen   = 256
	maxOwnBytes  = 256 << 10 // about, of processes
)

// Events keeps events of this machine.
func (f *Forwarder) Events(ctx context.Context, es []catalog.Event) error {
	var pushes []*spool.Push
	for part := range slices.Chunk(es, maxOwnEvents) {
		p, err := f.own(laneOf(part[0].Attrs["instance"]), func(m *wire.Meta) {
			for _, e := range part {
				m.Events = append(m.Events, wire.EventOf(e))
			}
		})
		if err != nil {
			return err
		}
		pushes = append(pushes, p)
	}
	if len(pushes) == 0 {
		return nil
	}
	return f.keep(ctx, pushes...)
}

// Seen keeps what discovery tells of processes. What cannot be kept now is told with the next report.
func (f *Forwarder) Seen(ctx context.Context, ps []catalog.Process) {
	f.unseen.mu.Lock()
	defer f.unseen.mu.Unlock()
	if len(f.unseen.m) > 0 {
		for i := range ps {
			delete(f.unseen.m, ps[i].Instance)
		}
		ps = append(slices.Clone(ps), slices.Collect(maps.Values(f.unseen.m))...)
	}
	if len(ps) == 0 {
		return
	}
	pushes, err := f.seenPushes(ps)
	if err == nil {
		err = f.keep(ctx, pushes...)
	}
	if err == nil {
		f.unseen.m = nil
		return
	}
	if f.unseen.m == nil {
		f.unseen.m = map[string]catalog.Process{}
	}
	for _, p := range ps[:min(len(ps), maxUnseen)] {
		f.unseen.m[p.Instance] = p
	}
}

// seenPushes makes records of ps, each of processes of one lane: what is told of a process stays in the order of its pushes.
func (f *Forwarder) seenPushes(ps []catalog.Process) ([]*spool.Push, error) {
	lanes := make([][]wire.Seen, f.cfg.Lanes)
	for i := range ps {
		row := &ps[i]
		s := wire.Seen{Process: wire.ProcessOf(row, nil), Instance: row.Instance, LastSeen: row.LastSeen}
		if s.Labels[serviceLabel] == "" {
			if row.Service == "" {
				continue // the collector would not take it
			}
			s.Labels[serviceLabel] = row.Service
		}
		lane := int(laneOf(row.Instance)) % f.cfg.Lanes
		lanes[lane] = append(lanes[lane], s)
	}
	var out []*spool.Push
	for lane, all := range lanes {
		for len(all) > 0 {
			n, size := 0, 0
			for n < len(all) && n < maxOwnSeen && size < maxOwnBytes {
				size += 512 + len(all[n].Exe) + len(all[n].Reason) + 2*len(all[n].BuildInfo) // its line breaks and tabs are escaped
				for name, value := range all[n].Conditions {
					size += len(name) + len(value)
				}
				n++
			}
			p, err := f.own(uint8(lane), func(m *wire.Meta) { m.Seen = all[:n] })
			if err != nil {
				return nil, err
			}
			out, all = append(out, p), all[n:]
		}
	}
	return out, nil
}

// gapsPush makes the events that tell what the spool dropped.
func (f *Forwarder) gapsPush(a *spool.Account) (spool.Push, error) {
	now := f.cfg.Now().UnixMilli()
	clock := func(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }
	m := wire.Meta{V: wire.Version, Key: f.key + "/gaps", Window: f.gaps.Add(1), Start: now - 1, End: now, Profiles: []wire.Entry{}}
	for _, l := range a.Losses[:min(len(a.Losses), maxOwnEvents)] {
		of := cmp.Or(l.Service, "several services")
		m.Events = append(m.Events, wire.Event{Time: min(max(l.To, 1), now), Kind: "gap", Service: l.Service,
			Text: fmt.Sprintf("the sidecar on %s dropped %d windows of %s from %s to %s: its spool was full (spool_bytes)", f.cfg.Host, l.Pushes, of, clock(l.From), clock(l.To)),
			Attrs: map[string]string{"instance": l.Instance, "host": f.cfg.Host, "windows": strconv.FormatInt(l.Pushes, 10), "from": strconv.FormatInt(l.From, 10),
				"to": strconv.FormatInt(l.To, 10)}})
	}
	f.log.Warn("the spool is full, the oldest windows were dropped", "windows", a.Pushes(), "processes", len(a.Losses), "limit", "spool_bytes", "max", f.cfg.SpoolBytes)
	out := spool.Push{}
	return out, f.finish(&out, &m, m.Key)
}

// encoder encodes the profiles of one push.
type encoder struct {
	raw  []byte
	zip  *gzip.Writer
	bufs []*bytes.Buffer
	used int
}

var encoders = sync.Pool{New: func() any { return new(encoder) }}

// keepEncoded is the largest buffer that is kept for the next push.
const keepEncoded = 1 << 20

func (e *encoder) put() {
	for _, b := range e.bufs[:e.used] {
		if b.Cap() > keepEncoded {
			*b = bytes.Buffer{}
		}
	}
	if e.used = 0; cap(e.raw) > 4*keepEncoded {
		e.raw = nil
	}
	encoders.Put(e)
}

// profile returns p as gzipped pprof, valid until put.
func (e *encoder) profile(p *profiles.Profile) ([]byte, error) {
	if e.used == len(e.bufs) {
		e.bufs = append(e.bufs, new(bytes.Buffer))
	}
	b := e.bufs[e.used]
	e.used++
	b.Reset()
	if e.zip == nil {
		var err error
		if e.zip, err = gzip.NewWriterLevel(b, gzip.BestSpeed); err != nil { // as the runtime does
			return nil, err
		}
	}
	e.zip.Reset(b)
	e.raw = profiles.AppendProfile(e.raw[:0], p)
	if _, err := e.zip.Write(e.raw); err != nil {
		return nil, err
	}
	if err := e.zip.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
