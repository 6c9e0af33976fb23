package series

import (
	"path"
	"runtime/metrics"
	"strings"
	"sync"

	"github.com/prometheus/common/model"
)

// RuntimeName returns the name that client_golang gives a metric of runtime/metrics ("/gc/heap/live:bytes" is go_gc_heap_live_bytes), and whether it can be one.
// counter says that the metric is cumulative and no histogram: its name ends in _total then.
func RuntimeName(name string, counter bool) (string, bool) {
	key, unit, ok := strings.Cut(name, ":")
	if !ok || len(key) < 2 || key[0] != '/' {
		return "", false
	}
	s := "go_" + underscores.Replace(path.Dir(key[1:])) + "_" + strings.ReplaceAll(path.Base(key), "-", "_") + "_" + units.Replace(unit)
	if counter {
		s += "_total"
	}
	return s, model.LegacyValidation.IsValidMetricName(s)
}

var (
	underscores = strings.NewReplacer("/", "_", "-", "_")
	units       = strings.NewReplacer("-", "_", "*", "_", "/", "_per_")
)

// Describe returns type, unit and help of a name that we give series ourselves, so that nobody has to send them.
func Describe(name string) (Metadata, bool) {
	m, ok := described()[name]
	return m, ok
}

// described is the table of Describe, made when it is first asked for.
var described = sync.OnceValue(func() map[string]Metadata {
	all := map[string]Metadata{}
	for typ, text := range helps {
		for line := range strings.Lines(strings.TrimSpace(text)) {
			name, help, _ := strings.Cut(strings.TrimSpace(line), " ")
			all[name] = Metadata{Name: name, Type: typ, Help: help, Unit: unitOf(name)}
		}
	}
	for _, d := range metrics.All() {
		typ := model.MetricTypeGauge
		switch {
		case d.Kind == metrics.KindFloat64Histogram:
			typ = model.MetricTypeHistogram
		case d.Cumulative:
			typ = model.MetricTypeCounter
		}
		if name, ok := RuntimeName(d.Name, typ == model.MetricTypeCounter); ok {
			all[name] = Metadata{Name: name, Type: typ, Help: d.Description + " Sourced from " + d.Name + ".", Unit: unitOf(name)}
		}
	}
	return all
})

// unitOf reads the unit off a name.
func unitOf(name string) string {
	name = strings.TrimSuffix(name, "_total")
	for _, unit := range []string{"seconds", "bytes", "ratio", "percent"} {
		if strings.HasSuffix(name, "_"+unit) {
			return unit
		}
	}
	return ""
}

