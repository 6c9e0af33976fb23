package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/internal/blob"
	"github.com/sonde-io/sonde/internal/catalog"
)

// serviceLabel is the label that every series has and that decides which dataset it is in.
const serviceLabel = "service_name"

// staleRetries is how often a query starts again because a block went away between listing and opening it. With the grace that deleted
// blocks have that takes a query as long as the grace.
const staleRetries = 3

// visit calls fn for every dataset that may hold what q selects. It calls start before the first one, and again where it has to start over.
func (s *Store) visit(ctx context.Context, q Query, start func(), fn func(f *file, ds *dataset) error) error {
	var err error
	for range staleRetries {
		start()
		if err = s.visitOnce(ctx, q, fn); !errors.Is(err, blob.ErrNotFound) {
			return err
		}
	}
	return err
}

func (s *Store) visitOnce(ctx context.Context, q Query, fn func(f *file, ds *dataset) error) error {
	services, none := servicesOf(q.Matchers)
	if none {
		return nil
	}
	blocks, err := s.cfg.Catalog.Blocks(ctx, catalog.BlockFilter{From: q.From, To: q.To, Services: services, Type: q.Type.Profile})
	if err != nil {
		return fmt.Errorf("list blocks: %w", err)
	}
	for i := range blocks {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.visitBlock(ctx, &blocks[i], q, fn); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) visitBlock(ctx context.Context, b *catalog.Block, q Query, fn func(f *file, ds *dataset) error) error {
	var f *file
	for _, info := range b.Datasets {
		if !matchService(q.Matchers, info.Service) {
			continue
		}
		if f == nil {
			var err error
			if f, err = openFile(ctx, s.cfg.Blobs, b.Blob, s.cache.get(b.Blob)); err != nil {
				return err
			}
			defer func() {
				s.metrics.readBytes.Add(float64(f.read))
				s.cache.put(b.Blob, f.opened)
				f.close()
			}()
		}
		ds, err := f.dataset(info.Service)
		if err == nil && ds == nil {
			err = fmt.Errorf("dataset %s is in the catalogue and not in the file", info.Service)
		}
		if err == nil {
			err = fn(f, ds)
		}
		if err != nil {
			return fmt.Errorf("read blob %s: %w", b.Blob, err)
		}
	}
	return nil
}

// servicesOf returns the services that ms allow, nil for all; none says that they allow no service.
func servicesOf(ms []*labels.Matcher) (services []string, none bool) {
	for _, m := range ms {
		if m.Name != serviceLabel {
			continue
		}
		var set []string
		switch m.Type {
		case labels.MatchEqual:
			set = []string{m.Value}
		case labels.MatchRegexp:
			if set = m.SetMatches(); len(set) == 0 {
				continue
			}
		default:
			continue
		}
		if services == nil {
			services = slices.Clone(set)
		} else {
			services = slices.DeleteFunc(services, func(x string) bool { return !slices.Contains(set, x) })
		}
		if len(services) == 0 {
			return nil, true
		}
	}
	return services, false
}

func matchService(ms []*labels.Matcher, service string) bool {
	for _, m := range ms {
		if m.Name == serviceLabel && !m.Matches(service) {
			return false
		}
	}
	return true
}

func matchLabels(ms []*labels.Matcher, ls labels.Labels) bool {
	for _, m := range ms {
		if !m.Matches(ls.Get(m.Name)) {
			return false
		}
	}
	return true
}

// selected is a series whose head is wanted.
type selected struct {
	info *seriesInfo
}

// readHeads returns the heads of sel.
func (f *file) readHeads(ctx context.Context, sel []selected, totals bool) ([]*head, error) {
	heads, spans := make([]*head, len(sel)), make([]span, len(sel))
	for i, s := range sel {
		spans[i] = span{s.info.head.at, uint64(s.info.head.stored)}
	}
	var buf []byte
	err := f.each(ctx, spans, func(i int, b []byte) (err error) {
		l := sel[i].info.head
		raw, err := l.openInto(b, &buf)
		if err == nil {
			heads[i], err = decodeHead(raw, sel[i].info.profiles, len(sel[i].info.Columns), totals)
		}
		if err != nil {
			return fmt.Errorf("head at %d: %w", l.at, err)
		}
		return nil
	})
	return heads, err
}
