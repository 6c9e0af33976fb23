package store

import (
	"strconv"

	"github.com/prometheus/prometheus/model/labels"
)

// WeightLabel is a label of the series of profiles that stand for several: its value is for how many. Values come multiplied; the label has the time multiplied that such a profile
// covers, so that rates per second of process time, and what is normalized by it, are right too.
const WeightLabel = "sonde_weight"

// Weighted returns the labels of the series of profiles that stand for n each; ls itself where that is one.
func Weighted(ls labels.Labels, n int64) labels.Labels {
	if n <= 1 {
		return ls
	}
	b := labels.NewBuilder(ls)
	b.Set(WeightLabel, strconv.FormatInt(n, 10))
	return b.Labels()
}

// maxSeriesWeight bounds what the label may say, whoever set it.
const maxSeriesWeight = 1_000_000

// standsFor returns for how many each profile of a series stands.
func standsFor(ls labels.Labels) int64 {
	text := ls.Get(WeightLabel)
	if text == "" {
		return 1
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 1 || n > maxSeriesWeight {
		return 1 // a user's label of that name
	}
	return n
}
