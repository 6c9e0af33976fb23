//go:build !linux

package cgroup

import "math"

// Group knows nothing where there are no cgroups.
type Group struct{}

// Self returns nil: there are no cgroups.
func Self() *Group { return nil }

// Close does nothing.
func (*Group) Close() {}

// Memory returns NaN: there is no limit.
func (*Group) Memory() float64 { return math.NaN() }

// Pressure returns NaN: it is not known.
func (*Group) Pressure() float64 { return math.NaN() }

// MemoryLimit returns +Inf: there is none.
func (*Group) MemoryLimit() float64 { return math.Inf(1) }

// Cores returns +Inf: nothing limits them.
func (*Group) Cores() float64 { return math.Inf(1) }
