package scrape

import (
	"cmp"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"time"
)

// replica names a target for the spreading of CPU profiles.
type replica struct{ service, instance string }

// phases spreads the CPU profiles of each service's replicas evenly over period: the replica of rank r among n starts its profile r/n of
// the period after the service's own offset, which spreads the services. The rank is that of the hash of the instance, so that all replicas move as
// little as possible when one comes or goes, and two collectors agree.
func phases(rs []replica, period time.Duration) map[replica]time.Duration {
	byService := map[string][]replica{}
	for _, r := range rs {
		byService[r.service] = append(byService[r.service], r)
	}
	out := make(map[replica]time.Duration, len(rs))
	for service, group := range byService {
		slices.SortFunc(group, func(a, b replica) int {
			return cmp.Or(cmp.Compare(hash(a.instance), hash(b.instance)), cmp.Compare(a.instance, b.instance))
		})
		offset := time.Duration(hash(service) % uint64(period))
		for rank, r := range group {
			out[r] = (offset + time.Duration(rank)*period/time.Duration(len(group))) % period
		}
	}
	return out
}

func hash(s string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(s))
	// FNV's low bits change little with the last byte of short strings.
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	return x ^ x>>33
}

// nextTurn returns the first time not before after whose offset within period (counted from the Unix epoch) is phase.
func nextTurn(after time.Time, phase, period time.Duration) time.Time {
	into := time.Duration(after.UnixNano() % int64(period))
	wait := phase - into
	if wait < 0 {
		wait += period
	}
	return after.Add(wait)
}

// backoff doubles unit with each failure in a row, up to 2^limit.
func backoff(unit time.Duration, failures, limit int) time.Duration {
	return unit << min(max(failures-1, 0), limit)
}

// jitter moves d by up to a tenth of it to either side.
func jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return d - d/10 + rand.N(d/5+1)
}
