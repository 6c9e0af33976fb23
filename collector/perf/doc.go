// Package perf takes CPU profiles of Go processes that have neither agent nor endpoint, from outside: the kernel's perf_event samples stacks by frame
// pointers, and symbols/pclntab names them from the binary's own function table.
//
//	s, err := perf.New(perf.Config{Sink: store, Describe: look})
//	s.SetTargets(targets) // after every scan: all processes that are to be watched
//	err = s.Run(ctx)      // returns when ctx is done and every goroutine has ended
//	s.Can(process), s.Status(), s.Capture(ctx, instance, "cpu", 30*time.Second)
//
// What it opens is one event per CPU for the whole machine where the rights allow (ModeSystem; the samples of processes that are not watched are dropped
// as they are read), or one per cgroup and CPU (ModeCgroup), else one per thread and CPU of its own user's processes (ModeProcess). Pids are those of its
// own pid namespace. A pid stands for a process only together with its start time: records of fork, exec and exit end a watch.
//
// Every 15 s each process that ran has one store.Push with the profile cpu (samples/count, cpu/nanoseconds) and, where asked for, offcpu
// (switches/count, delay/nanoseconds): time that threads, not goroutines, were off the CPU. A sample stands for the period that the kernel says it had. Lost records, processes that ended
// before they could be described, stacks beyond the limits and pushes that the sink refused are counted, never made up for.
//
// One goroutine, locked to its thread, reads the rings; two open processes; one names addresses and hands on what others append. All but the appending is
// measured by their threads' CPU clocks; over the limit (1 % of one CPU) the sampling rate is halved, then windows are left out, and the log says so.
//
// All methods are safe for concurrent use. On systems other than Linux New returns errors.ErrUnsupported. The package imports discover, symbols, profiles and the
// catalogue's types; not receive, scrape or api.
package perf
