package catalog

import (
	"context"
	"time"
)

const (
	// silent is how long (ms) an agent must have said nothing for its process to be taken for gone where another is in its place: it sends a window every 15 s, and what fails again within a minute.
	silent = 3 * 60 * 1000
	// inPlaceFor is how long (ms) that other one must have been known: after an outage the agents of a host do not come back all at once.
	inPlaceFor = 2 * 60 * 1000
	// maxSilent bounds the processes that are looked at in one go; the others are in the next.
	maxSilent = 256

	// Silence is how long a collector must have listened before it knows who is silent.
	Silence = (silent + inPlaceFor) * time.Millisecond
)

// Silent stores the restarts that nobody saw: a process whose agent fell silent, and another of its service and build that started after that in the same pod or on the same host. Who is killed, or
// crashes, without anybody on its machine who watches says no more. Call it every minute, once all have had Silence to say something. The process stays as it is: that it is lost is what its silence says.
func (db *DB) Silent(ctx context.Context) error {
	// Most of the time there is none, and then nothing is written.
	ps, err := db.replaced(ctx)
	if err != nil || len(ps) == 0 {
		return err
	}
	return db.write(ctx, "look for silent processes", func(t *tx) error {
		for _, p := range ps {
			var conditions string
			if err := t.row(`SELECT conditions FROM processes WHERE instance = ?`, []any{p.Instance}, &conditions); err != nil {
				return err
			}
			if err := t.left(p, conditions); err != nil {
				return err
			}
		}
		return nil
	})
}

// replaced returns the processes that fell silent and whose place another has taken.
func (db *DB) replaced(ctx context.Context) ([]Process, error) {
	return collect(ctx, db.r, db.d, scanProcess, `SELECT `+processColumns+`, `+conditionsColumn+` FROM processes
		WHERE state = 'running' AND gatherer = 'agent' AND service <> '' AND build_id <> '' AND last_seen BETWEEN NOW() - ? AND NOW() - ?
		AND EXISTS (SELECT 1 FROM turnover o JOIN processes s ON s.instance = o.instance WHERE o.service = processes.service AND o.build_id = processes.build_id AND o.came = 1 AND o.mate = ''
			AND o.at > processes.last_seen AND o.at <= processes.last_seen + ? AND s.first_seen < NOW() - ?
			AND (o.pod <> '' AND o.pod = processes.pod OR o.pod = '' AND processes.pod = '' AND o.node <> '' AND o.node = processes.node))
		AND NOT EXISTS (SELECT 1 FROM turnover g WHERE g.came = 0 AND g.instance = processes.instance)
		ORDER BY last_seen LIMIT ?`, silent+inPlaceFor+inPlace, silent, inPlace, inPlaceFor, maxSilent)
}
