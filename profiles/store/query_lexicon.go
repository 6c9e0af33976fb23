package store

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"weak"

	"github.com/sonde-io/sonde/profiles"
)

// lexicon numbers the stacks that queries of one service meet. The stacks of each dataset are mapped into it once, so that a query adds values of many blocks straight into
// one array, without hashing a name and without building a tree: the tree of functions that views are made from is kept with it too. It only grows; results hold snapshots of it.
type lexicon struct {
	id      uint64
	mu      sync.Mutex
	table   *profiles.Symbols // guarded by mu
	matches map[string][]bool // by regular expression which names match, as MatchFunctions keeps it; guarded by mu
	view    atomic.Pointer[profiles.Symbols]
	bytes   atomic.Int64
	used    int64 // guarded by lexicons.mu

	// Of the ingest's dictionary that the service's segments come from now: the numbers of its stacks, 0 for those not met yet but the empty one. Guarded by mu.
	dict   weak.Pointer[profiles.Symbols]
	known  []uint32
	ingest sync.Locker // guards the dictionaries

	symbolizer profiles.Symbolizer // names locations that were stored without names; nil: nobody does
	generation uint64              // of the symbolizer when the lexicon was begun
	unnamed    atomic.Bool         // a location is in it that a binary would name which was not known
}

// outdated reports whether binaries became known since the lexicon was begun, of which it may lack the names. A name that was given stays: the next one is begun anew.
func (l *lexicon) outdated() bool {
	return l.symbolizer != nil && l.unnamed.Load() && l.symbolizer.Generation() != l.generation
}

func newLexicon(id uint64, ingest sync.Locker, z profiles.Symbolizer) *lexicon {
	l := &lexicon{id: id, ingest: ingest, table: profiles.NewSymbols(), matches: map[string][]bool{}, symbolizer: z}
	l.table.TrackCalls()
	if z != nil {
		l.generation = z.Generation()
		l.table.SymbolizeWith(z)
	}
	l.view.Store(l.table.Snapshot())
	return l
}

// maxLexiconNodes bounds one service's lexicon, in nodes of the stack tree: a service has some 10,000. maxMatches bounds the regular expressions whose matches are kept.
const (
	maxLexiconNodes = 1 << 20
	maxMatches      = 8
)

// lexiconBytes estimates what a table takes with its index and its tree of functions. Strings are counted by their number.
func lexiconBytes(s *profiles.Symbols) int64 {
	return 4096 + int64(len(s.Nodes)*72+len(s.Stacks)*16+len(s.Locations)*48+len(s.Lines)*16+len(s.Functions)*56+len(s.Strings)*112+len(s.LabelSets)*32+len(s.Labels)*24)
}

// add interns all stacks of s and returns their numbers. What the table grows by is the query's.
func (l *lexicon) add(ctx context.Context, b *budget, s *profiles.Symbols) (ids []uint32, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.addLocked(ctx, b, s, func(uint32) bool { return true })
}

// addLocked is add for the stacks that want names.
func (l *lexicon) addLocked(ctx context.Context, b *budget, s *profiles.Symbols, want func(uint32) bool) (ids []uint32, err error) {
	before, calls := lexiconBytes(l.table), 0
	ids = l.table.AddStacks(s, func(id uint32) bool {
		if !want(id) {
			return false
		}
		if calls++; err == nil && calls%256 == 0 {
			if err = b.check(ctx); err == nil {
				now := lexiconBytes(l.table)
				err = b.take(now - before)
				before = now
			}
		}
		return err == nil
	})
	if err == nil {
		err = b.take(lexiconBytes(l.table) - before)
	}
	l.bytes.Store(lexiconBytes(l.table) + 4*int64(len(l.known)))
	l.unnamed.Store(l.table.Unnamed())
	l.view.Store(l.table.Snapshot())
	return ids, err
}

// addPlaces is add for a dataset whose stacks are known to be at o.stacks of dict, the ingest's dictionary: most were met in the segment before.
func (l *lexicon) addPlaces(ctx context.Context, b *budget, o *origin, dict *profiles.Symbols) ([]uint32, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dict != o.dict {
		l.dict, l.known = o.dict, nil
	}
	if n := len(dict.Stacks) - len(l.known); n > 0 {
		l.known = append(l.known, make([]uint32, n)...)
	}
	missing := 0
	for _, id := range o.stacks {
		if id != 0 && l.known[id] == 0 {
			l.known[id] = wanted
			missing++
		}
	}
	if missing > 0 {
		added, err := l.addLocked(ctx, b, dict, func(id uint32) bool { return int(id) < len(l.known) && l.known[id] == wanted })
		for id, k := range l.known {
			if k == wanted {
				l.known[id] = 0
				if err == nil {
					l.known[id] = added[id]
				}
			}
		}
		if err != nil {
			return nil, err
		}
	}
	ids := make([]uint32, len(o.stacks))
	for i, id := range o.stacks {
		ids[i] = l.known[id]
	}
	return ids, nil
}

