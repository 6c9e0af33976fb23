package catalog

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// series is what numbers its windows: one part of one instance.
type series struct {
	instance string
	part     uint32
}

// storedSet is a windowSet with the bytes it was read from, nil if there was no row.
type storedSet struct {
	set *windowSet
	old []byte
}

func (k Key) check() error {
	if k.Idempotency == "" && k.Instance != "" && k.Window == 0 {
		return fmt.Errorf("key of instance %s has window 0: windows count from 1", k.Instance)
	}
	return nil
}

// addKeys registers keys. If any was seen before, in the catalogue or in keys itself, it returns a *DuplicateError that lists them all.
func (t *tx) addKeys(keys []Key) error {
	if len(keys) == 0 {
		return nil
	}
	sets := map[series]*storedSet{}
	var dup []int
	for i, k := range keys {
		isNew, err := t.addKey(k, sets)
		if err != nil {
			return err
		}
		if !isNew {
			dup = append(dup, i)
		}
	}
	if len(dup) > 0 {
		return &DuplicateError{Keys: dup}
	}
	return t.putSets(sets)
}

// addKey adds one key, a window to its set in sets, and reports whether it is new.
func (t *tx) addKey(k Key, sets map[series]*storedSet) (bool, error) {
	if err := k.check(); err != nil {
		return false, err
	}
	if k.Idempotency != "" {
		n, err := t.exec(`INSERT INTO idempotency (key, created) VALUES (?, NOW()) ON CONFLICT (key) DO NOTHING`, k.Idempotency)
		return n == 1, err
	}
	if k.Instance == "" {
		return true, nil
	}
	id := series{k.Instance, k.Part}
	s := sets[id]
	if s == nil {
		var err error
		if s, err = t.windowSet(id); err != nil {
			return false, err
		}
		sets[id] = s
	}
	return s.set.add(k.Window), nil
}

const selectWindowSet = `SELECT seen FROM windows WHERE instance = ? AND part = ?`

func (t *tx) windowSet(id series) (*storedSet, error) {
	var b []byte
	err := t.row(selectWindowSet, []any{id.instance, int64(id.part)}, &b)
	if errors.Is(err, sql.ErrNoRows) {
		return &storedSet{set: &windowSet{}}, nil
	}
	if err != nil {
		return nil, err
	}
	set, err := decodeWindowSet(b)
	if err != nil {
		return nil, fmt.Errorf("read windows of %s part %d: %w", id.instance, id.part, err)
	}
	return &storedSet{set: set, old: b}, nil
}

// putSets writes the sets back. A row that is no longer as it was read, which SQLite's single writer rules out and PostgreSQL does not,
// makes the whole transaction run again. The order is fixed so that two writers cannot wait for each other.
func (t *tx) putSets(sets map[series]*storedSet) error {
	ids := make([]series, 0, len(sets))
	for id := range sets {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b series) int {
		return cmp.Or(cmp.Compare(a.instance, b.instance), cmp.Compare(a.part, b.part))
	})
	for _, id := range ids {
		s := sets[id]
		var n int64
		var err error
		if s.old == nil {
			n, err = t.exec(`INSERT INTO windows (instance, part, seen, updated) VALUES (?, ?, ?, NOW()) ON CONFLICT (instance, part) DO NOTHING`,
				id.instance, int64(id.part), s.set.encode())
		} else {
			n, err = t.exec(`UPDATE windows SET seen = ?, updated = NOW() WHERE instance = ? AND part = ? AND seen = ?`,
				s.set.encode(), id.instance, int64(id.part), s.old)
		}
		if err != nil {
			return err
		}
		if n != 1 {
			return errAgain
		}
	}
	return nil
}

// maxHighest bounds the series whose highest window is remembered.
const maxHighest = 64 << 10

// highest is the highest window of each series that this program registered, of those that it registered lately. A window above it is new, as far as this program
// knows, and need not be looked for: it is what a sender that is not repeating itself sends.
type highest struct {
	mu sync.Mutex
	m  map[series]uint64
}

// isNew reports whether k is above all that is known of its series; false where nothing is.
func (h *highest) isNew(k Key) bool {
	if k.Idempotency != "" {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	last, ok := h.m[series{k.Instance, k.Part}]
	return ok && k.Window > last
}

// learn takes note of keys that were registered, or, where it is not known whether they were, forgets their series.
func (h *highest) learn(keys []Key, registered bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.m == nil || len(h.m)+len(keys) > maxHighest {
		h.m = map[series]uint64{}
	}
	for _, k := range keys {
		if k.Idempotency != "" || k.Instance == "" {
			continue
		}
		id := series{k.Instance, k.Part}
		if registered {
			h.m[id] = max(h.m[id], k.Window)
		} else {
			delete(h.m, id)
		}
	}
}

// Seen implements Catalog.
func (db *DB) Seen(ctx context.Context, keys []Key) ([]bool, error) {
	seen := make([]bool, len(keys))
	for i, k := range keys {
		var err error
		if seen[i], err = db.seen(ctx, k); err != nil {
			return nil, fmt.Errorf("look up key %+v in catalogue: %w", k, err)
		}
	}
	return seen, nil
}

func (db *DB) seen(ctx context.Context, k Key) (bool, error) {
	if err := k.check(); err != nil || db.highest.isNew(k) {
		return false, err
	}
	if k.Idempotency != "" {
		found, err := collect(ctx, &db.reads, db.d, scanOne[int], `SELECT 1 FROM idempotency WHERE key = ?`, k.Idempotency)
		return len(found) > 0, err
	}
	if k.Instance == "" {
		return false, nil
	}
	found, err := collect(ctx, &db.reads, db.d, scanOne[[]byte], selectWindowSet, k.Instance, int64(k.Part))
	if err != nil || len(found) == 0 {
		return false, err
	}
	set, err := decodeWindowSet(found[0])
	if err != nil {
		return false, err
	}
	return set.has(k.Window), nil
}
