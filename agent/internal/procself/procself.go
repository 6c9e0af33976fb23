package procself

import "math"

// Reading is what is known at one moment.
type Reading struct {
	ResidentBytes float64
	VirtualBytes  float64
	OpenFDs       float64
	MaxFDs        float64 // the soft limit
}

// unknown is a Reading of nothing.
func unknown() Reading {
	nan := math.NaN()
	return Reading{nan, nan, nan, nan}
}
