package catalog

import (
	"database/sql"
	"fmt"
)

// quiet is how long (ms) no process of a build may have been seen for its return to count as a deploy, a rollback. Within that time processes of
// the old and the new build run beside each other, and one that starts is a replica and no news. Gatherers report at least once a minute.
const quiet = 2 * 60 * 1000

// buildInUse is what is known of one build among a service's other processes.
type buildInUse struct {
	id       string
	lastSeen int64 // of any process that runs it
	running  bool  // one of them has not been seen to exit
	started  int64 // of the earliest one that is known, 0 if none is
	version  string
}

// addDeploy stores an event if p, whose build has just become known, is the first process of its service with a build that differs from the one
// that its other processes ran last, and reports whether it is.
func (t *tx) addDeploy(p Process) (deployed bool, err error) {
	if p.Service == "" {
		return false, nil
	}
	replica, err := t.isReplica(p)
	if err != nil {
		return false, fmt.Errorf("look for a deploy: %w", err)
	}
	if replica {
		return false, nil
	}
	others, err := t.buildsInUse(p)
	if err != nil {
		return false, fmt.Errorf("look for a deploy: %w", err)
	}
	from := previousBuild(p, others)
	if from == nil {
		return false, nil
	}
	toVersion, err := t.versionOf(p)
	if err != nil {
		return false, fmt.Errorf("look for a deploy: %w", err)
	}
	e := Event{Time: p.FirstSeen, Kind: "deploy", Service: p.Service, Attrs: map[string]string{
		"from_build": from.id, "to_build": p.BuildID, "from_version": from.version, "to_version": toVersion, "instance": p.Instance,
	}}
	if p.Started != 0 {
		e.Time = p.Started
	}
	was, is := from.version, toVersion
	if was == "" || is == "" || was == is {
		was, is = "build "+shortID(from.id), "build "+shortID(p.BuildID)
	}
	e.Text = fmt.Sprintf("%s changed from %s to %s", p.Service, was, is)
	return true, t.addEvents([]Event{e})
}

// previousBuild returns the build that p's replaces, nil if p shows no change. others is sorted, the build seen last first.
func previousBuild(p Process, others []buildInUse) *buildInUse {
	if len(others) == 0 || others[0].id == p.BuildID {
		return nil
	}
	for _, b := range others {
		if b.id == p.BuildID && b.running && b.lastSeen >= p.FirstSeen-quiet {
			return nil
		}
	}
	from := &others[0]
	// When a collector first looks at a machine it meets old and new processes in any order: what was started earlier is no new build.
	if p.Started != 0 && from.started > p.Started {
		return nil
	}
	return from
}

// isReplica reports whether another process of p's service runs the same build, which is no news. previousBuild would find that out as well, but from all
// processes of the service: a thousand replicas that start together would read a million rows.
func (t *tx) isReplica(p Process) (bool, error) {
	found, err := collect(t.ctx, t.Tx, t.d, scanOne[int], `SELECT 1 FROM processes
		WHERE service = ? AND build_id = ? AND instance <> ? AND `+notEnded+` AND last_seen >= ? ORDER BY started DESC LIMIT 1`, p.Service, p.BuildID, p.Instance, p.FirstSeen-quiet)
	return len(found) > 0, err
}

// buildsInUse returns the builds of the other processes of p's service, the one seen last first.
func (t *tx) buildsInUse(p Process) ([]buildInUse, error) {
	scan := func(rows *sql.Rows) (buildInUse, error) {
		var b buildInUse
		var running int
		err := rows.Scan(&b.id, &b.lastSeen, &running, &b.started, &b.version)
		b.running = running != 0
		return b, err
	}
	return collect(t.ctx, t.Tx, t.d, scan, `SELECT p.build_id, MAX(p.last_seen), MAX(CASE WHEN p.`+ended+` THEN 0 ELSE 1 END), COALESCE(MIN(NULLIF(p.started, 0)), 0),
			COALESCE(NULLIF(MAX(p.version), ''), MAX(CASE WHEN b.version = '(devel)' THEN '' ELSE b.version END), '')
		FROM processes p LEFT JOIN builds b ON b.id = p.build_id
		WHERE p.service = ? AND p.build_id <> '' AND p.instance <> ?
		GROUP BY p.build_id ORDER BY MAX(p.last_seen) DESC, MAX(p.started) DESC, MAX(p.first_seen) DESC, p.build_id`, p.Service, p.Instance)
}

// versionOf returns the version of p, else that of its build's main module, else "".
func (t *tx) versionOf(p Process) (string, error) {
	if p.Version != "" {
		return p.Version, nil
	}
	found, err := collect(t.ctx, t.Tx, t.d, scanOne[string], `SELECT version FROM processes WHERE instance = ? AND version <> ''
		UNION ALL SELECT version FROM builds WHERE id = ? AND version <> '' AND version <> '(devel)'`, p.Instance, p.BuildID)
	if err != nil || len(found) == 0 {
		return "", err
	}
	return found[0], nil
}

// shortID cuts a build id to what people compare.
func shortID(id string) string { return id[:min(len(id), 12)] }
