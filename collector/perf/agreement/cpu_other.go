//go:build !unix

package agreement

import "time"

// ownCPU is not measured here: there are no perf events either.
func ownCPU() time.Duration { return 0 }
