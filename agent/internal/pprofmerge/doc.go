// Package pprofmerge joins the pprof profiles of one process into one, and takes oversized labels out of a profile.
//
// It owns just enough of the format for that: messages are rewritten field by field and interned by their bytes, nothing is
// decoded into structures. Merging is exact: samples with the same stack and labels add up.
//
// Its input is what runtime/pprof wrote in this process, or this module; input that is not valid pprof gives an error, never a
// panic, and no allocation is sized by a length that was only read. A Merger is not safe for concurrent use. Standard library only.
package pprofmerge
