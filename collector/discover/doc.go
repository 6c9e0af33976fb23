// Package discover finds the Go processes of a machine through /proc and says of each how it can be profiled, or why not.
//
//	s, err := discover.New(discover.Config{Version: "0.0.1"})
//	report, err := s.Scan(ctx)   // looks, and probes ports that it has not seen before
//	report, err := s.DryRun(ctx) // looks only; Process.Touch lists what Scan would request
//	fmt.Println(report.Summary())
//
// Looking is reading /proc: nothing of a process is opened but its files there and the port file of a gops agent. Probing is
// GET on loopback ports that the process itself listens on, in the network namespace that the process lives in, which a thread enters for the time of
// connecting; where that is not allowed the process is reported as OtherNetNS. One probe goes to each (pid, start time, port), answered by the right command line or not used. Uids, ports and executables can be allowed or
// denied; a process that its agent reports is left alone for good. The same ports are asked once for /metrics, the one with the profiles first, until one has go_* or process_*; no redirect is followed, and what
// says that it is of a process that began at another time is another's.
//
// A Scanner remembers executables by (device, inode, mtime) and processes by (pid, start time), so that a second scan reads
// little more than one stat of each process. It is safe for concurrent use; scans wait for each other. It starts no goroutine that
// outlives a call. On systems other than Linux New returns errors.ErrUnsupported.
//
// The package imports symbols/build, and neither the store nor the catalogue.
package discover
