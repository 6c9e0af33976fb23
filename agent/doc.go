// Package agent profiles the Go program that imports it, all the time, and sends what it finds to a Sonde collector.
//
//	defer agent.Start(agent.Config{Service: "cart"}).Close()
//
// is the whole integration. Every 15 seconds one window goes out with the CPU profile of the window, allocations and the heap in
// use, mutex contention and blocking (where the program sets their rates), and the goroutines. Cumulative profiles are subtracted here, so
// each window holds only what is its own. Windows are numbered: one that is lost is a gap that can be seen.
//
// It owns three things: the runtime's one CPU profile (shared through CPUHandler and StartCPUProfile), at most two goroutines of
// its own, and one connection. It opens no port, installs no signal handler, never calls runtime.GC or runtime.ReadMemStats, and
// never fails the program: what is wrong is logged once and worked around. Captures cost at most 1 % of the process's CPU (or 0.1 % of a
// core for an idle one), measured as they run; what does not fit is skipped, and the window says so.
//
// Limits worth knowing: heap, mutex and block stacks have 32 frames, the size of the runtime's public records. The heap's figures lag by up
// to two garbage collections. The runtime samples the CPU at 100 Hz; a lower CPURate profiles a part of each window, and the profile's
// interval says which. While the agent profiles continuously, a direct call of runtime/pprof.StartCPUProfile fails as "already in use".
//
// All functions and methods are safe for concurrent use. The package and its tests import nothing outside the standard library.
package agent
