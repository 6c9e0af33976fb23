//go:build unix

package forward

import (
	"encoding/json"
	"io"
	"net/http"
	"sync/atomic"
	"syscall"

	"github.com/sonde-io/sonde/collector/wire"
	"github.com/sonde-io/sonde/profiles/store"
)

// cpuTime is the CPU time of this process, ns.
func cpuTime() int64 {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return 0
	}
	return r.Utime.Nano() + r.Stime.Nano()
}

// countRecords answers ok of each record.
func countRecords(n *atomic.Int64) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rd := wire.NewReader(r.Body)
		var a wire.BatchAnswer
		for {
			if _, err := rd.Next(); err == io.EOF {
				break
			} else if err != nil {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			a.Results = append(a.Results, wire.Result{Status: wire.StatusOK})
		}
		n.Add(int64(len(a.Results)))
		json.NewEncoder(w).Encode(a)
	})
}

// encodeMeta is the meta object of p as an agent would send it.
func (f *Forwarder) encodeMeta(p *store.Push) (*wire.Meta, error) {
	pr := p.Profiles[0]
	return &wire.Meta{V: wire.Version, Instance: p.Process.Instance, Window: p.Key.Window, Start: pr.Start, End: pr.End,
		Profiles: []wire.Entry{{Part: "cpu", Type: pr.Type, Start: pr.Start, End: pr.End}}}, nil
}
