package catalog

import (
	"database/sql"
	"fmt"
	"strconv"
)

const (
	// fresh is how old (ms) a process may be when it is first seen for its start to be news. A collector that first looks at a machine meets those that run for long.
	fresh = 10 * 60 * 1000
	// inPlace is how long (ms) after the end of a process the start of another in the same pod or on the same host is its restart.
	inPlace = 10 * 60 * 1000
	// elsewhere is how long (ms) before or after the end of a process the start of another anywhere is its restart: a pod is replaced by one of another name, mostly before it ends.
	elsewhere = 2 * 60 * 1000
	// settled is how long (ms) a process must have run for it to be news that another takes its place: compilers, jobs and tests come and go by the thousand, each with its own arguments.
	settled = 60 * 1000
	// turnoverKept is how long (ms) it is remembered that a process came or went: longer than any of these.
	turnoverKept = 60 * 60 * 1000
	// maxMates bounds the processes that are looked at for one that was replaced.
	maxMates = 64
)

// mover is a process that came or went.
type mover struct {
	process           string // what all agree on who see it
	service, build    string
	instance, version string
	node, pod         string
	conditions        string // id, "": unknown
	at                int64  // of its start or of its end
	ran               int64  // ms, of one that went
	crashed           bool
}

func moverOf(p *Process, conditions string, at int64) mover {
	node, pod, _ := PlaceOf(p)
	return mover{process: whoIs(p), service: p.Service, build: p.BuildID, instance: p.Instance, version: p.Version, node: node, pod: pod, conditions: conditions, at: at}
}

// moverOfRow returns the process that p says has ended, as the catalogue knows it: who tells of an end may say no more than that.
func (t *tx) moverOfRow(p Process, conditions string) (mover, error) {
	m := moverOf(&p, conditions, p.LastSeen)
	q := p
	var ticks, began int64
	var nsPIDs string
	err := t.row(`SELECT version, node, pod, boot_id, start_ticks, pid, ns_pids, CASE WHEN started > 0 THEN started ELSE first_seen END FROM processes WHERE instance = ?`, []any{p.Instance},
		&m.version, &m.node, &m.pod, &q.BootID, &ticks, &q.PID, &nsPIDs, &began)
	if err != nil {
		return m, err
	}
	q.StartTicks = uint64(ticks)
	if q.NSPIDs, err = readPIDs(nsPIDs); err != nil {
		return m, err
	}
	m.process, m.ran = whoIs(&q), max(m.at-began, 0)
	return m, nil
}

// whoIs names a process whoever looks at it: by the kernel's words where they are known.
func whoIs(p *Process) string {
	pid := p.PID
	if n := len(p.NSPIDs); n > 0 {
		pid = p.NSPIDs[n-1]
	}
	if p.BootID == "" || p.StartTicks == 0 || pid == 0 {
		return p.Instance
	}
	return p.BootID + "/" + strconv.FormatUint(p.StartTicks, 10) + "/" + strconv.Itoa(pid)
}

// entered stores what the start of p shows. began: its build has just become known; otherwise its conditions have.
func (t *tx) entered(p Process, conditions string, began, deployed bool) error {
	m := moverOf(&p, conditions, p.Started)
	if m.at == 0 {
		m.at = p.FirstSeen
	}
	if p.FirstSeen-m.at > fresh {
		return nil
	}
	var mate *mover
	if began {
		first, err := t.note(m, 1)
		if err != nil {
			return err
		}
		if first {
			if mate, err = t.mate(m, 0); err != nil {
				return err
			}
		} else if tellsMore, err := t.noteConditions(m); err != nil || !tellsMore {
			return err // another gatherer has told of it
		}
	}
	changed := false
	if conditions != "" && !deployed {
		var err error
		if changed, err = t.addChange(p, m, mate); err != nil {
			return fmt.Errorf("look for a change: %w", err)
		}
	}
	if mate == nil || deployed || changed {
		return nil
	}
	return t.addRestart(m, *mate)
}

// left stores what the end of p shows.
func (t *tx) left(p Process, conditions string) error {
	m, err := t.moverOfRow(p, conditions)
	if err != nil {
		return err
	}
	m.crashed = p.State == "crashed"
	first, err := t.note(m, 0)
	if err != nil || !first {
		return err
	}
	mate, err := t.mate(m, 1)
	if err != nil || mate == nil {
		return err
	}
	if mate.conditions != m.conditions && mate.conditions != "" && m.conditions != "" {
		change, err := t.counting("change", mate.service, mate.build, mate.at, changeGoesOn)
		if err != nil || change != nil {
			return err // it was said what the new one was started with
		}
	}
	return t.addRestart(*mate, m)
}

// leftBy stores what the event of a process's end shows, and that it has ended: of those that their agents report nobody else tells.
func (t *tx) leftBy(e Event) error {
	if e.Kind != "exit" && e.Kind != "oom_kill" || e.Attrs["instance"] == "" {
		return nil
	}
	if err := t.endBy(e); err != nil {
		return err
	}
	var conditions string
	ps, err := collect(t.ctx, t.Tx, t.d, scanProcess,
		`SELECT `+processColumns+`, `+conditionsColumn+` FROM processes WHERE instance = ?`, e.Attrs["instance"])
	if err != nil || len(ps) == 0 || ps[0].Service == "" || ps[0].BuildID == "" {
		return err
	}
	p := ps[0]
	if err := t.row(`SELECT conditions FROM processes WHERE instance = ?`, []any{p.Instance}, &conditions); err != nil {
		return err
	}
	p.LastSeen = e.Time
	if p.State = "exited"; e.Kind == "oom_kill" {
		p.State = "crashed"
	}
	return t.left(p, conditions)
}

