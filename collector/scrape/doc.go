// Package scrape takes profiles from processes that do not send them: from /debug/pprof over HTTP and from gops agents.
//
//	m, err := scrape.New(scrape.Config{Sink: store, Scanner: scanner})
//	m.SetTargets(static)  // targets of the configuration; again on reload
//	err = m.Run(ctx)      // returns when ctx is done and every goroutine has ended
//	m.Status(), m.Summary(), m.Processes()
//
// The Manager has one goroutine per target, which does one thing at a time, and one for the scanner. What it sends to the Sink are intervals
// [start, end) and gauges as ARCHITECTURE.md defines them: the cumulative columns of heap, mutex and block are subtracted here,
// once. The first capture of a target is the baseline and sends nothing; a window that the sink refuses is retried with the same key a few
// times and then counted as a gap, never sent as part of the next. Values are never scaled: a CPU profile of 10 s of each minute says what these 10 s cost.
//
// A careful guest: one request at a time to each target, with jitter, timeout and size limit; exponential back-off on errors; a type that the target does not
// serve is not asked for again; CPU profiles have a duty cycle, spread over the replicas of a service; a CPU profile that someone else is
// taking is a rival to whom is yielded.
//
// All methods are safe for concurrent use. The package does not import collector, receive or api.
package scrape
