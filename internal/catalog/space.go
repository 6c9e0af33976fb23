package catalog

import (
	"errors"

	driver "modernc.org/sqlite"
)

// ErrNoSpace says that the disk of the catalogue is full. Nothing was changed; once there is space the same call succeeds.
var ErrNoSpace = errors.New("no space left for the catalogue")

// sqliteFull is SQLite's result code for a full disk; extended codes have it in their low byte.
const sqliteFull = 13

// isFull reports whether err says that the disk is full.
func isFull(err error) bool {
	e, ok := errors.AsType[*driver.Error](err)
	return ok && e.Code()&0xff == sqliteFull
}
