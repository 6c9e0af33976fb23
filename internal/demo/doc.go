// Package demo holds what `sonde demo` needs beside a collector: three small services, each in a process of its own, a steady
// load on them, and the build of checkout's second version.
//
// The services are real programs (cart with the agent, checkout with net/http/pprof, billing with neither) and are this very
// binary started again; only checkout's second version is another binary, built by the go command from sources embedded here
// under the same module and package path, so that its functions have the same names.
//
// Invariant: no service outlives the process that started it. It ends at the end of its standard input, and on Linux at the
// parent's death signal too. All listeners are loopback. Each part is safe for use by one goroutine unless it says otherwise.
//
// The package never imports collector or profiles: cmd/sonde wires it to them.
package demo
