package catalog

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
)

const processColumns = `instance, service, labels, labels_hash, build_id, version, go_version, exe, pid, boot_id, pid_ns, start_ticks, ns_pids,
	host, gatherer, state, reason, started, first_seen, last_seen`

// conditionsColumn is the text of a process's conditions.
const conditionsColumn = `COALESCE((SELECT c.text FROM conditions c WHERE c.id = processes.conditions), '')`

// placeColumns are made of labels where a process is written.
const placeColumns = `node, pod, container`

// GathererRun is who reports a process that it started and takes no profiles of: sonde run. Whoever else gathers from the process counts before it.
const GathererRun = "run"

// upsertProcess leaves what is known where the new value is empty. A reason goes with whoever gathers: once a process is profiled, an empty
// reason takes the earlier one back, and a process that has ended needs none. How it ended is known to whoever saw it: that it is gone, which others see too, is no better word than
// crashed, or than a code; and what was sent before the end and arrives after it does not make it run again. When a process was first seen is the earliest report, when it was last seen the latest, since reports of
// several gatherers arrive in any order.
const upsertProcess = `INSERT INTO processes (` + processColumns + `, ` + placeColumns + `, conditions)
	VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
	ON CONFLICT (instance) DO UPDATE SET
	service = COALESCE(NULLIF(excluded.service, ''), processes.service),
	labels = COALESCE(NULLIF(excluded.labels, ''), processes.labels),
	labels_hash = COALESCE(NULLIF(excluded.labels_hash, ''), processes.labels_hash),
	build_id = COALESCE(NULLIF(excluded.build_id, ''), processes.build_id),
	version = COALESCE(NULLIF(excluded.version, ''), processes.version),
	go_version = COALESCE(NULLIF(excluded.go_version, ''), processes.go_version),
	exe = COALESCE(NULLIF(excluded.exe, ''), processes.exe),
	pid = COALESCE(NULLIF(excluded.pid, 0), processes.pid),
	boot_id = COALESCE(NULLIF(excluded.boot_id, ''), processes.boot_id),
	pid_ns = COALESCE(NULLIF(excluded.pid_ns, 0), processes.pid_ns),
	start_ticks = COALESCE(NULLIF(excluded.start_ticks, 0), processes.start_ticks),
	ns_pids = COALESCE(NULLIF(excluded.ns_pids, ''), processes.ns_pids),
	host = COALESCE(NULLIF(excluded.host, ''), processes.host),
	gatherer = CASE WHEN excluded.gatherer = '` + GathererRun + `' AND processes.gatherer <> '' THEN processes.gatherer ELSE COALESCE(NULLIF(excluded.gatherer, ''), processes.gatherer) END,
	state = CASE WHEN ` + endsBetter + ` THEN processes.state ELSE COALESCE(NULLIF(excluded.state, ''), processes.state) END,
	reason = CASE WHEN ` + endsBetter + ` THEN processes.reason WHEN excluded.reason <> '' OR excluded.gatherer NOT IN ('', '` + GathererRun + `') OR excluded.state = 'exited' THEN excluded.reason ELSE processes.reason END,
	started = COALESCE(NULLIF(excluded.started, 0), processes.started),
	first_seen = CASE WHEN excluded.first_seen < processes.first_seen THEN excluded.first_seen ELSE processes.first_seen END,
	last_seen = CASE WHEN excluded.last_seen > processes.last_seen THEN excluded.last_seen ELSE processes.last_seen END,
	node = COALESCE(NULLIF(excluded.node, ''), processes.node),
	pod = COALESCE(NULLIF(excluded.pod, ''), processes.pod),
	container = COALESCE(NULLIF(excluded.container, ''), processes.container),
	conditions = COALESCE(NULLIF(excluded.conditions, ''), processes.conditions)`

// endsBetter says in SQL that what is known of a process's end is better than what is reported.
const endsBetter = `(processes.state = 'crashed' AND excluded.state = 'exited' OR processes.state = 'exited' AND excluded.state = 'exited' AND excluded.reason = ''
	OR processes.state IN ('exited', 'crashed') AND excluded.state = 'running' AND excluded.last_seen <= processes.last_seen)`

// putProcesses upserts ps and stores the deploys, restarts and changes that they show.
func (t *tx) putProcesses(ps []Process) error {
	if len(ps) == 0 {
		return nil
	}
	for _, p := range ps {
		if err := t.putProcess(p); err != nil {
			return fmt.Errorf("put process %s: %w", p.Instance, err)
		}
	}
	return nil
}

