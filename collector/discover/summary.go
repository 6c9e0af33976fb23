package discover

import (
	"fmt"
	"strings"
)

// Summary says in one line what was found: "31 Go processes, profiling 12, 14 need root, 5 have no endpoint". A process that its agent reports
// is profiled. Kinds that there are none of are left out, and so is Sonde itself.
func (r Report) Summary() string {
	n := map[State]int{}
	for _, p := range r.Processes {
		n[p.State]++
	}
	total := len(r.Processes) - n[SelfProcess]
	var b strings.Builder
	fmt.Fprintf(&b, "%d Go %s, profiling %d", total, plural(total, "process", "processes"), n[Profiling]+n[ByAgent])
	for _, k := range []struct {
		state     State
		one, many string
	}{
		{NeedsRoot, "needs root", "need root"},
		{NoEndpoint, "has no endpoint", "have no endpoint"},
		{OtherNetNS, "is in another network namespace", "are in another network namespace"},
		{Denied, "is denied by rule", "are denied by rule"},
		{NotProbed, "is not probed yet", "are not probed yet"},
		{Waiting, "is waited for", "are waited for"},
	} {
		if c := n[k.state]; c > 0 {
			fmt.Fprintf(&b, ", %d %s", c, plural(c, k.one, k.many))
		}
	}
	if r.Unknown > 0 {
		fmt.Fprintf(&b, "; %d more %s be looked at", r.Unknown, plural(r.Unknown, "process may not", "processes may not"))
	}
	return b.String()
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}
