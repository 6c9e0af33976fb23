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

// visit calls fn for every dataset that may hold what q selects. It calls start before the first one, and again where it has to start over: because a block went away, or
// cannot be read. Those that cannot be read are left out; their number is returned.
func (s *Store) visit(ctx context.Context, q Query, start func(), fn func(f *file, ds *dataset) error) (leftOut int, err error) {
	for stale := 1; ; {
		start()
		leftOut, err = s.visitOnce(ctx, q, fn)
		var bad *unreadableError
		switch {
		case !errors.As(err, &bad):
			return leftOut, err
		case errors.Is(err, blob.ErrNotFound) && stale < staleRetries:
			stale++
		default:
			s.leaveOut(bad)
		}
	}
}

func (s *Store) visitOnce(ctx context.Context, q Query, fn func(f *file, ds *dataset) error) (leftOut int, err error) {
	services, none := servicesOf(q.Matchers)
	if none {
		return 0, nil
	}
	blocks, err := s.cfg.Catalog.Blocks(ctx, catalog.BlockFilter{From: q.From, To: q.To, Services: services, Type: q.Type.Profile})
	if err != nil {
		return 0, fmt.Errorf("list blocks: %w", err)
	}
	parts := s.newQueryParts()
	for i := range blocks {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if s.damaged.has(blocks[i].Blob) {
			leftOut++
			continue
		}
		if err := s.visitBlock(ctx, &blocks[i], q, parts, fn); err != nil {
			return 0, unreadable(ctx, blocks[i].Blob, err)
		}
	}
	return leftOut, nil
}

func (s *Store) visitBlock(ctx context.Context, b *catalog.Block, q Query, parts *queryParts, fn func(f *file, ds *dataset) error) error {
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
			f.parts = parts
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
			return err
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
	heads := make([]*head, len(sel))
	decode := func(i int, raw []byte, err error) error {
		if err == nil {
			heads[i], err = decodeHead(raw, sel[i].info.profiles, len(sel[i].info.Columns), totals)
		}
		if err != nil {
			return fmt.Errorf("head at %d: %w", sel[i].info.head.at, err)
		}
		return nil
	}
	var order []int // of those that are not in memory
	var spans []span
	for i, s := range sel {
		if raw := f.cached(s.info.head); raw != nil {
			if err := decode(i, raw, nil); err != nil {
				return nil, err
			}
			continue
		}
		order, spans = append(order, i), append(spans, span{s.info.head.at, uint64(s.info.head.stored)})
	}
	var buf []byte
	err := f.each(ctx, spans, func(i int, b []byte) (err error) {
		raw, err := f.openPart(sel[order[i]].info.head, b, &buf)
		return decode(order[i], raw, err)
	})
	return heads, err
}
