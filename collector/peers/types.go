package peers

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/sonde-io/sonde/profiles"
)

// typeNames are the names that other systems have for our types of profiles.
var typeNames = map[string]string{
	"process_cpu": "cpu", "cpu": "cpu", "memory": "heap", "heap": "heap", "allocs": "heap", "goroutine": "goroutine", "goroutines": "goroutine",
	"goroutine_leak": "goroutineleak", "goroutineleak": "goroutineleak", "mutex": "mutex", "mutex_count": "mutex", "mutex_duration": "mutex", "block": "block", "block_count": "block",
	"block_duration": "block", "wall": "wall", "threadcreate": "threadcreate", "off_cpu": "offcpu", "offcpu": "offcpu", "off-cpu": "offcpu",
}

// typeOf says which of our types p is. name is what the sender calls it, display what it calls single columns; both may be empty.
func typeOf(p *profiles.Profile, name string, display func(column string) string) string {
	if t, ok := typeNames[strings.TrimPrefix(name, "godeltaprof_")]; ok {
		return t
	}
	for _, t := range p.SampleTypes {
		if display != nil {
			if t, ok := typeNames[display(t.Type)]; ok {
				return t
			}
		}
	}
	has := func(names ...string) bool {
		return slices.ContainsFunc(p.SampleTypes, func(t profiles.ValueType) bool { return slices.Contains(names, t.Type) })
	}
	switch {
	case has("wall"):
		return "wall"
	case has("cpu") || has("samples") && p.PeriodType.Type == "cpu":
		return "cpu"
	case has("off_cpu", "offcpu", "off-cpu"), has("events") && p.SampleTypes[0].Unit == "nanoseconds": // the eBPF profiler's
		return "offcpu"
	case has("alloc_objects", "alloc_space", "inuse_objects", "inuse_space", "objects", "space"):
		return "heap"
	case has("goroutine", "goroutines"):
		return "goroutine"
	case has("goroutineleak"):
		return "goroutineleak"
	case has("mutex_count", "mutex_duration"):
		return "mutex"
	case has("block_count", "block_duration"):
		return "block"
	case has("contentions", "delay"):
		return contention(p)
	case name != "" || len(p.SampleTypes) == 0:
		return plainName(name)
	}
	return plainName(p.SampleTypes[0].Type)
}

// contention tells a mutex profile from a block profile, which have the same columns, by the function that was called: the one is counted where a lock is given back, the
// other where a goroutine goes on.
func contention(p *profiles.Profile) string {
	for _, s := range p.Samples {
		for _, id := range p.LocationIDs[s.Locations.Lo:s.Locations.Hi] {
			for _, l := range p.Lines[p.Locations[id].Lines.Lo:p.Locations[id].Lines.Hi] {
				switch name := p.Functions[l.Function].Name; {
				case strings.HasSuffix(name, "nlock") && strings.HasPrefix(name, "sync."), strings.HasPrefix(name, "runtime.unlock"), strings.HasPrefix(name, "runtime._LostContended"):
					return "mutex"
				case strings.HasPrefix(name, "runtime.chan"), strings.HasPrefix(name, "runtime.select"), strings.HasSuffix(name, "Lock") && strings.HasPrefix(name, "sync."),
					strings.HasSuffix(name, ".Wait") && strings.HasPrefix(name, "sync."):
					return "block"
				}
			}
		}
	}
	return "block"
}

// columnNames are other names of our columns, by type.
var columnNames = map[string]map[string]string{
	"goroutine":     {"goroutines": "goroutine"},
	"goroutineleak": {"goroutine_leak": "goroutineleak", "goroutines": "goroutineleak"},
	"heap":          {"objects": "inuse_objects", "space": "inuse_space"},
	"mutex":         {"mutex_count": "contentions", "mutex_duration": "delay"},
	"block":         {"block_count": "contentions", "block_duration": "delay"},
	"offcpu":        {"off_cpu": "delay", "off-cpu": "delay", "offcpu": "delay", "events": "delay"}, // as our own sampler calls it
}

// settleColumns gives p's columns our names, and a CPU profile that only counts samples the time that these stand for.
func settleColumns(typ string, p *profiles.Profile) {
	for i := range p.SampleTypes {
		t := &p.SampleTypes[i]
		if to, ok := columnNames[typ][t.Type]; ok {
			t.Type = to
		}
		t.Type = plainName(t.Type)
		if len(t.Unit) > 64 {
			t.Unit = t.Unit[:64]
		}
		for n, name := 2, t.Type; slices.ContainsFunc(p.SampleTypes[:i], func(o profiles.ValueType) bool { return o.Type == t.Type }); n++ {
			t.Type = cut(name, 60) + "_" + strconv.Itoa(n)
		}
	}
	if typ == "cpu" && p.Columns() == 1 && p.SampleTypes[0].Type == "samples" && p.Period > 0 && (p.PeriodType.Unit == "nanoseconds" || p.PeriodType.Unit == "") {
		values := make([]int64, 0, 2*len(p.Values))
		for _, v := range p.Values {
			values = append(values, v, times(v, p.Period))
		}
		p.Values = values
		p.SampleTypes = []profiles.ValueType{{Type: "samples", Unit: "count"}, {Type: "cpu", Unit: "nanoseconds"}}
	}
}

// times multiplies, and stays at the largest number where that is passed.
func times(a, b int64) int64 {
	v, _ := profiles.Mul128(a, b).Int64()
	return v
}

// plainName makes s a name that a type or a column may have.
func plainName(s string) string {
	if s == "" {
		return "unknown"
	}
	b := []byte(cut(s, 64))
	for i, c := range b {
		if !profiles.ValidName(string(c)) {
			b[i] = '_'
		}
	}
	return string(b)
}

// sampleLabels gives the labels of samples our names. profile_id is what Pyroscope's tracing packages called the span's id.
func sampleLabels(p *profiles.Profile) {
	for i := range p.Samples {
		labels := p.Labels[p.Samples[i].Labels.Lo:p.Samples[i].Labels.Hi]
		changed := false
		for k := range labels {
			if labels[k].Key == "profile_id" && !slices.ContainsFunc(labels, func(l profiles.SampleLabel) bool { return l.Key == "span_id" }) {
				labels[k].Key, changed = "span_id", true
			}
		}
		if changed {
			sortLabels(labels)
		}
	}
}

// sortLabels puts labels into the order that a profile has them in.
func sortLabels(labels []profiles.SampleLabel) {
	slices.SortFunc(labels, func(a, b profiles.SampleLabel) int {
		return cmp.Or(strings.Compare(a.Key, b.Key), strings.Compare(a.Str, b.Str), cmp.Compare(a.Num, b.Num))
	})
}
