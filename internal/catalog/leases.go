package catalog

import (
	"context"
	"time"
)

// Acquire implements Catalog. A ttl of 0 gives the holder's lease back.
func (db *DB) Acquire(ctx context.Context, name, holder string, ttl time.Duration) (bool, error) {
	var got bool
	err := db.write(ctx, "acquire lease "+name, func(t *tx) error {
		// The WHERE decides and the row is locked while it does, so of two takers one changes nothing.
		n, err := t.exec(`INSERT INTO leases (name, holder, expires) VALUES (?, ?, NOW() + CAST(? AS BIGINT))
			ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires = excluded.expires
			WHERE leases.holder = excluded.holder OR leases.expires <= NOW()`, name, holder, ttl.Milliseconds())
		got = n == 1
		return err
	})
	return got, err
}