// seenStep is how far (ms) last_seen may lie behind the last report: it is most of what pushes say of their process, and is written only this often. What is
// judged by it is a minute at least.
const seenStep = 20 * 1000

// alive reports whether p says nothing but that a process of this service, gathered as it was, is still in this state.
func (p *Process) alive(service, gatherer, state string) bool {
	return p.Service == service && p.Gatherer == gatherer && p.Gatherer != "" && p.State == state &&
		p.Labels.IsEmpty() && p.LabelsHash == "" && p.BuildID == "" && p.Version == "" && p.GoVersion == "" && p.Exe == "" && p.PID == 0 && p.BootID == "" &&
		p.PIDNS == 0 && p.StartTicks == 0 && len(p.NSPIDs) == 0 && p.Host == "" && p.Reason == "" && p.Started == 0 && p.FirstSeen == 0 && len(p.Conditions) == 0
}

func (t *tx) putProcess(p Process) error {
	if p.Instance == "" {
		return errors.New("it has no instance id")
	}
	if p.Build != nil {
		if err := t.putBuilds([]Build{*p.Build}); err != nil {
			return err
		}
	}
	old, isNew, err := t.standing(p.Instance)
	if err != nil {
		return err
	}
	if isNew && p.State == "" {
		p.State = "running"
	}
	if p.LastSeen == 0 {
		if p.LastSeen, err = t.now(); err != nil {
			return err
		}
	}
	if !isNew && old.reason == "" && p.alive(old.service, old.gatherer, old.state) && p.LastSeen >= old.lastSeen && p.LastSeen < old.lastSeen+seenStep {
		return nil
	}
	if p.FirstSeen == 0 {
		p.FirstSeen = p.LastSeen
	}
	conditions, err := t.putConditions(p.Conditions)
	if err != nil {
		return err
	}
	args, err := processArgs(p)
	if err != nil {
		return err
	}
	if _, err := t.exec(upsertProcess, append(args, conditions)...); err != nil {
		return err
	}
	return t.turn(p, old, isNew, conditions)
}

// standing is what the catalogue knew of a process before a report.
type standing struct {
	service, build, gatherer, state, reason, conditions string
	lastSeen                                            int64
}

func (t *tx) standing(instance string) (s standing, isNew bool, err error) {
	err = t.row(`SELECT service, build_id, gatherer, state, reason, conditions, last_seen FROM processes WHERE instance = ?`, []any{instance},
		&s.service, &s.build, &s.gatherer, &s.state, &s.reason, &s.conditions, &s.lastSeen)
	if errors.Is(err, sql.ErrNoRows) {
		return s, true, nil
	}
	return s, false, err
}

// turn stores the events that p's report is the first to show: the deploy of its build, the change of what it was started with, and that it took another's place or left its own.
func (t *tx) turn(p Process, old standing, isNew bool, conditions string) error {
	// A build is told once in a process's life, mostly with its first report, and so are its conditions.
	began, told := p.BuildID != "" && old.build == "", conditions != "" && old.conditions == ""
	ended := hasEnded(p.State)
	p.Service, p.BuildID = cmp.Or(p.Service, old.service), cmp.Or(p.BuildID, old.build)
	if conditions == "" {
		conditions = old.conditions
	}
	deployed := false
	if began {
		var err error
		if deployed, err = t.addDeploy(p); err != nil {
			return err
		}
	}
	switch {
	case p.Service == "" || p.BuildID == "":
		return nil
	case ended && !isNew && !hasEnded(old.state):
		return t.left(p, conditions)
	case !ended && (began || told):
		return t.entered(p, conditions, began, deployed)
	}
	return nil
}

// hasEnded says of a state what ended says of it in SQL.
func hasEnded(state string) bool { return state == "exited" || state == "crashed" }

func processArgs(p Process) ([]any, error) {
	var lbls, nsPIDs string
	if !p.Labels.IsEmpty() {
		b, err := json.Marshal(p.Labels)
		if err != nil {
			return nil, err
		}
		lbls = string(b)
	}
	if len(p.NSPIDs) > 0 {
		b, err := json.Marshal(p.NSPIDs)
		if err != nil {
			return nil, err
		}
		nsPIDs = string(b)
	}
	node, pod, container := PlaceOf(&p)
	return []any{
		p.Instance, p.Service, lbls, p.LabelsHash, p.BuildID, p.Version, p.GoVersion, p.Exe, p.PID, p.BootID, int64(p.PIDNS), int64(p.StartTicks), nsPIDs,
		p.Host, p.Gatherer, p.State, p.Reason, p.Started, p.FirstSeen, p.LastSeen, node, pod, container,
	}, nil
}

