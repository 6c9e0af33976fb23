package api

import (
	"github.com/sonde-io/sonde/internal/catalog"
)

// identity names a process whoever looks at it: its own pid is the innermost that the kernel lists. Two with the same identity in
// pid namespaces that are known and differ are not the same.
type identity struct {
	boot  string
	ticks uint64
	pid   int
}

func identityOf(p *catalog.Process) (identity, bool) {
	id := identity{p.BootID, p.StartTicks, p.PID}
	if n := len(p.NSPIDs); n > 0 {
		id.pid = p.NSPIDs[n-1]
	}
	return id, id.boot != "" && id.ticks != 0
}

// whereabouts name a process by where it is, for senders that know nothing of the kernel: one program of a service in one container or pod, or one pid of a host.
type whereabouts struct {
	service, place string
	pid            int
}

func whereaboutsOf(p *catalog.FleetProcess) []whereabouts {
	var out []whereabouts
	if p.Container != "" {
		out = append(out, whereabouts{p.Service, "container " + p.Container, 0})
	}
	if p.Pod != "" {
		out = append(out, whereabouts{p.Service, "pod " + p.Pod, 0})
	}
	if p.Container == "" && p.Pod == "" && p.Host != "" && p.PID != 0 {
		out = append(out, whereabouts{p.Service, "host " + p.Host, p.PID})
	}
	return out
}

// joiner puts the rows of one process together. Each row gets a group; groups that turn out to be one are united.
type joiner struct {
	rows       []catalog.FleetProcess
	here       []bool
	parent     []int
	instance   map[string]int
	identities map[identity][]int // rows with that identity, each of another pid namespace
}

// newJoiner returns a joiner of these rows, which it makes its own.
func newJoiner(rows []catalog.FleetProcess) *joiner {
	n := len(rows)
	j := &joiner{rows: rows, here: make([]bool, n), parent: make([]int, n), instance: make(map[string]int, n), identities: make(map[identity][]int, n)}
	for i := range rows {
		j.enter(i)
	}
	return j
}

func (j *joiner) root(i int) int {
	for j.parent[i] != i {
		j.parent[i] = j.parent[j.parent[i]]
		i = j.parent[i]
	}
	return i
}

func (j *joiner) unite(a, b int) {
	if a, b = j.root(a), j.root(b); a != b {
		j.parent[max(a, b)] = min(a, b)
	}
}

// find returns the row of the process that p is, -1 for none: that of its instance, else one in its own pid namespace, else one that does not know its namespace.
func (j *joiner) find(p *catalog.Process) int {
	if i, ok := j.instance[p.Instance]; ok {
		return i
	}
	id, ok := identityOf(p)
	if !ok {
		return -1
	}
	at := -1
	for _, i := range j.identities[id] {
		switch ns := j.rows[i].PIDNS; {
		case ns == p.PIDNS:
			return i
		case at < 0 && (ns == 0 || p.PIDNS == 0):
			at = i
		}
	}
	return at
}

// enter makes row i known.
func (j *joiner) enter(i int) {
	p := &j.rows[i].Process
	j.parent[i] = i
	j.instance[p.Instance] = i
	if id, ok := identityOf(p); ok {
		j.identities[id] = append(j.identities[id], i)
	}
}

// joinIdentities unites the rows with one identity and pid namespace. One that does not know its namespace is the process of the only namespace there is; of several, as when a pod's containers start within
// one tick of the clock, the one in its container.
func (j *joiner) joinIdentities() {
	for _, rows := range j.identities {
		if len(rows) == 1 {
			continue
		}
		first := map[uint64]int{} // by namespace
		for _, i := range rows {
			ns := j.rows[i].PIDNS
			if other, ok := first[ns]; ok {
				j.unite(i, other)
			} else {
				first[ns] = i
			}
		}
		unknown, ok := first[0]
		if !ok {
			continue
		}
		delete(first, 0)
		for _, i := range first {
			if len(first) == 1 || j.rows[i].Container != "" && j.rows[i].Container == j.rows[unknown].Container {
				j.unite(i, unknown)
			}
		}
	}
}

