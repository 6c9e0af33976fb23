package main

import (
	"fmt"
	"time"

	"github.com/sonde-io/sonde/profiles"
)

// slack is how much of a range may lie before or after its data without a word: scraped CPU profiles come once a minute.
func slack(from, to int64) int64 { return max(90_000, (to-from)/20) }

// noteCoverage says on standard error where a gauge's mean is over a range of which the data is only a part: half an hour of a heap
// of 10 MiB is 5 MiB over the hour.
func (a *app) noteCoverage(t profiles.TypeDesc, from, to int64, st profiles.MergeStats) {
	if t.Kind != "gauge" || st.First == 0 || from == 0 {
		return
	}
	late := st.First-from > slack(from, to)
	early := min(to, a.now().UnixMilli())-st.Last > slack(from, to)
	var data, cure string
	switch {
	case late && early:
		data, cure = fmt.Sprintf("from %s to %s", stamp(st.First), stamp(st.Last)), fmt.Sprintf("--from %s --to %s", rfc3339(st.First), rfc3339(st.Last))
	case late:
		data, cure = "from "+stamp(st.First), "--from "+rfc3339(st.First)
	case early:
		data, cure = "up to "+stamp(st.Last), fmt.Sprintf("--from %s --to %s", rfc3339(from), rfc3339(st.Last))
	default:
		return
	}
	fmt.Fprintf(a.stderr, "note: there is data %s only, and means are over the whole range; %s narrows it\n", data, cure)
}

// rfc3339 writes Unix milliseconds as --from and --to read them, in this machine's zone as stamp does.
func rfc3339(ms int64) string { return time.UnixMilli(ms).Format(time.RFC3339) }

// whileProfiled says how many cores a process used while it was profiled. A scraped process is profiled for some seconds of each
// minute: its CPU time divided by the length of the range would be a fraction of what it used.
func whileProfiled(t profiles.TypeDesc, total int64, st profiles.MergeStats) string {
	if t.Profile != "cpu" || t.Unit != "nanoseconds" || st.CoveredMs <= 0 {
		return ""
	}
	covered := time.Duration(st.CoveredMs) * time.Millisecond
	cores, unit := float64(total)/float64(covered), "cores"
	if cores < 1 {
		cores, unit = 1000*cores, "mcores"
	}
	return fmt.Sprintf(" over %s of process time (%.3g %s a process)", formatValue(covered.Nanoseconds(), "nanoseconds"), cores, unit)
}