func scanProcess(rows *sql.Rows) (Process, error) {
	var p Process
	var lbls, nsPIDs, conditions string
	var pidNS, startTicks int64
	err := rows.Scan(&p.Instance, &p.Service, &lbls, &p.LabelsHash, &p.BuildID, &p.Version, &p.GoVersion, &p.Exe, &p.PID, &p.BootID, &pidNS, &startTicks,
		&nsPIDs, &p.Host, &p.Gatherer, &p.State, &p.Reason, &p.Started, &p.FirstSeen, &p.LastSeen, &conditions)
	if err != nil {
		return p, err
	}
	p.PIDNS, p.StartTicks = uint64(pidNS), uint64(startTicks)
	if p.Labels, err = readLabels(lbls); err != nil {
		return p, fmt.Errorf("labels of process %s: %w", p.Instance, err)
	}
	if p.NSPIDs, err = readPIDs(nsPIDs); err != nil {
		return p, fmt.Errorf("pids of process %s: %w", p.Instance, err)
	}
	if p.Conditions, err = readConditions(conditions); err != nil {
		return p, fmt.Errorf("conditions of process %s: %w", p.Instance, err)
	}
	return p, nil
}

func readPIDs(text string) (pids []int, err error) {
	if text != "" {
		err = json.Unmarshal([]byte(text), &pids)
	}
	return pids, err
}

func readLabels(text string) (ls labels.Labels, err error) {
	if text == "" {
		return labels.EmptyLabels(), nil
	}
	err = json.Unmarshal([]byte(text), &ls)
	return ls, err
}

// Process implements Catalog.
func (db *DB) Process(ctx context.Context, instance string) (Process, error) {
	ps, err := collect(ctx, db.r, db.d, scanProcess, `SELECT `+processColumns+`, `+conditionsColumn+` FROM processes WHERE instance = ?`, instance)
	if err == nil && len(ps) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return Process{}, fmt.Errorf("read process %s: %w", instance, err)
	}
	return ps[0], nil
}

// Processes implements Catalog.
func (db *DB) Processes(ctx context.Context, f ProcessFilter) ([]Process, error) {
	query, args := `SELECT `+processColumns+`, `+conditionsColumn+` FROM processes`, []any(nil)
	var where []string
	if f.Instance != "" {
		where, args = append(where, "instance = ?"), append(args, f.Instance)
	}
	if f.Service != "" {
		where, args = append(where, "service = ?"), append(args, f.Service)
	}
	if f.Build != "" {
		where, args = append(where, "build_id = ?"), append(args, f.Build)
	}
	if f.BootID != "" {
		where, args = append(where, "boot_id = ?"), append(args, f.BootID)
	}
	if f.Since != 0 {
		where, args = append(where, "last_seen >= ?"), append(args, f.Since)
	}
	if len(where) > 0 {
		query += " WHERE " + strings.Join(where, " AND ")
	}
	query += " ORDER BY last_seen DESC, instance"
	if f.Limit > 0 {
		query, args = query+" LIMIT ?", append(args, f.Limit)
	}
	var out []Process
	bytes := 0
	_, err := collect(ctx, db.r, db.d, func(rows *sql.Rows) (struct{}, error) {
		p, err := scanProcess(rows)
		if err != nil {
			return struct{}{}, err
		}
		out = append(out, p)
		if bytes += int(p.Labels.ByteSize()); f.MaxBytes > 0 && bytes > f.MaxBytes {
			return struct{}{}, errEnough
		}
		return struct{}{}, nil
	}, query, args...)
	if err != nil && !errors.Is(err, errEnough) {
		return nil, fmt.Errorf("list processes in catalogue: %w", err)
	}
	return out, nil
}

// errEnough ends a list that has what it may have.
var errEnough = errors.New("enough")

// Versions implements Catalog.
func (db *DB) Versions(ctx context.Context, since, before int64) ([]ServiceVersion, error) {
	scan := func(rows *sql.Rows) (v ServiceVersion, err error) {
		err = rows.Scan(&v.Service, &v.Version, &v.Processes)
		return v, err
	}
	vs, err := collect(ctx, db.r, db.d, scan, `SELECT service, version, COUNT(*) FROM processes WHERE gatherer <> '' AND last_seen >= ? AND first_seen < ?
		GROUP BY service, version ORDER BY service, version`, since, before)
	if err != nil {
		return nil, fmt.Errorf("count processes in catalogue: %w", err)
	}
	return vs, nil
}
