// Package profiles holds what Sonde knows about pprof profiles in memory: decoding and encoding them, merging them by kind, subtracting cumulative
// captures, and the views made of a merge. profiles/store keeps them on disk.
//
// The model, in the order of the data's way:
//
//	bytes ─Decode→ Profile ─Delta→ Profile ─Symbols.AddProfile→ stack ids ─Accumulator→ Stacks ─→ Flame, Top, Callers, Ranking, folded, speedscope, pprof, PGO
//
// A Profile is one capture in flat arrays; it borrows its strings from the bytes it was decoded from. Symbols interns stacks: equal stacks of one table have one
// id. Stacks is the result of every merge: ids of one Symbols with a value each.
//
// Invariants. Decode is the gate for outside bytes and Symbols.Validate that for tables read from disk: behind them every index
// is in range and nothing is checked again. Values of kind Interval add up; values of kind Gauge are integrated over time and divided by the range, never summed
// over captures. Sums are exact (128 bits) until they become Stacks, where they are rounded half away from zero and cut to an int64.
//
// Errors about outside bytes are *FormatError (what is wrong) and *LimitError (which limit, and how much). Memory is bounded by Limits, never by a length
// that was merely read. Invalid UTF-8 becomes U+FFFD.
//
// Types are not safe for concurrent use unless they say so; functions are. A Symbols that nobody adds to may be read by many.
//
// Of third parties the package imports klauspost's gzip and Prometheus' model/labels (for selectors) only, and nothing of Sonde: google/pprof is the reference in tests.
package profiles
