// Package agreement measures how far the profiles that collector/perf takes from outside agree with those that a program takes of itself, on this machine: it
// runs two programs (which are this executable again, so that no compiler is needed), profiles each for one and the same interval both ways, and compares.
//
// Two samples of the same program never agree entirely: what they would agree by if nothing but chance told them apart is computed by drawing both
// from the two profiles put together, and stands beside the measured figure.
//
// Compare may be called once at a time: it measures the CPU time of the whole process. The package imports collector/perf and profiles.
package agreement
