package catalog

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

const (
	// restartGoesOn and changeGoesOn are how long (ms) after the last process of an event another is counted with it: a roll-out, a node's reboot and a crash loop are one event each.
	restartGoesOn = 5 * 60 * 1000
	changeGoesOn  = 30 * 60 * 1000
	// countedFor is how long (ms) one event counts at most.
	countedFor = 60 * 60 * 1000
	// maxPeers bounds the processes of a service's build that a new one is compared with: those that started last.
	maxPeers = 64
	// together is how far apart (ms) replicas start that were started at once, and may differ.
	together = 60 * 1000
	// maxDifferences bounds those that an event lists.
	maxDifferences = 8
)

// counting returns the event of this kind that still counts at the given time, nil where there is none.
func (t *tx) counting(kind, service, build string, at, goesOn int64) (*Event, error) {
	es, err := collect(t.ctx, t.Tx, t.d, scanEvent, `SELECT id, time, kind, service, text, attrs FROM events
		WHERE service = ? AND kind IN ('restart', 'change') AND time BETWEEN ? AND ? ORDER BY time DESC LIMIT 16`, service, at-countedFor, at+goesOn)
	if err != nil {
		return nil, err
	}
	for i := range es {
		e := &es[i]
		last, _ := strconv.ParseInt(e.Attrs["last"], 10, 64)
		if e.Kind == kind && e.Attrs["build"] == build && at-max(last, e.Time) <= goesOn {
			return e, nil
		}
	}
	return nil, nil
}

// count adds one to what e has counted.
func count(e *Event, at int64) (n int) {
	n, _ = strconv.Atoi(e.Attrs["count"])
	last, _ := strconv.ParseInt(e.Attrs["last"], 10, 64)
	n++
	e.Attrs["count"], e.Attrs["last"] = strconv.Itoa(n), strconv.FormatInt(max(last, at), 10)
	return n
}

func (t *tx) updateEvent(e *Event) error {
	attrs, err := json.Marshal(e.Attrs)
	if err != nil {
		return err
	}
	_, err = t.exec(`UPDATE events SET text = ?, attrs = ? WHERE id = ?`, e.Text, string(attrs), e.ID)
	return err
}

// addRestart tells that m has taken the place of gone, in an event of its own or one that counts.
func (t *tx) addRestart(m, gone mover) error {
	e, err := t.counting("restart", m.service, m.build, m.at, restartGoesOn)
	if err != nil {
		return fmt.Errorf("look for a restart: %w", err)
	}
	known := e != nil
	if !known && gone.ran < settled && !gone.crashed {
		if loops, err := t.loops(m, gone); err != nil || !loops {
			return err
		}
	}
	if !known {
		e = &Event{Time: m.at, Kind: "restart", Service: m.service, Attrs: map[string]string{"build": m.build, "instance": m.instance, "replaced": gone.instance}}
		if m.version != "" {
			e.Attrs["version"] = m.version
		}
		if m.node != "" {
			e.Attrs["node"] = m.node
		}
	}
	n := count(e, m.at)
	if e.Attrs["node"] != m.node {
		delete(e.Attrs, "node") // of several
	}
	if gone.crashed {
		crashed, _ := strconv.Atoi(e.Attrs["crashed"])
		e.Attrs["crashed"] = strconv.Itoa(crashed + 1)
	}
	e.Text = m.service + " was restarted"
	if n > 1 {
		e.Text = fmt.Sprintf("%s was restarted %d times", m.service, n)
	}
	if node := e.Attrs["node"]; node != "" {
		e.Text += " on " + node
	}
	if crashed := e.Attrs["crashed"]; crashed != "" {
		e.Text += ", after " + crashed + " crashes"
		if crashed == "1" {
			e.Text = strings.TrimSuffix(e.Text, "1 crashes") + "a crash"
		}
	}
	if known {
		return t.updateEvent(e)
	}
	return t.addEvents([]Event{*e})
}

// loops reports whether gone, which did not run for long, had itself taken the place of another: what is started so again and again is no job.
func (t *tx) loops(m, gone mover) (bool, error) {
	var replaced string
	err := t.row(`SELECT mate FROM turnover WHERE process = ? AND came = 1`, []any{gone.process}, &replaced)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return replaced != "" && m.conditions == gone.conditions, err
}

// peer is another process of the same service and build.
type peer struct {
	process, conditions string
	started, ran        int64 // Unix ms, ms
	alive               bool
}