// dictionary returns the dictionary that o is about as it is now, nil where there is none any more.
func (l *lexicon) dictionary(o *origin) *profiles.Symbols {
	if o == nil {
		return nil
	}
	dict := o.dict.Value()
	if dict == nil {
		return nil
	}
	l.ingest.Lock()
	defer l.ingest.Unlock()
	return snapshot(dict)
}

// wanted marks in lexicon.known the stacks that are about to be added.
const wanted = ^uint32(0)

// snapshot returns the table with all that was added before.
func (l *lexicon) snapshot() *profiles.Symbols { return l.view.Load() }

// matching reports for each stack of the snapshot view whether a function on it has a name that re matches.
func (l *lexicon) matching(view *profiles.Symbols, re *regexp.Regexp) []bool {
	key := re.String()
	l.mu.Lock()
	names := l.matches[key]
	l.mu.Unlock()
	stacks, names := view.MatchFunctions(re, names)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.matches[key] == nil && len(l.matches) >= maxMatches {
		clear(l.matches)
	}
	if len(l.matches[key]) < len(names) {
		l.matches[key] = names
	}
	return stacks
}

// lexicons holds a lexicon for each service, those used last. Safe for concurrent use.
type lexicons struct {
	mu   sync.Mutex
	m    map[string]*lexicon
	next uint64 // id of the next one
	time int64

	ingest     sync.Locker         // guards the dictionaries of the ingest
	symbolizer profiles.Symbolizer // nil: none
}

// get returns the service's lexicon.
func (l *lexicons) get(service string) *lexicon {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.time++
	x := l.m[service]
	if x == nil || len(x.snapshot().Nodes) > maxLexiconNodes || x.outdated() {
		if l.m == nil {
			l.m = map[string]*lexicon{}
		}
		l.next++
		x = newLexicon(l.next, l.ingest, l.symbolizer)
		l.m[strings.Clone(service)] = x
	}
	x.used = l.time
	return x
}

// trim drops those not used for longest until the others take most bytes. Queries that read one go on with it.
func (l *lexicons) trim(most int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	total := int64(0)
	for _, x := range l.m {
		total += x.bytes.Load()
	}
	for total > most {
		oldest := ""
		for name, x := range l.m {
			if o := l.m[oldest]; o == nil || x.used < o.used {
				oldest = name
			}
		}
		total -= l.m[oldest].bytes.Load()
		delete(l.m, oldest)
	}
}

// lexiconStacks returns the dataset's stacks as lex numbers them. Its symbols are read if need be, and not kept.
func (f *file) lexiconStacks(ctx context.Context, b *budget, ds *dataset, lex *lexicon) ([]uint32, error) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	if ds.lexicon == lex.id {
		return ds.lexStacks, nil
	}
	if dict := lex.dictionary(ds.origin); dict != nil {
		ids, err := lex.addPlaces(ctx, b, ds.origin, dict)
		if err != nil {
			return nil, fmt.Errorf("dataset %s: %w", ds.info.Service, err)
		}
		f.keepLexicon(ds, lex, ids)
		return ids, nil
	}
	s := ds.symbols
	if s == nil {
		var err error
		if s, err = f.readSymbols(ds); err != nil {
			return nil, err
		}
		for i, x := range s.Strings { // they share one allocation, all of which the lexicon would keep for one new name
			s.Strings[i] = strings.Clone(x)
		}
	}
	ids, err := lex.add(ctx, b, s)
	if err != nil {
		return nil, fmt.Errorf("dataset %s: %w", ds.info.Service, err)
	}
	f.keepLexicon(ds, lex, ids)
	return ids, nil
}

// keepLexicon keeps where the dataset's stacks are in lex.
func (f *file) keepLexicon(ds *dataset, lex *lexicon, ids []uint32) {
	f.opened.mu.Lock()
	f.opened.bytes += int64(len(ids)-len(ds.lexStacks)) * 4
	f.opened.mu.Unlock()
	ds.lexicon, ds.lexStacks = lex.id, ids
}

// trimLexicons keeps the lexicons to a quarter of what opened blocks may take.
func (s *Store) trimLexicons() { s.lexicons.trim(s.cfg.CacheBytes / 4) }
