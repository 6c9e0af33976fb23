// Package godebug reads what Go's runtime prints about itself under GODEBUG: gctrace (1 and 2), schedtrace, scheddetail, scavtrace, gcpacertrace and inittrace, of Go 1.18 to 1.26.
//
// Parse knows one line. A Splitter takes such lines out of a stream that they share with the program's own output, whose bytes it passes on as they are; a Sampler turns lines into samples
// at the time that the line tells; a Recorder puts both together for one process and gathers the raw lines in chunks. A Followers does that for log files (plain, CRI, Docker) and for
// journald, through rotation, with its positions kept.
//
// The runtime prints a line in many small writes, so whatever else the process prints may stand in the middle of it. What cannot be told apart for sure is left where it is and counted.
//
// Limits: a line of at most 64 KiB, bytes held back at most that and for at most 2 s. Nothing here is safe for concurrent use unless it says so.
package godebug
