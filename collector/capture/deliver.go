package capture

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/sonde-io/sonde/internal/catalog"
)

// Deliver implements Source: it checks what was taken, stores it, and makes the capture done. A repeat of what is stored is no error.
func (b *Broker) Deliver(ctx context.Context, r Result) error {
	cs, err := b.meant(ctx, r)
	if err != nil {
		return err
	}
	if r.Error != "" {
		for _, c := range cs { // without a kind an error is of all that were claimed
			c.State, c.Error = catalog.CaptureFailed, truncate(r.Error, maxError)
			if err := b.finish(ctx, c); err != nil && !errors.Is(err, catalog.ErrConflict) {
				return err
			}
		}
		return nil
	}
	if r.Body == nil {
		return fmt.Errorf("%w: it has neither bytes nor an error", ErrInvalid)
	}
	if len(cs) == 1 && cs[0].State == catalog.CaptureDone {
		_, err := io.Copy(io.Discard, io.LimitReader(r.Body, maxBytes))
		return err
	}
	select {
	case b.receiving <- struct{}{}:
		defer func() { <-b.receiving }()
	case <-ctx.Done():
		return ctx.Err()
	}
	data, err := readAll(r.Body, b.limit)
	if err != nil {
		if le, ok := errors.AsType[*LimitError](err); ok {
			b.met.refused.WithLabelValues(le.Limit).Inc()
			b.failAll(ctx, cs, fmt.Sprintf("it is larger than %d bytes (limit %s): ask for a shorter time", le.Max, le.Limit))
		}
		return err
	}
	c, err := b.identify(cs, data)
	if err != nil {
		b.met.refused.WithLabelValues("invalid").Inc()
		b.failAll(ctx, cs, err.Error())
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return b.store(ctx, c, r, data)
}

// meant returns the captures that a result may be of: one, or those of a claim of which it does not say which.
func (b *Broker) meant(ctx context.Context, r Result) ([]catalog.Capture, error) {
	var cs []catalog.Capture
	c, err := b.cfg.Catalog.Capture(ctx, r.ID)
	switch {
	case err == nil:
		cs = []catalog.Capture{c}
	case errors.Is(err, catalog.ErrNotFound):
		if cs, err = b.cfg.Catalog.Captures(ctx, catalog.CaptureFilter{Request: r.ID}); err != nil {
			return nil, err
		}
		// Of what somebody asked for each has its own id.
		cs = slices.DeleteFunc(cs, func(c catalog.Capture) bool { return c.Trigger == "" })
	default:
		return nil, err
	}
	cs = slices.DeleteFunc(cs, func(c catalog.Capture) bool {
		return c.Instance != r.Instance || r.Kind != "" && c.Kind != r.Kind || c.State == catalog.CaptureShadow || c.State == catalog.CaptureAsked
	})
	if len(cs) > 1 {
		cs = slices.DeleteFunc(cs, func(c catalog.Capture) bool { return c.State == catalog.CaptureDone })
	}
	if len(cs) == 0 {
		return nil, fmt.Errorf("capture %.64s of process %.64s: %w", r.ID, r.Instance, ErrUnknown)
	}
	return cs, nil
}

// identify returns which of cs the bytes are, checked.
func (b *Broker) identify(cs []catalog.Capture, data []byte) (catalog.Capture, error) {
	b.checking.Lock()
	defer b.checking.Unlock()
	if len(cs) == 1 {
		return cs[0], Validate(cs[0].Kind, data)
	}
	kinds := make([]string, len(cs))
	for i, c := range cs {
		kinds[i] = c.Kind
	}
	k := sniff(kinds, data)
	if k == "" {
		return catalog.Capture{}, fmt.Errorf("what was sent is none of the captures that were claimed: %v", kinds)
	}
	return cs[slices.Index(kinds, k)], nil
}

// store writes the blob of a capture and then its row: what is done is stored.
func (b *Broker) store(ctx context.Context, c catalog.Capture, r Result, data []byte) error {
	now := b.cfg.Now().UnixMilli()
	c.State, c.Error, c.Size, c.Finished, c.ContentType = catalog.CaptureDone, "", int64(len(data)), now, ContentType(c.Kind)
	c.From, c.To = r.From, r.To
	if c.From <= 0 || c.From > now {
		c.From = c.Started
	}
	if c.To <= c.From || c.To > now {
		c.To = now
	}
	file, err := encodeFile(c, data)
	if err != nil {
		return err
	}
	c.Blob = folder + c.ID
	if err := b.cfg.Blobs.Put(ctx, c.Blob, file); err != nil {
		return err
	}
	err = b.finish(ctx, c)
	if errors.Is(err, catalog.ErrConflict) { // delivered twice at once: the other's blob is the same
		return nil
	}
	return err
}

func (b *Broker) failAll(ctx context.Context, cs []catalog.Capture, why string) {
	for _, c := range cs {
		c.State, c.Error = catalog.CaptureFailed, truncate(why, maxError)
		if err := b.finish(ctx, c); err != nil && !errors.Is(err, catalog.ErrConflict) {
			b.log.Error("cannot end a capture", "id", c.ID, "error", err)
		}
	}
}

// finish ends a capture in the state that c has, lets others start in its place, and asks another process where this one failed.
func (b *Broker) finish(ctx context.Context, c catalog.Capture) error {
	ctx = context.WithoutCancel(ctx)
	if c.Finished == 0 || c.State != catalog.CaptureDone {
		c.Finished = b.cfg.Now().UnixMilli()
	}
	err := b.cfg.Catalog.FinishCapture(ctx, c)
	if err != nil && !errors.Is(err, catalog.ErrConflict) {
		return err
	}
	b.mu.Lock()
	var request *Request
	e := b.tasks[c.ID]
	if e != nil {
		request = e.request
		b.forget(e)
	}
	if c.State != catalog.CaptureDone && c.Trigger != "" {
		delete(b.claimed, [3]string{c.Service, c.Build, c.Trigger}) // the catalogue says whether it is in force
	}
	b.dispatch(b.cfg.Now())
	b.mu.Unlock()
	if err != nil {
		return err
	}
	b.met.ended.WithLabelValues(c.Kind, c.State).Inc()
	if c.State == catalog.CaptureDone {
		b.event(ctx, c, what(c)+" captured")
		return nil
	}
	b.log.Info("a capture was not taken", "id", c.ID, "kind", c.Kind, "service", c.Service, "instance", c.Instance, "state", c.State, "error", c.Error)
	b.again(ctx, request, c)
	return nil
}

// Stored notes that a claim's capture came as a profile among others of its process: one of the kind, over [from, to) in Unix ms. There is no blob then; the
// capture is read as that profile.
func (b *Broker) Stored(ctx context.Context, id, instance, kind string, from, to int64) error {
	cs, err := b.meant(ctx, Result{ID: id, Instance: instance, Kind: kind})
	if err != nil {
		return err
	}
	c := cs[0]
	if c.State == catalog.CaptureDone {
		return nil
	}
	c.State, c.Error, c.From, c.To, c.ContentType = catalog.CaptureDone, "", from, to, Binary
	c.Finished = b.cfg.Now().UnixMilli()
	err = b.finish(ctx, c)
	if errors.Is(err, catalog.ErrConflict) {
		return nil
	}
	return err
}

// Data returns a finished capture and its bytes. The bytes are nil where it is a profile among those of its process.
func (b *Broker) Data(ctx context.Context, id string) (catalog.Capture, []byte, error) {
	c, err := b.cfg.Catalog.Capture(ctx, id)
	if err != nil || c.Blob == "" {
		return c, nil, err
	}
	data, err := readFile(ctx, b.cfg.Blobs, c)
	return c, data, err
}

// List returns the captures that f selects, newest first.
func (b *Broker) List(ctx context.Context, f catalog.CaptureFilter) ([]catalog.Capture, error) {
	return b.cfg.Catalog.Captures(ctx, f)
}
