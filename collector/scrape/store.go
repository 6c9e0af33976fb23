package scrape

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles"
	"github.com/sonde-io/sonde/profiles/store"
)

// decoders are shared by all targets: one holds the memory of the largest profile that it has seen.
var decoders = sync.Pool{New: func() any { return new(profiles.Decoder) }}

// framesPerSample bounds the frames of all stacks of a profile together, by the samples that it may have.
const framesPerSample = 8

// appendTimeout bounds one attempt to store a push. It runs on when the manager is told to stop, since the capture is taken.
const appendTimeout = 10 * time.Second

// column is one that a profile of the type must have: what answers under a name may be something else.
var column = map[string]string{
	"cpu": "cpu", "heap": "inuse_space", "goroutine": "goroutine", "mutex": "delay", "block": "delay",
	"goroutineleak": "goroutineleak", "threadcreate": "threadcreate",
}

// store decodes captures, takes what they say of their interval and appends it as one push. The error is what the status should show.
func (l *loop) store(ctx context.Context, got []capture) error {
	if len(got) == 0 {
		return nil
	}
	select {
	case l.m.decode <- struct{}{}:
		defer func() { <-l.m.decode }()
	case <-ctx.Done():
		return nil
	}
	var bad error
	var out []store.Profile
	left := int(l.m.cfg.MaxDecoded) // for all of them together, as in a push
	for _, c := range got {
		dec := decoders.Get().(*profiles.Decoder)
		defer decoders.Put(dec)
		p, err := l.interval(dec, &c, &left)
		if err != nil {
			bad = l.decodeFailed(&c, err)
			continue
		}
		if c.ts != nil {
			c.ts.last, c.ts.failures = c.end, 0
		}
		if p != nil && len(p.Samples) > 0 {
			_, weight := l.turnOf(c.ty, c.start)
			if weight > 1 {
				if err := p.Scale(weight); err != nil {
					bad = l.decodeFailed(&c, err)
					continue
				}
			}
			out = append(out, store.Profile{
				Labels: store.Weighted(l.t.Process.Labels, weight), Type: c.ty, Start: c.start.UnixMilli(), End: c.end.UnixMilli(), Data: p,
			})
		}
	}
	if len(out) > 0 {
		if err := l.append(ctx, out); err != nil {
			bad = err
		}
	}
	return bad
}

func (l *loop) decodeFailed(c *capture, err error) error {
	if c.ts != nil {
		return l.typeFailed(c.ty, c.ts, err)
	}
	l.gap("capture")
	return l.failed(c.ty, err)
}

// interval decodes a capture and returns the profile of its interval, nil where there is none: after a baseline.
// left is how many decompressed bytes are left to it; what it takes is subtracted.
func (l *loop) interval(dec *profiles.Decoder, c *capture, left *int) (*profiles.Profile, error) {
	raw := c.body
	if profiles.IsGzip(raw) {
		var err error
		if raw, err = profiles.Gunzip(nil, raw, max(*left, 1)); err != nil {
			return nil, err
		}
	}
	p, err := dec.Decode(raw, profiles.Limits{MaxBytes: max(*left, 1), MaxSamples: l.m.cfg.MaxSamples, MaxFrames: framesPerSample * l.m.cfg.MaxSamples})
	*left -= len(raw)
	if err != nil {
		return nil, err
	}
	if want := column[c.ty]; want != "" && !slices.ContainsFunc(p.SampleTypes, func(v profiles.ValueType) bool { return v.Type == want }) {
		return nil, fmt.Errorf("what it answered is no %s profile: it has no column %s", c.ty, want)
	}
	if c.ty == "cpu" {
		// The profile's own duration is the interval's; its clock may be another machine's.
		if d := time.Duration(p.DurationNanos); d > 0 && c.start.Add(d).Before(c.end) {
			c.end = c.start.Add(d)
		}
	}
	if c.ts != nil && c.ts.delta != nil {
		p, err = c.ts.delta.Next(p)
		if errors.Is(err, profiles.ErrReset) { // the program behind the address is another one now: this is its baseline
			l.gap("reset")
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
	}
	switch {
	case p == nil || c.start.IsZero():
		l.gap("baseline")
		return nil, nil
	case c.end.UnixMilli() <= c.start.UnixMilli(): // the clock was set back
		l.gap("reset")
		return nil, nil
	}
	return p, nil
}

// append stores one push under the next window's key. It tries again with the same key a few times; then the window is a gap.
func (l *loop) append(ctx context.Context, ps []store.Profile) error {
	l.window++
	process := *l.t.Process
	process.LastSeen = time.Now().UnixMilli()
	push := store.Push{
		Key:      catalog.Key{Instance: l.key, Window: l.window},
		Process:  &process,
		Build:    l.t.Build,
		Profiles: ps,
	}
	for try := 0; ; try++ {
		err := l.tryAppend(ctx, push)
		if err == nil || errors.Is(err, catalog.ErrDuplicate) {
			for _, p := range ps {
				l.m.met.profiles.WithLabelValues(p.Type).Inc()
			}
			l.update(func(st *Status) { st.Profiles += uint64(len(ps)) })
			return nil
		}
		var limit *store.LimitError // trying again would not help
		if errors.As(err, &limit) || try >= l.m.cfg.AppendRetries || !sleep(ctx, jitter(backoff(time.Second, try+1, 3))) {
			for range ps {
				l.gap("store")
			}
			l.m.log.Warn("scraped profiles could not be stored", "service", l.t.Service, "target", l.t.redacted(), "profiles", len(ps), "error", err)
			return fmt.Errorf("store window %d: %w", l.window, err)
		}
	}
}

func (l *loop) tryAppend(ctx context.Context, push store.Push) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), appendTimeout)
	defer cancel()
	return l.m.cfg.Sink.Append(ctx, push)
}