// helps describes the names that are not runtime/metrics' own: a name and its help a line.
var helps = map[model.MetricType]string{
	model.MetricTypeInfo: `
go_info Information about the Go environment.
`,
	model.MetricTypeSummary: `
go_gc_duration_seconds A summary of the wall-time pause (stop-the-world) duration in garbage collection cycles.
`,
	model.MetricTypeGauge: `
go_goroutines Number of goroutines that currently exist.
go_threads Number of OS threads created.
go_memstats_alloc_bytes Number of bytes allocated in heap and currently in use.
go_memstats_sys_bytes Number of bytes obtained from system.
go_memstats_heap_alloc_bytes Number of heap bytes allocated and currently in use, same as go_memstats_alloc_bytes.
go_memstats_heap_sys_bytes Number of heap bytes obtained from system.
go_memstats_heap_idle_bytes Number of heap bytes waiting to be used.
go_memstats_heap_inuse_bytes Number of heap bytes that are in use.
go_memstats_heap_released_bytes Number of heap bytes released to OS.
go_memstats_heap_objects Number of currently allocated objects.
go_memstats_stack_inuse_bytes Number of bytes obtained from system for stack allocator in non-CGO environments.
go_memstats_stack_sys_bytes Number of bytes obtained from system for stack allocator.
go_memstats_mspan_inuse_bytes Number of bytes in use by mspan structures.
go_memstats_mspan_sys_bytes Number of bytes used for mspan structures obtained from system.
go_memstats_mcache_inuse_bytes Number of bytes in use by mcache structures.
go_memstats_mcache_sys_bytes Number of bytes used for mcache structures obtained from system.
go_memstats_buck_hash_sys_bytes Number of bytes used by the profiling bucket hash table.
go_memstats_gc_sys_bytes Number of bytes used for garbage collection system metadata.
go_memstats_other_sys_bytes Number of bytes used for other system allocations.
go_memstats_next_gc_bytes Number of heap bytes when next garbage collection will take place.
go_memstats_last_gc_time_seconds Number of seconds since 1970 of last garbage collection.
process_resident_memory_bytes Resident memory size in bytes.
process_virtual_memory_bytes Virtual memory size in bytes.
process_virtual_memory_max_bytes Maximum amount of virtual memory available in bytes.
process_open_fds Number of open file descriptors.
process_max_fds Maximum number of open file descriptors.
process_start_time_seconds Start time of the process since unix epoch in seconds.
process_threads Number of OS threads in the process.
container_spec_cpu_quota CPU quota of the container, in microseconds a period. Absent where there is no limit.
container_spec_cpu_period CPU period of the container, in microseconds.
container_spec_memory_limit_bytes Memory limit of the container in bytes. Absent where there is none.
container_memory_usage_bytes Current memory usage of the container in bytes, page cache included.
container_memory_working_set_bytes Memory usage of the container without inactive page cache, in bytes.
container_memory_rss Anonymous memory of the container in bytes.
gctrace_cycle Number of the garbage collection cycle that a line of gctrace tells of.
gctrace_pause_seconds Wall time of a stop-the-world phase of a garbage collection cycle.
gctrace_concurrent_seconds Wall time of the concurrent mark phase of a garbage collection cycle.
gctrace_cpu_seconds CPU time of a phase of a garbage collection cycle.
gctrace_cpu_ratio Share of the available CPU time spent in garbage collection since the program started.
gctrace_heap_bytes Heap at the start and at the end of a garbage collection cycle, and live heap.
gctrace_goal_bytes Heap goal of a garbage collection cycle.
gctrace_stacks_bytes Stacks scanned in a garbage collection cycle.
gctrace_globals_bytes Globals scanned in a garbage collection cycle.
gctrace_procs Processors used in a garbage collection cycle.
gctrace_forced 1 where a garbage collection cycle was forced by runtime.GC, else 0.
schedtrace_gomaxprocs GOMAXPROCS when the line was printed.
schedtrace_idleprocs Idle processors when the line was printed.
schedtrace_threads OS threads when the line was printed.
schedtrace_spinning_threads OS threads that look for work.
schedtrace_need_spinning 1 where the scheduler wants another thread to look for work, else 0.
schedtrace_idle_threads Idle OS threads.
schedtrace_runqueue Goroutines in the global run queue.
schedtrace_local_runqueue Goroutines in the run queues of processors, added up.
schedtrace_local_runqueue_max Goroutines in the longest run queue of a processor.
schedtrace_goroutines Goroutines by state, of scheddetail.
`,
	model.MetricTypeCounter: `
go_memstats_alloc_bytes_total Total number of bytes allocated in heap until now, even if released already.
go_memstats_mallocs_total Total number of heap objects allocated, both live and gc-ed.
go_memstats_frees_total Total number of heap objects frees.
process_cpu_seconds_total Total user and system CPU time spent in seconds.
process_network_receive_bytes_total Number of bytes received by the process over the network.
process_network_transmit_bytes_total Number of bytes sent by the process over the network.
process_context_switches_total Context switches of the process, by type.
container_cpu_usage_seconds_total CPU time consumed by the container in seconds.
container_cpu_cfs_periods_total Number of elapsed enforcement period intervals.
container_cpu_cfs_throttled_periods_total Number of throttled period intervals.
container_cpu_cfs_throttled_seconds_total Total time duration the container has been throttled.
container_oom_events_total Count of out of memory events observed for the container.
container_pressure_cpu_waiting_seconds_total Total time some tasks in the container waited for CPU.
container_pressure_cpu_stalled_seconds_total Total time no tasks in the container could make progress due to CPU congestion.
container_pressure_memory_waiting_seconds_total Total time some tasks in the container waited for memory.
container_pressure_memory_stalled_seconds_total Total time no tasks in the container could make progress due to memory congestion.
container_pressure_io_waiting_seconds_total Total time some tasks in the container waited for I/O.
container_pressure_io_stalled_seconds_total Total time no tasks in the container could make progress due to I/O congestion.
`,
}
