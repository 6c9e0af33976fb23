// Package agent profiles the Go program that imports it, all the time, and sends what it finds to a Sonde collector.
//
//	defer agent.Start(agent.Config{Service: "cart"}).Close()
//
// is the whole integration. Every 15 seconds one window goes out with the CPU profile of the window, allocations and the heap in
// use, mutex contention and blocking (where the program sets their rates), and the goroutines. Cumulative profiles are subtracted here, so
// each window holds only what is its own. Windows are numbered: one that is lost is a gap that can be seen. All of runtime/metrics and the process's
// CPU, memory and files are read every 10 seconds, without stopping the program, and go with the windows.
//
// It owns three things: the runtime's one CPU profile (shared through CPUHandler, StartCPUProfile and captures), at most three goroutines of
// its own, and two connections: eight goroutines in all, and one more while an execution trace runs. It opens no port, installs no signal
// handler, never calls runtime.GC or runtime.ReadMemStats, and never fails the program: what is wrong is logged once and worked around.
//
// It keeps to two budgets. CPU: captures, their encoding and the sending take at most 1 % of what the process uses (or 0.1 % of a core in an idle
// one), by the clocks of the agent's own threads. What it cannot count is the sampling itself, and what runtime/pprof and net/http do on goroutines
// of theirs. Memory: 16 MiB in all at the default settings, the queue included. A profile that does not fit is skipped, and the window says so:
// a heap profile of more than some 14,000 stacks, a goroutine profile of more than MaxGoroutines. What somebody asks for is beside them: a text of
// all goroutines (8 MiB, and the program stands still for some 50 µs for each of them), an execution trace (12 MiB), the flight recorder.
//
// The collector may ask for captures and send triggers, which take them when the process does something out of the ordinary; Config.Captures
// turns both off. Without triggers nothing is watched; with them a sample is taken once a second, ten times near the memory's limit, and
// allocates nothing. Where the cgroup's memory nears its limit the heap and the goroutines leave before anything else.
//
// The Wall profile says where goroutines are, running or not. It costs 50 µs and half a microsecond for each goroutine ten times a second,
// and as much less often as half of the budget asks for.
//
// What leaves the process is chosen in it: KeepLabels, DropLabels, Redact. Its arguments and environment stay, but for what SendArgs and SendEnv
// name, a hash of the arguments and the runtime's own variables (GOGC, GOMEMLIMIT, …), so that a start with others shows, and
// OTEL_RESOURCE_ATTRIBUTES, the SONDE_ variables and those of Kubernetes' downward API that become labels.
//
// The garbage collector sees about 1.2 MB more live heap while the CPU is profiled, the runtime's own buffer, and some 5 MB allocated for each
// window. In a program whose live heap is only a megabyte or two that moves the collector's pace; GOGC=400 or a memory limit makes it small again.
//
// Limits worth knowing: heap, mutex and block stacks have 32 frames, the size of the runtime's public records. The heap's figures lag by up
// to two garbage collections. The runtime samples the CPU at 100 Hz; a lower CPURate profiles a part of each window, and the profile's
// interval says which. While the agent profiles continuously, a direct call of runtime/pprof.StartCPUProfile fails as "already in use".
//
// All functions and methods are safe for concurrent use. The package and its tests import nothing outside the standard library.
package agent
