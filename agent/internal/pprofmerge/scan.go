package pprofmerge

import "fmt"

// Exceeds reports whether a sample of the uncompressed profile p has a label over the limits, or any where they have a Filter. It looks at labels
// only, and is cheap where there are none.
func Exceeds(p []byte, l Limits) (bool, error) {
	long := map[uint64]int{} // strings longer than either limit
	var i uint64
	err := each(p, func(f field) error {
		if f.num == fString {
			if len(f.p) > min(l.Key, l.Value) {
				long[i] = len(f.p)
			}
			i++
		}
		return nil
	})
	if err != nil {
		return false, err
	}
	over := false
	err = each(p, func(f field) error {
		if f.num != fSample || over {
			return nil
		}
		labels := 0
		return each(f.p, func(s field) error {
			if s.num != 3 {
				return nil
			}
			if labels++; labels > l.Labels || l.Filter != nil {
				over = true
			}
			return each(s.p, func(v field) error {
				over = over || v.num == 1 && long[v.v] > l.Key || v.num == 2 && long[v.v] > l.Value
				return nil
			})
		})
	})
	if err != nil {
		return false, fmt.Errorf("scan labels: %w", err)
	}
	return over, nil
}
