package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/prometheus/prometheus/model/labels"
)

// Fleet is what a view of a whole fleet reads and writes of the catalogue.
type Fleet interface {
	// FleetProcesses returns the processes last seen at or after since (Unix ms), the last seen first, at most limit, without their labels.
	FleetProcesses(ctx context.Context, since int64, limit int) ([]FleetProcess, error)
	// ProcessLabels returns the labels of the processes with these instances, at most maxBytes of them together; what is beyond is left out.
	ProcessLabels(ctx context.Context, instances []string, maxBytes int) (map[string]labels.Labels, error)
	// AliveByService counts the profiled processes of each service that were last seen at or after since and have not ended.
	AliveByService(ctx context.Context, since int64) (map[string]int, error)
	// PutExpected stores what a node reports of the Go programs that run there, in place of its last report. An older one than is there changes nothing. Of a new node where there are
	// MaxNodes, and of a long report where all are MaxExpected bytes together, it changes nothing and returns ErrTooMany.
	PutExpected(ctx context.Context, e Expected) error
	// Expected returns the reports of at or after since, by node, at most limit, and of their bytes at most maxBytes.
	Expected(ctx context.Context, since int64, limit, maxBytes int) ([]Expected, error)
}

// The limits of what nodes report, all together.
const (
	MaxNodes    = 20_000
	MaxExpected = 512 << 20 // bytes
	longReport  = 64 << 10  // bytes; shorter ones are bounded by MaxNodes
)

// maxExpected is MaxExpected; a test has less.
var maxExpected int64 = MaxExpected

// ErrTooMany says that there are as many reports of nodes as are kept.
var ErrTooMany = errors.New("too many nodes report")

// FleetProcess is a process with where it runs.
type FleetProcess struct {
	Process          // Labels are empty
	Node      string // k8s_node_name, else host_name
	Pod       string // NAMESPACE/NAME, "" outside of pods
	Container string // id, "" outside of containers
}

// Expected is one node's report.
type Expected struct {
	Node     string
	Reported int64  // Unix ms
	Report   []byte // as collector/coverage wrote it
}

// PlaceOf returns where p runs, by its labels, as FleetProcess has it.
func PlaceOf(p *Process) (node, pod, container string) {
	if node = p.Labels.Get("k8s_node_name"); node == "" {
		if node = p.Host; node == "" {
			node = p.Labels.Get("host_name")
		}
	}
	if pod = p.Labels.Get("k8s_pod_name"); pod != "" {
		pod = p.Labels.Get("k8s_namespace_name") + "/" + pod
	}
	return node, pod, p.Labels.Get("container_id")
}

// FleetProcesses implements Fleet.
func (db *DB) FleetProcesses(ctx context.Context, since int64, limit int) ([]FleetProcess, error) {
	texts := map[string]string{}
	// share returns one copy of what many processes have in common: a hundred thousand of them run a few hundred services on a few thousand nodes.
	share := func(s *string) {
		if known, ok := texts[*s]; ok {
			*s = known
			return
		}
		texts[*s] = *s
	}
	scan := func(rows *sql.Rows) (p FleetProcess, err error) {
		var pidNS, startTicks int64
		var nsPIDs string
		err = rows.Scan(&p.Instance, &p.Service, &p.LabelsHash, &p.BuildID, &p.Version, &p.GoVersion, &p.Exe, &p.PID, &p.BootID, &pidNS, &startTicks, &nsPIDs,
			&p.Host, &p.Gatherer, &p.State, &p.Reason, &p.Started, &p.FirstSeen, &p.LastSeen, &p.Node, &p.Pod, &p.Container)
		if err != nil {
			return p, err
		}
		p.PIDNS, p.StartTicks = uint64(pidNS), uint64(startTicks)
		for _, s := range []*string{&p.Service, &p.LabelsHash, &p.BuildID, &p.Version, &p.GoVersion, &p.Exe, &p.BootID, &p.Host, &p.Gatherer, &p.State, &p.Reason, &p.Node, &p.Pod} {
			share(s)
		}
		if p.Node == "" {
			p.Node = p.Host
		}
		p.NSPIDs, err = readPIDs(nsPIDs)
		return p, err
	}
	ps, err := collect(ctx, db.r, db.d, scan, `SELECT instance, service, labels_hash, build_id, version, go_version, exe, pid, boot_id, pid_ns, start_ticks, ns_pids,
		host, gatherer, state, reason, started, first_seen, last_seen, node, pod, container FROM processes WHERE last_seen >= ? ORDER BY last_seen DESC, instance LIMIT ?`, since, limit)
	if err != nil {
		return nil, fmt.Errorf("list the fleet's processes in catalogue: %w", err)
	}
	return ps, nil
}

// labelsChunk is how many instances one statement asks for.
const labelsChunk = 200

