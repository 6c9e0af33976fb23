package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles"
)

// pin is a catalogue's pin whose selector was read.
type pin struct {
	catalog.Pin
	matchers []*labels.Matcher
}

// pins are all pins in one state of the catalogue.
type pins struct {
	all   []pin
	state int64
}

// hold is what the pins say of a block.
type hold uint8

const (
	loose  hold = iota // nothing of it is pinned
	partly             // some of it may be
	held               // all of it is, or it holds sums, which are not taken apart
)

// readPins reads the pins. A selector that cannot be read keeps everything in its range: it was written by a program that knew more.
func readPins(ctx context.Context, cat catalog.Catalog) (*pins, error) {
	all, state, err := cat.Pins(ctx)
	if err != nil {
		return nil, err
	}
	p := &pins{state: state}
	for _, c := range all {
		ms, err := profiles.ParseSelector(c.Selector)
		if err != nil {
			ms = nil
		}
		p.all = append(p.all, pin{c, ms})
	}
	return p, nil
}

// reaches reports whether the pin may select something in the dataset.
func (p *pin) reaches(ds *catalog.Dataset) bool {
	return ds.MinStart < p.End && ds.MaxStart >= p.Start && (p.Type == "" || slices.Contains(ds.Types, p.Type)) && matchService(p.matchers, ds.Service)
}

// selects reports whether the pin selects the profile of that series that starts then.
func (p *pin) selects(ls labels.Labels, typ string, start int64) bool {
	return start >= p.Start && start < p.End && (p.Type == "" || p.Type == typ) && matchLabels(p.matchers, ls)
}

// hold returns what the pins say of a block.
func (p *pins) hold(b *catalog.Block) hold {
	if p == nil {
		return loose
	}
	for i := range p.all {
		for j := range b.Datasets {
			if !p.all[i].reaches(&b.Datasets[j]) {
				continue
			}
			switch {
			case b.Pinned == p.state || b.Resolution > 0:
				return held
			case b.Pinned == -p.state:
				return loose
			}
			return partly
		}
	}
	return loose
}

// selects reports whether any pin selects the profile.
func (p *pins) selects(si *seriesInfo, start int64) bool {
	return slices.ContainsFunc(p.all, func(x pin) bool { return x.selects(si.Labels, si.Type, start) })
}

// Pin keeps what p selects from retention, for good. What retention has added up already is kept as it is then. It returns the pin's id.
func (s *Store) Pin(ctx context.Context, p catalog.Pin) (int64, error) {
	if _, err := profiles.ParseSelector(p.Selector); err != nil {
		return 0, fmt.Errorf("pin profiles: %w", err)
	}
	if p.End <= p.Start {
		return 0, fmt.Errorf("pin profiles: range [%d, %d) is empty", p.Start, p.End)
	}
	id, err := s.cfg.Catalog.PutPin(ctx, p)
	if err != nil {
		return 0, fmt.Errorf("pin profiles: %w", err)
	}
	return id, nil
}

// Pins returns all pins, by id.
func (s *Store) Pins(ctx context.Context) ([]catalog.Pin, error) {
	ps, _, err := s.cfg.Catalog.Pins(ctx)
	return ps, err
}

// Unpin removes a pin: retention takes what nothing else pins with its next run. The error wraps catalog.ErrNotFound if there is no such pin.
func (s *Store) Unpin(ctx context.Context, id int64) error { return s.cfg.Catalog.DeletePin(ctx, id) }

// split takes the pinned profiles of a block apart from the others, in one transaction, so that retention can take those. A block of which all or nothing is pinned
// is only marked.
func (s *Store) split(ctx context.Context, b catalog.Block, p *pins) error {
	pinned, err := s.rewrite(ctx, []catalog.Block{b}, sharePinned, p.selects)
	if err != nil {
		return fmt.Errorf("take pinned profiles out of block %s: %w", b.ID, err)
	}
	if len(pinned.rows) == 0 {
		return s.cfg.Catalog.MarkPinned(ctx, b.ID, -p.state)
	}
	of := shareRest
	if len(pinned.rows) == 0 {
		of = shareAll
	}
	rest, err := s.rewrite(ctx, []catalog.Block{b}, of, func(si *seriesInfo, start int64) bool { return !p.selects(si, start) })
	if err != nil {
		return errors.Join(fmt.Errorf("take pinned profiles out of block %s: %w", b.ID, err), s.discard(ctx, pinned))
	}
	if len(rest.rows) == 0 {
		return errors.Join(s.cfg.Catalog.MarkPinned(ctx, b.ID, p.state), s.discard(ctx, pinned))
	}
	for i := range pinned.rows {
		pinned.rows[i].Pinned = p.state
	}
	for i := range rest.rows {
		rest.rows[i].Pinned = -p.state
	}
	return s.exchange(ctx, []catalog.Block{b}, pinned, rest)
}
