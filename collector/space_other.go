//go:build !linux && !darwin && !freebsd

package collector

import "errors"

// diskSpace is not known here: a push is refused when its write fails.
func diskSpace(string) (free, total int64, err error) { return 0, 0, errors.ErrUnsupported }