// ProcessLabels implements Fleet.
func (db *DB) ProcessLabels(ctx context.Context, instances []string, maxBytes int) (map[string]labels.Labels, error) {
	out := make(map[string]labels.Labels, len(instances))
	bytes := 0
	type row struct{ instance, labels string }
	scan := func(rows *sql.Rows) (r row, err error) {
		err = rows.Scan(&r.instance, &r.labels)
		return r, err
	}
	for len(instances) > 0 {
		n := min(len(instances), labelsChunk)
		args := make([]any, n)
		for i, id := range instances[:n] {
			args[i] = id
		}
		instances = instances[n:]
		found, err := collect(ctx, db.r, db.d, scan, `SELECT instance, labels FROM processes WHERE instance IN (`+marks(n)+`)`, args...)
		if err != nil {
			return nil, fmt.Errorf("read labels of processes in catalogue: %w", err)
		}
		for _, r := range found {
			if bytes += len(r.labels); bytes > maxBytes {
				return out, nil
			}
			ls, err := readLabels(r.labels)
			if err != nil {
				return nil, fmt.Errorf("labels of process %s: %w", r.instance, err)
			}
			out[r.instance] = ls
		}
	}
	return out, nil
}

// AliveByService implements Fleet. What its agent reports is counted once: the row of who only looks says why it has no profiles of its own.
func (db *DB) AliveByService(ctx context.Context, since int64) (map[string]int, error) {
	type count struct {
		service string
		n       int
	}
	scan := func(rows *sql.Rows) (c count, err error) {
		err = rows.Scan(&c.service, &c.n)
		return c, err
	}
	counts, err := collect(ctx, db.r, db.d, scan, `SELECT service, COUNT(*) FROM processes WHERE gatherer NOT IN ('', '`+GathererRun+`') AND reason = '' AND state = 'running' AND last_seen >= ? GROUP BY service`, since)
	if err != nil {
		return nil, fmt.Errorf("count live processes in catalogue: %w", err)
	}
	out := make(map[string]int, len(counts))
	for _, c := range counts {
		out[c.service] = c.n
	}
	return out, nil
}

// PutExpected implements Fleet.
func (db *DB) PutExpected(ctx context.Context, e Expected) error {
	return db.write(ctx, "put a node's report", func(t *tx) error {
		if e.Node == "" {
			return errors.New("it names no node")
		}
		if e.Reported == 0 {
			var err error
			if e.Reported, err = t.now(); err != nil {
				return err
			}
		}
		if err := t.roomForReport(e); err != nil {
			return err
		}
		_, err := t.exec(`INSERT INTO expected (node, reported, report) VALUES (?, ?, ?) ON CONFLICT (node) DO UPDATE SET reported = excluded.reported, report = excluded.report
			WHERE excluded.reported >= expected.reported`, e.Node, e.Reported, e.Report)
		return err
	})
}

// roomForReport returns ErrTooMany where e would be more than is kept.
func (t *tx) roomForReport(e Expected) error {
	var n int
	if err := t.row(`SELECT COUNT(*) FROM expected WHERE node = ?`, []any{e.Node}, &n); err != nil {
		return err
	}
	if n == 0 {
		if err := t.row(`SELECT COUNT(*) FROM expected`, nil, &n); err != nil {
			return err
		}
		if n >= MaxNodes {
			return fmt.Errorf("%w: %d, at most %d are kept", ErrTooMany, n, MaxNodes)
		}
	}
	if len(e.Report) <= longReport {
		return nil
	}
	var bytes int64
	if err := t.row(`SELECT COALESCE(SUM(LENGTH(report)), 0) FROM expected WHERE node <> ?`, []any{e.Node}, &bytes); err != nil {
		return err
	}
	if bytes += int64(len(e.Report)); bytes > maxExpected {
		return fmt.Errorf("%w: %d bytes, at most %d are kept", ErrTooMany, bytes, maxExpected)
	}
	return nil
}

// Expected implements Fleet.
func (db *DB) Expected(ctx context.Context, since int64, limit, maxBytes int) ([]Expected, error) {
	var out []Expected
	bytes := 0
	_, err := collect(ctx, db.r, db.d, func(rows *sql.Rows) (struct{}, error) {
		var e Expected
		if err := rows.Scan(&e.Node, &e.Reported, &e.Report); err != nil {
			return struct{}{}, err
		}
		if bytes += len(e.Report); bytes > maxBytes {
			return struct{}{}, errEnough
		}
		out = append(out, e)
		return struct{}{}, nil
	}, `SELECT node, reported, report FROM expected WHERE reported >= ? ORDER BY node LIMIT ?`, since, limit)
	if err != nil && !errors.Is(err, errEnough) {
		return nil, fmt.Errorf("list reports of nodes in catalogue: %w", err)
	}
	return out, nil
}

// ended and notEnded are conditions on the state of processes that will not come back, and of the others.
const (
	ended    = `state IN ('exited', 'crashed')`
	notEnded = `state NOT IN ('exited', 'crashed')`
)
