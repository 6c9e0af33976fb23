// Package bench holds what the benchmarks of several packages share: the corpus as a fleet sends it, yardsticks that are measured in the same run as what they
// measure, and CPU time and disk space as the system counts them. Its tests measure a collector's whole paths, from a request's body to the ack and from a
// query to the answer's bytes.
//
// Figures are CPU time of the process, user and system, garbage collection included, because wall time says nothing on a machine that does other things. A limit
// stands in the unit of its figure: "1.81 x-decode(≤2.0)" is 1.81 times the yardstick, and at most 2.0 is asked for. docs/performance.md explains them all.
//
// Only tests import it.
package bench