// peers returns those of p's service and build that started last and whose conditions are known.
func (t *tx) peers(p Process) ([]peer, error) {
	scan := func(rows *sql.Rows) (o peer, err error) {
		var q Process
		var ticks, lastSeen int64
		var nsPIDs string
		if err := rows.Scan(&q.Instance, &o.conditions, &q.State, &o.started, &lastSeen, &q.BootID, &ticks, &q.PID, &nsPIDs); err != nil {
			return o, err
		}
		q.StartTicks = uint64(ticks)
		q.NSPIDs, err = readPIDs(nsPIDs)
		o.ran = max(lastSeen-o.started, 0)
		o.process, o.alive = whoIs(&q), !hasEnded(q.State) && lastSeen >= p.FirstSeen-quiet
		return o, err
	}
	all, err := collect(t.ctx, t.Tx, t.d, scan, `SELECT instance, conditions, state, started, last_seen, boot_id, start_ticks, pid, ns_pids FROM processes
		WHERE service = ? AND build_id = ? ORDER BY started DESC LIMIT ?`, p.Service, p.BuildID, maxPeers)
	if err != nil {
		return nil, err
	}
	var out []peer
	self := whoIs(&p)
	for _, o := range all {
		if o.process == self || o.conditions == "" {
			continue
		}
		out = append(out, o)
	}
	return out, nil
}

// lives reports whether o runs: of an agent's process only the event of its end says that it does not.
func (t *tx) lives(o peer) (bool, error) {
	if !o.alive {
		return false, nil
	}
	left, err := t.hasLeft(o.process)
	return !left, err
}

// addChange stores an event if m, which has just started, was started with something that no other process of its service and build runs with, and reports whether such an event tells of m. mate is whom m replaced, or nil.
func (t *tx) addChange(p Process, m mover, mate *mover) (bool, error) {
	if mate != nil && mate.conditions == m.conditions {
		return false, nil
	}
	e, err := t.counting("change", m.service, m.build, m.at, changeGoesOn)
	if err != nil {
		return false, err
	}
	now, err := t.traits(m.conditions)
	if err != nil {
		return false, err
	}
	if e != nil && now.are(e) {
		count(e, m.at)
		return true, t.updateEvent(e)
	}
	others, err := t.peers(p)
	if err != nil {
		return false, err
	}
	from, err := t.predecessor(m, mate, others)
	if err != nil || from == "" || from == m.conditions {
		return false, err
	}
	var ds []difference
	if from, err := t.traits(from); err != nil {
		return false, err
	} else if ds = compare(from, now); len(ds) == 0 {
		return false, nil
	}
	if ds, err = t.news(p, m, ds, others); err != nil || len(ds) == 0 {
		return false, err
	}
	return true, t.addEvents([]Event{changeEvent(m, ds)})
}

// predecessor returns the conditions of the process that m is compared with: the one whose place it took, else the one that started last before it; "" for none.
func (t *tx) predecessor(m mover, mate *mover, others []peer) (string, error) {
	for _, o := range others {
		if o.conditions != m.conditions {
			continue
		}
		if lives, err := t.lives(o); err != nil || lives {
			return "", err // m is a replica
		}
	}
	if mate != nil && mate.conditions != "" {
		if mate.ran < settled {
			return "", nil
		}
		return mate.conditions, nil
	}
	for _, o := range others {
		if o.started > m.at {
			continue
		}
		lives, err := t.lives(o)
		if err != nil || o.ran < settled || lives && m.at-o.started < together {
			return "", err
		}
		return o.conditions, nil
	}
	return "", nil
}

// news returns those of the differences that are new: what another process that runs was started with is not, nor is what differs between replicas anyway, such as their number.
func (t *tx) news(p Process, m mover, ds []difference, others []peer) ([]difference, error) {
	// Few starts come this far, so that it may cost a look at all processes of the service.
	runs, err := t.replicaRuns(p, m)
	if err != nil || runs {
		return nil, err
	}
	var ours []string
	for _, o := range others {
		lives, err := t.lives(o)
		if err != nil {
			return nil, err
		}
		if lives {
			ours = append(ours, o.conditions)
		}
	}
	here, err := t.values(ours, ds)
	if err != nil {
		return nil, err
	}
	theirs, err := collect(t.ctx, t.Tx, t.d, scanOne[string], `SELECT DISTINCT conditions FROM processes WHERE service = ? AND build_id <> ? AND conditions <> '' AND `+notEnded+` AND last_seen >= ? LIMIT ?`,
		p.Service, p.BuildID, p.FirstSeen-quiet, maxPeers)
	if err != nil {
		return nil, err
	}
	before, err := t.values(theirs, ds)
	if err != nil {
		return nil, err
	}
	varies, err := t.varying(ds, others)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(ds, func(d difference) bool {
		return here[d.key][d.to] || len(here[d.key]) > 1 || len(before[d.key]) > 1 || varies[d.key]
	}), nil
}

