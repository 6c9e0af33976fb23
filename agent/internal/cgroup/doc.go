// Package cgroup reads how near this process is to the limits of its cgroup: memory, memory pressure and CPU, of version 1 and 2.
//
// The files of the process's cgroup and of those above it that set a limit are opened once and read again and again into a fixed buffer, so
// that a reading costs some microseconds and allocates nothing. A limit that changes is seen when Self is called anew.
//
// Memory in use is what the kernel counts without inactive page cache, which it would drop before it killed anything: what Kubernetes calls
// the working set. Where there is no limit, no cgroup or no such system, the values are NaN, or infinite cores.
//
// A Group is not safe for concurrent use. Imports only the standard library.
package cgroup
