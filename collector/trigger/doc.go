// Package trigger watches processes from their node and takes captures when rules say so: of those whose agent does not do it itself, or that have none.
//
//	e, err := trigger.New(trigger.Config{Executor: executors, Source: broker, Events: catalogue.AddEvents})
//	err = e.SetRules(rules)
//	e.SetTargets(trigger.Targets(report, host, agentOf)) // after every scan
//	e.Observe(instance, "heap", profile)                 // whatever gatherers see anyway
//	err = e.Run(ctx)
//
// The Engine reads /proc/PID/stat and a few files of each process's cgroup, the more often the nearer its memory is to the limit, within a bound on its own time. Of a process whose memory nears the limit
// it takes what the rules on memory name at once, keeps the newest in memory, and delivers it when the kernel has killed the process; the event oom_kill names these
// captures. A process that ends otherwise makes an event exit.
//
// Invariant: of what rules on other metrics take nothing is taken that was not granted, and nothing twice for one service, build and trigger within the cool-down: who
// grants is the Source. Two files decide whether it was the OOM killer: the counter of the process's own cgroup, or where that is gone already those above it, or the machine's.
//
// All methods are safe for concurrent use. The package may import capture, discover, scrape for its rows, profiles, internal/catalog and internal/cgroup.
package trigger
