package series

import (
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
)

// rename says what becomes of a series that OpenTelemetry's semantic conventions name.
type rename struct {
	to     string
	also   string            // a second name of the same value, "" mostly: client_golang has two for goroutines
	scale  float64           // 0 is 1
	label  string            // a label that tells series apart, which
	values map[string]string // these values only, and then loses it; "" keeps none of it
	as     string            // the label's name in our vocabulary; "": dropped, and series that differ in it only are added up
}

// modes are the modes of CPU time that count as used: wait is idle time.
var modes = map[string]string{"user": "", "system": ""}

// cpuTime is a rename of CPU time told by mode.
func cpuTime(to, label string) rename { return rename{to: to, label: label, values: modes} }

// switches is a rename of context switches.
func switches(label string) rename {
	return rename{to: "process_context_switches_total", label: label, values: map[string]string{"voluntary": "voluntary", "involuntary": "involuntary"}, as: "type"}
}

// renames are the names of OpenTelemetry's conventions for Go's runtime, processes and containers in their Prometheus spelling, as its exporters, its Collector and Prometheus'
// own OTLP receiver write them, with what client_golang and cAdvisor call the same thing. The older go.opentelemetry.io/contrib/instrumentation/runtime is in it too. What has
// several forms (a label was renamed between versions of the conventions) is tried in order.
var renames = map[string][]rename{
	"go_memory_used_bytes":                {{to: "go_memory_classes_heap_stacks_bytes", label: "go_memory_type", values: map[string]string{"stack": ""}}},
	"go_memory_limit_bytes":               {{to: "go_gc_gomemlimit_bytes"}},
	"go_memory_allocated_bytes_total":     {{to: "go_gc_heap_allocs_bytes_total"}},
	"go_memory_allocations_total":         {{to: "go_gc_heap_allocs_objects_total"}},
	"go_memory_gc_goal_bytes":             {{to: "go_gc_heap_goal_bytes"}},
	"go_goroutine_count":                  {{to: "go_goroutines", also: "go_sched_goroutines_goroutines"}},
	"go_processor_limit":                  {{to: "go_sched_gomaxprocs_threads"}},
	"go_config_gogc_percent":              {{to: "go_gc_gogc_percent"}},
	"go_schedule_duration_seconds":        {{to: "go_sched_latencies_seconds"}},
	"go_schedule_duration_seconds_bucket": {{to: "go_sched_latencies_seconds_bucket"}},
	"go_schedule_duration_seconds_sum":    {{to: "go_sched_latencies_seconds_sum"}},
	"go_schedule_duration_seconds_count":  {{to: "go_sched_latencies_seconds_count"}},

	"process_runtime_go_goroutines":              {{to: "go_goroutines", also: "go_sched_goroutines_goroutines"}},
	"process_runtime_go_cgo_calls":               {{to: "go_cgo_go_to_c_calls_calls_total"}},
	"process_runtime_go_gc_count_total":          {{to: "go_gc_duration_seconds_count"}},
	"process_runtime_go_gc_pause_ns_total":       {{to: "go_gc_duration_seconds_sum", scale: 1e-9}},
	"process_runtime_go_mem_heap_alloc_bytes":    {{to: "go_memstats_heap_alloc_bytes"}},
	"process_runtime_go_mem_heap_idle_bytes":     {{to: "go_memstats_heap_idle_bytes"}},
	"process_runtime_go_mem_heap_inuse_bytes":    {{to: "go_memstats_heap_inuse_bytes"}},
	"process_runtime_go_mem_heap_objects":        {{to: "go_memstats_heap_objects"}},
	"process_runtime_go_mem_heap_released_bytes": {{to: "go_memstats_heap_released_bytes"}},
	"process_runtime_go_mem_heap_sys_bytes":      {{to: "go_memstats_heap_sys_bytes"}},

	"process_cpu_time_seconds_total": {cpuTime("process_cpu_seconds_total", "cpu_mode"), cpuTime("process_cpu_seconds_total", "process_cpu_state"),
		cpuTime("process_cpu_seconds_total", "state")},
	"process_memory_usage_bytes":          {{to: "process_resident_memory_bytes"}},
	"process_memory_physical_usage_bytes": {{to: "process_resident_memory_bytes"}},
	"process_memory_virtual_bytes":        {{to: "process_virtual_memory_bytes"}},
	"process_memory_virtual_usage_bytes":  {{to: "process_virtual_memory_bytes"}},
	"process_open_file_descriptors":       {{to: "process_open_fds"}},
	"process_open_file_descriptor_count":  {{to: "process_open_fds"}},
	"process_unix_file_descriptor_count":  {{to: "process_open_fds"}},
	"process_thread_count":                {{to: "process_threads"}},
	"process_context_switches_total":      {switches("process_context_switch_type")},

	"container_cpu_time_seconds_total": {cpuTime("container_cpu_usage_seconds_total", "cpu_mode"), {to: "container_cpu_usage_seconds_total"}},
	"container_memory_rss_bytes":       {{to: "container_memory_rss"}},
}

// Canonical returns the samples of one process with client_golang's names for what OpenTelemetry calls otherwise; others are as they were. Samples that only a dropped label told
// apart (the modes of CPU time) are added up, so all of one moment must be in one call. It changes the slice, not what it points to.
func Canonical(samples []Sample) []Sample {
	var added map[sumKey]int // of what is added up: where it is in out
	var extra []Sample
	out := samples[:0]
	for _, s := range samples {
		rules, ok := renames[s.Labels.Get(model.MetricNameLabel)]
		if !ok {
			out = append(out, s)
			continue
		}
		r, value, ok := match(rules, s.Labels)
		if !ok {
			out = append(out, s)
			continue
		}
		s = r.apply(s, value)
		if r.label != "" && r.as == "" && s.H == nil {
			key := sumKey{s.Labels.Hash(), s.T}
			if at, ok := added[key]; ok && labels.Equal(out[at].Labels, s.Labels) {
				out[at].V += s.V
				continue
			}
			if added == nil {
				added = map[sumKey]int{}
			}
			added[key] = len(out)
		}
		if out = append(out, s); r.also != "" {
			s.Labels = renamed(s.Labels, r.also)
			extra = append(extra, s)
		}
	}
	return append(out, extra...)
}

type sumKey struct {
	hash uint64
	t    int64
}

// match returns the first rule that fits, and what its label becomes.
func match(rules []rename, ls labels.Labels) (r rename, value string, ok bool) {
	for _, r = range rules {
		if r.label == "" {
			return r, "", true
		}
		if value, ok = r.values[ls.Get(r.label)]; ok {
			return r, value, true
		}
	}
	return r, "", false
}

func (r rename) apply(s Sample, value string) Sample {
	b := labels.NewBuilder(s.Labels).Set(model.MetricNameLabel, r.to)
	if r.label != "" {
		b.Del(r.label)
	}
	if r.as != "" {
		b.Set(r.as, value)
	}
	s.Labels = b.Labels()
	if r.scale != 0 {
		s.V *= r.scale
	}
	return s
}

func renamed(ls labels.Labels, name string) labels.Labels {
	return labels.NewBuilder(ls).Set(model.MetricNameLabel, name).Labels()
}

// CanonicalName returns the name that Canonical gives a series' family, for its metadata; the name itself where it stays.
func CanonicalName(name string) string {
	if rules, ok := renames[name]; ok {
		return rules[0].to
	}
	return name
}