// varying returns which arguments are others with nearly every start, as the date of a job is.
func (t *tx) varying(ds []difference, others []peer) (map[string]bool, error) {
	ids := make([]string, len(others))
	for i, o := range others {
		ids[i] = o.conditions
	}
	values, err := t.values(ids, ds)
	out := map[string]bool{}
	for key, vs := range values {
		argument := strings.HasPrefix(key, "flag_") || strings.HasPrefix(key, "arg_")
		out[key] = argument && len(vs) >= 4 && 4*len(vs) >= 3*len(others)
	}
	return out, err
}

// replicaRuns reports whether a process of p's service and build runs that was started as p was.
func (t *tx) replicaRuns(p Process, m mover) (bool, error) {
	scan := func(rows *sql.Rows) (process string, err error) {
		var q Process
		var ticks int64
		var nsPIDs string
		if err := rows.Scan(&q.Instance, &q.BootID, &ticks, &q.PID, &nsPIDs); err != nil {
			return "", err
		}
		q.StartTicks = uint64(ticks)
		q.NSPIDs, err = readPIDs(nsPIDs)
		return whoIs(&q), err
	}
	found, err := collect(t.ctx, t.Tx, t.d, scan, `SELECT instance, boot_id, start_ticks, pid, ns_pids FROM processes
		WHERE service = ? AND build_id = ? AND conditions = ? AND instance <> ? AND `+notEnded+` AND last_seen >= ? LIMIT ?`,
		p.Service, p.BuildID, m.conditions, p.Instance, p.FirstSeen-quiet, maxPeers)
	if err != nil {
		return false, err
	}
	for _, process := range found {
		if process == m.process {
			continue
		}
		if left, err := t.hasLeft(process); err != nil || !left {
			return true, err
		}
	}
	return false, nil
}

// values returns what the traits that ds names are in the conditions with these ids.
func (t *tx) values(ids []string, ds []difference) (map[string]map[string]bool, error) {
	out := make(map[string]map[string]bool, len(ds))
	for _, d := range ds {
		out[d.key] = map[string]bool{}
	}
	slices.Sort(ids)
	for _, id := range slices.Compact(ids) {
		ts, err := t.traits(id)
		if err != nil {
			return nil, err
		}
		for key, values := range out {
			values[ts[key]] = true
		}
	}
	return out, nil
}

// traits returns the conditions with this id one by one.
func (t *tx) traits(id string) (traits, error) {
	var text string
	err := t.row(`SELECT text FROM conditions WHERE id = ?`, []any{id}, &text)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, err
	}
	conditions, err := readConditions(text)
	if err != nil {
		return nil, fmt.Errorf("conditions %s: %w", id, err)
	}
	return traitsOf(conditions), nil
}

// are reports whether ts has what the change e tells of.
func (ts traits) are(e *Event) bool {
	for key, value := range e.Attrs {
		if key, ok := strings.CutPrefix(key, "to_"); ok && ts[key] != value {
			return false
		}
	}
	return true
}

// changeEvent tells of ds.
func changeEvent(m mover, ds []difference) Event {
	e := Event{Time: m.at, Kind: "change", Service: m.service, Attrs: map[string]string{"build": m.build, "instance": m.instance}}
	if m.version != "" {
		e.Attrs["version"] = m.version
	}
	count(&e, m.at)
	words := make([]string, 0, len(ds))
	for _, d := range ds {
		if len(words) == maxDifferences {
			words = append(words, fmt.Sprintf("and %d more", len(ds)-maxDifferences))
			break
		}
		words = append(words, d.String())
		e.Attrs["from_"+d.key], e.Attrs["to_"+d.key] = d.from, d.to
	}
	e.Text = m.service + " was started with " + strings.Join(words, ", ")
	return e
}
