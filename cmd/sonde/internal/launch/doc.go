// Package launch starts a program and stands between it and its standard error, as little in the way as can be: `sonde run`.
//
// Standard input and output are the program's own. Its standard error is a pipe, or a terminal of its own where it would have been one, whose bytes are passed on as they are but for the
// lines of GODEBUG traces (collector/godebug). The program stays in the process group of who started it, so a shell's job control and what is typed reach it as ever; other signals are passed
// on. It is mirrored how it ends: by its code or by its signal. As process 1 of a container, children that nobody else waits for are reaped. Children that outlive the program keep its
// standard error: a process of its own, the same executable, passes on what they write, as it is, until the last of them has closed it. Run does not wait for them.
//
// A Reporter sends what was taken to a collector. It never makes the program wait: what finds no room in its bounded queue is dropped and counted.
//
// Run is Linux's and that of other Unix systems, without a terminal of its own there; elsewhere it is an error.
package launch
