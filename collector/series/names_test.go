package series

import (
	"runtime/metrics"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
)

// TestNamesAreClientGolangs: what client_golang gives of this process has the names, and the types, that the vocabulary knows.
func TestNamesAreClientGolangs(t *testing.T) {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(collectors.MetricsAll)), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if len(families) < 50 {
		t.Fatalf("client_golang gives %d families only", len(families))
	}
	theirs := map[string]bool{}
	for _, f := range families {
		theirs[f.GetName()] = true
		m, ok := Describe(f.GetName())
		if !ok {
			t.Errorf("%s is not described", f.GetName())
			continue
		}
		if m.Help == "" {
			t.Errorf("%s has no help", f.GetName())
		}
		if want := strings.ToLower(f.GetType().String()); string(m.Type) != want && m.Type != model.MetricTypeInfo {
			t.Errorf("%s is a %s, client_golang's is a %s", f.GetName(), m.Type, want)
		}
	}
	for _, d := range metrics.All() {
		name, ok := RuntimeName(d.Name, d.Cumulative && d.Kind != metrics.KindFloat64Histogram)
		if !ok || !theirs[name] && !strings.HasPrefix(d.Name, "/godebug/") { // those client_golang leaves out by itself
			t.Errorf("%s is %q (%v), which client_golang does not have", d.Name, name, ok)
		}
	}
}

func TestRuntimeName(t *testing.T) {
	for in, want := range map[string]string{
		"/gc/heap/live:bytes": "go_gc_heap_live_bytes", "/gc/pauses:seconds": "go_gc_pauses_seconds", "/cgo/go-to-c-calls:calls": "go_cgo_go_to_c_calls_calls",
		"/sched/gomaxprocs:threads": "go_sched_gomaxprocs_threads", "/a/b*c:x/y*z": "", "/a:per-cpu/s": "", "/a/b:per-cpu/s": "go_a_b_per_cpu_per_s", "": "", ":": "", "/:": "", "x:y": "", "/a/b": "", "/a/ä:b": "",
	} {
		got, ok := RuntimeName(in, false)
		if ok != (want != "") || ok && got != want {
			t.Errorf("RuntimeName(%q) = %q, %v, want %q", in, got, ok, want)
		}
	}
}

// sampleOf returns a sample of a series written as "name label value label value".
func sampleOf(text string, at int64, v float64) Sample {
	words := strings.Fields(text)
	return Sample{Labels: labels.FromStrings(append([]string{model.MetricNameLabel}, words...)...), T: at, V: v}
}

func TestCanonical(t *testing.T) {
	for _, tt := range []struct {
		name     string
		in, want []Sample
	}{
		{name: "goroutines have two names", in: []Sample{sampleOf("go_goroutine_count", 1, 7), sampleOf("cart_orders_total shop a", 1, 2)},
			want: []Sample{sampleOf("go_goroutines", 1, 7), sampleOf("cart_orders_total shop a", 1, 2), sampleOf("go_sched_goroutines_goroutines", 1, 7)}},
		{name: "modes are added up, moment by moment", in: []Sample{sampleOf("process_cpu_time_seconds_total cpu_mode user", 1, 2), sampleOf("process_cpu_time_seconds_total cpu_mode system", 1, 3),
			sampleOf("process_cpu_time_seconds_total cpu_mode wait", 1, 100), sampleOf("process_cpu_time_seconds_total state user", 2, 4)},
			want: []Sample{sampleOf("process_cpu_seconds_total", 1, 5), sampleOf("process_cpu_time_seconds_total cpu_mode wait", 1, 100), sampleOf("process_cpu_seconds_total", 2, 4)}},
		{name: "other labels keep series apart", in: []Sample{sampleOf("container_cpu_time_seconds_total cpu_mode user id a", 1, 2), sampleOf("container_cpu_time_seconds_total id b", 1, 3)},
			want: []Sample{sampleOf("container_cpu_usage_seconds_total id a", 1, 2), sampleOf("container_cpu_usage_seconds_total id b", 1, 3)}},
		{name: "a label in our words", in: []Sample{sampleOf("process_context_switches_total process_context_switch_type voluntary", 1, 2), sampleOf("process_context_switches_total type voluntary", 2, 3)},
			want: []Sample{sampleOf("process_context_switches_total type voluntary", 1, 2), sampleOf("process_context_switches_total type voluntary", 2, 3)}},
		{name: "only stacks have a name", in: []Sample{sampleOf("go_memory_used_bytes go_memory_type stack", 1, 2), sampleOf("go_memory_used_bytes go_memory_type other", 1, 3)},
			want: []Sample{sampleOf("go_memory_classes_heap_stacks_bytes", 1, 2), sampleOf("go_memory_used_bytes go_memory_type other", 1, 3)}},
		{name: "units", in: []Sample{sampleOf("process_runtime_go_gc_pause_ns_total", 1, 2e9)}, want: []Sample{sampleOf("go_gc_duration_seconds_sum", 1, 2)}},
	} {
		got := Canonical(tt.in)
		if len(got) != len(tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
			continue
		}
		for i, w := range tt.want {
			if g := got[i]; !labels.Equal(g.Labels, w.Labels) || g.T != w.T || g.V != w.V {
				t.Errorf("%s: sample %d is %v %v at %d, want %v %v at %d", tt.name, i, g.Labels, g.V, g.T, w.Labels, w.V, w.T)
			}
		}
	}
}

// TestRenamesAreDescribed: a name that others' are given is one of ours.
func TestRenamesAreDescribed(t *testing.T) {
	for from, rules := range renames {
		for _, r := range rules {
			for _, name := range []string{r.to, r.also} {
				base := name
				for _, suffix := range []string{"_bucket", "_sum", "_count"} {
					base = strings.TrimSuffix(base, suffix)
				}
				if _, ok := Describe(base); name != "" && !ok {
					t.Errorf("%s becomes %s, which is not described", from, name)
				}
			}
		}
		if CanonicalName(from) == "" {
			t.Errorf("%s has no name", from)
		}
	}
}
