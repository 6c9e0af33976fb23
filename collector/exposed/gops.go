package exposed

import (
	"bytes"
	"errors"
	"strconv"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/series"
)

// gopsNames are the numbers of a gops agent's memstats and stats by client_golang's names.
var gopsNames = map[string]labels.Labels{
	"alloc": named("go_memstats_alloc_bytes"), "total-alloc": named("go_memstats_alloc_bytes_total"), "sys": named("go_memstats_sys_bytes"),
	"mallocs": named("go_memstats_mallocs_total"), "frees": named("go_memstats_frees_total"),
	"heap-alloc": named("go_memstats_heap_alloc_bytes"), "heap-sys": named("go_memstats_heap_sys_bytes"), "heap-idle": named("go_memstats_heap_idle_bytes"),
	"heap-in-use": named("go_memstats_heap_inuse_bytes"), "heap-released": named("go_memstats_heap_released_bytes"), "heap-objects": named("go_memstats_heap_objects"),
	"stack-in-use": named("go_memstats_stack_inuse_bytes"), "stack-sys": named("go_memstats_stack_sys_bytes"),
	"mspan-in-use": named("go_memstats_mspan_inuse_bytes"), "mspan-sys": named("go_memstats_mspan_sys_bytes"),
	"mcache-in-use": named("go_memstats_mcache_inuse_bytes"), "mcache-sys": named("go_memstats_mcache_sys_bytes"),
	"buck-hash-sys": named("go_memstats_buck_hash_sys_bytes"), "other-sys": named("go_memstats_other_sys_bytes"), "gc-sys": named("go_memstats_gc_sys_bytes"),
	"next-gc": named("go_memstats_next_gc_bytes"), "gc-pause-total": named("go_gc_duration_seconds_sum"), "num-gc": named("go_gc_duration_seconds_count"),
	"gc-pause-end": named("go_memstats_last_gc_time_seconds"),
	"goroutines":   named("go_goroutines"), "OS threads": named("go_threads"), "GOMAXPROCS": named("go_sched_gomaxprocs_threads"),
}

func named(name string, more ...string) labels.Labels {
	return labels.FromStrings(append([]string{model.MetricNameLabel, name}, more...)...)
}

var errNumbers = errors.New("no numbers of a gops agent")

// gopsSamples reads what a gops agent answered to memstats or stats: lines of a name and a value. Lines that are not known are passed over.
func gopsSamples(out []series.Sample, text []byte, t int64) ([]series.Sample, error) {
	n := len(out)
	for line := range bytes.Lines(text) {
		name, value, ok := bytes.Cut(bytes.TrimSpace(line), []byte(": "))
		ls, known := gopsNames[string(name)]
		if !ok || !known {
			continue
		}
		v, err := gopsNumber(string(name), value)
		if err != nil {
			return out[:n], err
		}
		if string(name) == "gc-pause-end" {
			if v == 0 {
				continue // there was none yet
			}
			v /= 1e9
		}
		out = append(out, series.Sample{Labels: ls, T: t, V: v})
	}
	if len(out) == n {
		return out, errNumbers
	}
	return out, nil
}

// gopsNumber reads "12", "12 bytes", "1.00KB (1024 bytes)", "when heap-alloc >= 4.00MB (4194304 bytes)" and durations.
func gopsNumber(name string, value []byte) (float64, error) {
	if name == "gc-pause-total" {
		d, err := time.ParseDuration(string(value))
		return d.Seconds(), err
	}
	text, bytesIn := bytes.CutSuffix(value, []byte(" bytes)"))
	if bytesIn {
		text = text[bytes.LastIndexByte(text, '(')+1:]
	} else {
		text = bytes.TrimSuffix(text, []byte(" bytes"))
		text = text[bytes.LastIndexByte(text, ' ')+1:]
	}
	n, err := strconv.ParseUint(string(text), 10, 64)
	return float64(n), err
}
