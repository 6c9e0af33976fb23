// Package procstat reads what the kernel knows of processes and of the cgroups that they are in, and hands it on as metrics: process_* under client_golang's names, container_* under cAdvisor's.
//
//	m := procstat.New(procstat.Config{Series: appender, Given: exposed.Given})
//	m.SetTargets(procstat.Targets(report, host, agentOf)) // after every scan
//	err := m.Run(ctx)
//
// Who has an agent, or an endpoint with metrics of its own, tells most of process_* itself; only what it does not tell is read then, so that a series has one source.
//
// Invariants: a process is known by its pid and its start, so that no pid that was used again gives samples to the wrong series; what cannot be read is not there, and never zero;
// counters do not fall. A cgroup is read and told of once a round, however many processes are in it: container_* have the labels of its eldest process (by start, then pid; Sonde's own command last) that is read, and of the next
// one from the round after its end. So sums over processes count each cgroup once, and a process that is not the eldest has process_* only.
//
// All methods are safe for concurrent use. The package may import discover, scrape for its rows, series, internal/catalog and internal/cgroup.
package procstat
