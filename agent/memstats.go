package agent

import "runtime/metrics"

// derived is a go_memstats_ series: a sum of metrics that the runtime counts under newer names.
type derived struct {
	name  string
	terms []int // indices of metering.samples
}

// memstats are the names that dashboards know from runtime.MemStats and what they are made of, as in Prometheus' Go client; ReadMemStats itself stops the program.
var memstats = []struct {
	name  string
	terms []string
}{
	{"go_memstats_alloc_bytes", []string{"/memory/classes/heap/objects:bytes"}},
	{"go_memstats_alloc_bytes_total", []string{"/gc/heap/allocs:bytes"}},
	{"go_memstats_sys_bytes", []string{"/memory/classes/total:bytes"}},
	{"go_memstats_mallocs_total", []string{"/gc/heap/allocs:objects", "/gc/heap/tiny/allocs:objects"}},
	{"go_memstats_frees_total", []string{"/gc/heap/frees:objects", "/gc/heap/tiny/allocs:objects"}},
	{"go_memstats_heap_alloc_bytes", []string{"/memory/classes/heap/objects:bytes"}},
	{"go_memstats_heap_sys_bytes", []string{"/memory/classes/heap/objects:bytes", "/memory/classes/heap/unused:bytes", "/memory/classes/heap/released:bytes", "/memory/classes/heap/free:bytes"}},
	{"go_memstats_heap_idle_bytes", []string{"/memory/classes/heap/released:bytes", "/memory/classes/heap/free:bytes"}},
	{"go_memstats_heap_inuse_bytes", []string{"/memory/classes/heap/objects:bytes", "/memory/classes/heap/unused:bytes"}},
	{"go_memstats_heap_released_bytes", []string{"/memory/classes/heap/released:bytes"}},
	{"go_memstats_heap_objects", []string{"/gc/heap/objects:objects"}},
	{"go_memstats_stack_inuse_bytes", []string{"/memory/classes/heap/stacks:bytes"}},
	{"go_memstats_stack_sys_bytes", []string{"/memory/classes/heap/stacks:bytes", "/memory/classes/os-stacks:bytes"}},
	{"go_memstats_mspan_inuse_bytes", []string{"/memory/classes/metadata/mspan/inuse:bytes"}},
	{"go_memstats_mspan_sys_bytes", []string{"/memory/classes/metadata/mspan/inuse:bytes", "/memory/classes/metadata/mspan/free:bytes"}},
	{"go_memstats_mcache_inuse_bytes", []string{"/memory/classes/metadata/mcache/inuse:bytes"}},
	{"go_memstats_mcache_sys_bytes", []string{"/memory/classes/metadata/mcache/inuse:bytes", "/memory/classes/metadata/mcache/free:bytes"}},
	{"go_memstats_buck_hash_sys_bytes", []string{"/memory/classes/profiling/buckets:bytes"}},
	{"go_memstats_gc_sys_bytes", []string{"/memory/classes/metadata/other:bytes"}},
	{"go_memstats_other_sys_bytes", []string{"/memory/classes/other:bytes"}},
	{"go_memstats_next_gc_bytes", []string{"/gc/heap/goal:bytes"}},
}

// findMemstats returns those of memstats whose every term this release of Go has.
func findMemstats(index map[string]int, samples []metrics.Sample) (out []derived) {
	for _, s := range memstats {
		d := derived{name: s.name}
		for _, term := range s.terms {
			if i, ok := index[term]; ok && samples[i].Value.Kind() == metrics.KindUint64 {
				d.terms = append(d.terms, i)
			}
		}
		if len(d.terms) == len(s.terms) {
			out = append(out, d)
		}
	}
	return out
}

func (d *derived) value(samples []metrics.Sample) float64 {
	sum := uint64(0)
	for _, i := range d.terms {
		sum += samples[i].Value.Uint64()
	}
	return float64(sum)
}
