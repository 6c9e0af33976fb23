// Package exposed gathers the metrics that processes offer themselves: over HTTP, on whichever of their ports a scan found them, else beside their profiles, in Prometheus' text format, OpenMetrics or protobuf, and from gops agents, whose memory statistics
// become go_memstats_* and the like.
//
//	m := exposed.New(exposed.Config{Source: scrapeManager, Series: appender})
//	err := m.Run(ctx)
//
// It asks the targets that package scrape asks for profiles, and those that have metrics only, with its credentials and in their networks, and never one whose agent reports it. Of what it finds it keeps the names that
// Config.Keep lists: this is no replacement for a Prometheus, but what is needed beside profiles.
//
// Invariants: what a target says is bounded in bytes, samples and labels, and cannot pass for another process's: a label that the process has already is renamed to exported_NAME, as Prometheus does. A sample's
// time is when it was asked for. A series that is not there any more is not sent any more.
//
// All methods are safe for concurrent use. The package may import scrape and series.
package exposed