// add takes a row of a process that a scan has just found.
func (j *joiner) add(p catalog.FleetProcess) {
	j.rows, j.here, j.parent = append(j.rows, p), append(j.here, true), append(j.parent, 0)
	j.enter(len(j.rows) - 1)
}

// saw notes that a scan found p at the given time. Of a row that is known its state and reason are the scan's, but a gatherer that took profiles knows better who the process was than one that only looks.
func (j *joiner) saw(p *catalog.Process, keep bool) {
	i := j.find(p)
	if i < 0 {
		if keep {
			node, pod, container := catalog.PlaceOf(p)
			j.add(catalog.FleetProcess{Process: *p, Node: node, Pod: pod, Container: container})
		}
		return
	}
	r := &j.rows[i]
	if r.State != "running" && r.LastSeen > p.LastSeen { // it has ended since
		return
	}
	j.here[i] = true
	r.LastSeen = max(r.LastSeen, p.LastSeen)
	if r.Instance != p.Instance {
		r.State, r.Reason = "running", "" // it is known by its agent's word, and is there
		return
	}
	if p.Gatherer != "" {
		r.Gatherer = p.Gatherer
	}
	r.State, r.Reason = p.State, p.Reason
}

// gather makes the fleet of what the catalogue knows, what this machine's discovery sees now, and what nodes reported.
func gather(known []catalog.FleetProcess, seen []catalog.Process, nodes []node, now int64) []member {
	j := newJoiner(known)
	for i := range seen {
		j.saw(&seen[i], true)
	}
	for i := range nodes {
		n := &nodes[i]
		if n.silent(now) {
			continue
		}
		for k := range n.Items {
			it := &n.Items[k]
			p := catalog.Process{Instance: it.Instance, BootID: n.Boot, PIDNS: it.NS, StartTicks: it.Ticks, PID: it.PID, LastSeen: n.reported, State: "running",
				Gatherer: it.Gatherer, Reason: it.Reason}
			if it.Inner != 0 {
				p.NSPIDs = []int{it.Inner}
			}
			j.saw(&p, false)
		}
	}
	j.joinIdentities()
	j.joinSenders()
	return j.members()
}

// joinSenders unites the rows of senders that know nothing of the kernel with the one process that is where they say they are. Where there are several none is.
func (j *joiner) joinSenders() {
	at := map[whereabouts]int{} // row plus one; -1: several processes
	for i := range j.rows {
		if _, ok := identityOf(&j.rows[i].Process); !ok {
			continue
		}
		for _, w := range whereaboutsOf(&j.rows[i]) {
			switch other := at[w]; {
			case other == 0:
				at[w] = i + 1
			case other > 0 && j.root(other-1) != j.root(i):
				at[w] = -1
			}
		}
	}
	for i := range j.rows {
		r := &j.rows[i]
		if _, ok := identityOf(&r.Process); ok || r.Gatherer != "sdk" && r.Gatherer != "otlp" {
			continue
		}
		for _, w := range whereaboutsOf(r) {
			if other := at[w]; other > 0 {
				j.unite(i, other-1)
				break
			}
		}
	}
}

func (j *joiner) members() []member {
	groups := map[int][]int{} // of more than one row
	for i := range j.rows {
		if r := j.root(i); r != i {
			groups[r] = append(groups[r], i)
		}
	}
	out := make([]member, 0, len(j.rows)-len(groups))
	var rows []catalog.FleetProcess
	var here []bool
	for i := range j.rows {
		if j.root(i) != i {
			continue
		}
		rows, here = append(rows[:0], j.rows[i]), append(here[:0], j.here[i])
		for _, k := range groups[i] {
			rows, here = append(rows, j.rows[k]), append(here, j.here[k])
		}
		out = append(out, merge(rows, here))
	}
	return out
}