// endBy sets the state of a process of whose end e tells. What was heard of it after that counts more.
func (t *tx) endBy(e Event) error {
	state, reason := "exited", ""
	switch {
	case e.Kind == "oom_kill":
		state, reason = "crashed", e.Text
	case e.Attrs["signal"] != "":
		reason = "killed by " + e.Attrs["signal"]
	case e.Attrs["exit_code"] != "":
		reason = "exit status " + e.Attrs["exit_code"]
	}
	at := e.Time
	if now, err := t.now(); err != nil {
		return err
	} else if at == 0 || at > now { // the clock of its node is ahead
		at = now
	}
	_, err := t.exec(`UPDATE processes SET reason = CASE WHEN state = 'exited' AND ? = '' THEN reason ELSE ? END, state = ?, last_seen = CASE WHEN last_seen < ? THEN ? ELSE last_seen END
		WHERE instance = ? AND state <> 'crashed' AND last_seen <= ?`, reason, reason, state, at, at, e.Attrs["instance"], at+heardSince)
	return err
}

// heardSince is how long (ms) after its end a process may have been heard of without being alive: who tells of the end rounds its time.
const heardSince = 1000

// note remembers that m came (1) or went (0) and reports whether nobody has said so before.
func (t *tx) note(m mover, came int) (first bool, err error) {
	crashed := 0
	if m.crashed {
		crashed = 1
	}
	n, err := t.exec(`INSERT INTO turnover (process, came, service, build_id, at, instance, node, pod, conditions, crashed, version, ran, mate) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '')
		ON CONFLICT (process, came) DO NOTHING`, m.process, came, m.service, m.build, m.at, m.instance, m.node, m.pod, m.conditions, crashed, m.version, m.ran)
	return n > 0, err
}

// noteConditions adds to what is remembered of m what it was started with, and reports whether that was not known.
func (t *tx) noteConditions(m mover) (bool, error) {
	if m.conditions == "" {
		return false, nil
	}
	n, err := t.exec(`UPDATE turnover SET conditions = ? WHERE process = ? AND came = 1 AND conditions = ''`, m.conditions, m.process)
	return n > 0, err
}

// hasLeft reports whether somebody saw the process end.
func (t *tx) hasLeft(process string) (bool, error) {
	var n int
	err := t.row(`SELECT COUNT(*) FROM turnover WHERE process = ? AND came = 0`, []any{process}, &n)
	return n > 0, err
}

// mate returns the process that m replaced (came 0) or that has replaced m (came 1), and takes both out of those that wait for one; nil where there is none.
func (t *tx) mate(m mover, came int) (*mover, error) {
	lo, hi := m.at-inPlace, m.at+elsewhere
	if came == 1 {
		lo, hi = max(m.at-elsewhere, m.at-m.ran+1), m.at+inPlace // who started before m did has not taken its place
	}
	best, err := t.bestMate(m, `came = ? AND conditions = ? AND mate = '' AND +at BETWEEN ? AND ?`, came, m.conditions, lo, hi)
	if err == nil && best == nil {
		best, err = t.bestMate(m, `came = ? AND mate = '' AND at BETWEEN ? AND ? ORDER BY at DESC`, came, lo, hi)
	}
	if err != nil {
		return nil, fmt.Errorf("look for a restart: %w", err)
	}
	if best == nil {
		return nil, nil
	}
	for _, pair := range []struct {
		of   mover
		came int
		mate string
	}{{*best, came, m.instance}, {m, 1 - came, best.instance}} {
		if _, err := t.exec(`UPDATE turnover SET mate = ? WHERE process = ? AND came = ?`, pair.mate, pair.of.process, pair.came); err != nil {
			return nil, fmt.Errorf("note a restart: %w", err)
		}
	}
	return best, nil
}

// bestMate returns the nearest of the movers of m's service and build that the rest of the statement selects.
func (t *tx) bestMate(m mover, where string, args ...any) (*mover, error) {
	scan := func(rows *sql.Rows) (o mover, err error) {
		var crashed int
		err = rows.Scan(&o.process, &o.service, &o.build, &o.version, &o.at, &o.instance, &o.node, &o.pod, &o.conditions, &crashed, &o.ran)
		o.crashed = crashed != 0
		return o, err
	}
	found, err := collect(t.ctx, t.Tx, t.d, scan, `SELECT process, service, build_id, version, at, instance, node, pod, conditions, crashed, ran FROM turnover
		WHERE service = ? AND build_id = ? AND `+where+` LIMIT ?`, append(append([]any{m.service, m.build}, args...), maxMates)...)
	return nearest(m, found), err
}

// nearest chooses who took m's place, or whose place m took: one in the same pod or on the same host before one elsewhere, and the nearest in time.
func nearest(m mover, others []mover) (best *mover) {
	distance := func(o *mover) int64 {
		d := max(o.at-m.at, m.at-o.at)
		if !samePlace(&m, o) {
			d += inPlace
		}
		return d
	}
	for i := range others {
		o := &others[i]
		if o.process == m.process || !samePlace(&m, o) && max(o.at-m.at, m.at-o.at) > elsewhere {
			continue
		}
		if best == nil || distance(o) < distance(best) {
			best = o
		}
	}
	return best
}

func samePlace(a, b *mover) bool {
	if a.pod != "" || b.pod != "" {
		return a.pod == b.pod
	}
	return a.node != "" && a.node == b.node
}
