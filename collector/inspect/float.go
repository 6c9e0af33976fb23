package inspect

import "math"

// floatAt reads a float64.
func floatAt(b []byte) float64 { return math.Float64frombits(le.Uint64(b)) }
