package profiles

import (
	"errors"
	"math"
	"slices"
	"testing"
)

func TestScaleProfile(t *testing.T) {
	for _, tt := range []struct {
		name   string
		values []int64
		n      int64
		want   []int64 // nil: refused, and unchanged
	}{
		{"one", []int64{1, -2, 0}, 1, []int64{1, -2, 0}},
		{"many", []int64{1, -2, 0, 1 << 40}, 400, []int64{400, -800, 0, 400 << 40}},
		{"the largest that fits", []int64{math.MaxInt64 / 3, -math.MaxInt64 / 3}, 3, []int64{math.MaxInt64 / 3 * 3, -math.MaxInt64 / 3 * 3}},
		{"one too large", []int64{1, math.MaxInt64/2 + 1}, 2, nil},
		{"one too small", []int64{1, math.MinInt64}, 2, nil},
		{"the product wraps to a small number", []int64{1 << 62}, 4, nil},
		{"no weight", []int64{1}, 0, nil},
		{"a negative weight", []int64{1}, -3, nil},
		{"the smallest as it is", []int64{math.MinInt64}, 1, []int64{math.MinInt64}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := &Profile{Values: slices.Clone(tt.values)}
			err := p.Scale(tt.n)
			want := tt.want
			if want == nil {
				want = tt.values
				var limit *LimitError
				if err == nil || tt.n > 0 && (!errors.As(err, &limit) || limit.Limit != LimitValue) {
					t.Errorf("Scale = %v, want a refusal", err)
				}
			} else if err != nil {
				t.Error(err)
			}
			if !slices.Equal(p.Values, want) {
				t.Errorf("values %v, want %v", p.Values, want)
			}
		})
	}
}
