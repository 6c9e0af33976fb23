package inspect

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles/store"
)

// Sink takes the profiles; *store.Store is one. An error that wraps catalog.ErrDuplicate means that it is stored already.
type Sink interface {
	Append(ctx context.Context, p store.Push) error
}

// Config configures an Inspector. Sink is required.
type Config struct {
	Sink Sink

	Period        time.Duration // between two captures of a process; 0: 60 s
	Types         []string      // what is captured; nil: goroutine, heap, mutex, block
	CPULimit      float64       // of one CPU, for reading and adding up; 0: 0.02; negative: none
	AppendRetries int           // of a push that the sink refused; 0: 3; negative: none

	Logger     *slog.Logger          // nil: discard
	Registerer prometheus.Registerer // nil: no metrics
}

// Target is a process to watch.
type Target struct {
	PID     int             // in the inspector's pid namespace
	Process catalog.Process // the row, labels included
	Build   *catalog.Build  // nil: unknown
	Cgroup  string          // not used here: what is read has no part in a cgroup
	Weight  int64           // what its values are multiplied by; 0: 1
}

// States of a target.
const (
	stateWatching = "watching"
	stateRefused  = "refused" // it cannot be read, and that will not change by itself
	stateFailing  = "failing" // the last capture failed; it is tried again, later each time
)

// Status is what is known of one target.
type Status struct {
	Instance   string            `json:"instance"`
	PID        int               `json:"pid"`
	Service    string            `json:"service"`
	State      string            `json:"state"` // watching, refused, failing
	Reason     string            `json:"reason,omitempty"`
	Off        map[string]string `json:"off,omitempty"` // types that the process does not keep, and why
	Last       time.Time         `json:"last,omitzero"` // last capture that succeeded
	Goroutines int               `json:"goroutines"`    // in the last capture
	Unknown    int               `json:"unknown"`       // of these, running: their stacks are not known
	CPU        time.Duration     `json:"cpu"`           // of the last capture, ns
	Period     time.Duration     `json:"period"`        // until the next, ns: longer than Config.Period where captures are dear
	Profiles   uint64            `json:"profiles"`      // appended
	Gaps       uint64            `json:"gaps"`          // intervals without a profile
}

// types are what can be captured, in the order in which it is.
var types = []string{"goroutine", "heap", "mutex", "block"}

// Schedule.
const (
	firstWindow  = 5 * time.Second // the first interval of a process, so that it is seen at once
	maxBackoff   = 16              // periods, after failures in a row
	processShare = 4               // one process gets a quarter of the CPU limit at most: it is captured less often where that is too little
)

type metrics struct {
	profiles *prometheus.CounterVec
	errors   *prometheus.CounterVec
	gaps     *prometheus.CounterVec
	limits   *prometheus.CounterVec
	unknown  prometheus.Counter
	mixed    prometheus.Counter
	cpu      prometheus.Counter
	targets  prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	vec := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	}
	m := &metrics{
		profiles: vec("sonde_inspect_profiles_total", "Profiles read from the memory of processes and stored.", "type"),
		errors:   vec("sonde_inspect_errors_total", "Captures that failed, by cause: version, globals, shape, limit, gone, rights, other.", "cause"),
		gaps:     vec("sonde_inspect_gaps_total", "Intervals without a profile, by cause: baseline, reset, capture, store.", "cause"),
		limits:   vec("sonde_inspect_limits_total", "Captures cut short by a limit: goroutines (one of several was read), memory (given up).", "limit"),
		unknown: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sonde_inspect_unknown_stacks_total", Help: "Goroutines that were counted without a stack, because they ran."}),
		mixed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sonde_inspect_mixed_heaps_total", Help: "Heap profiles during whose reading garbage collections ended: their stacks are not all as of the same."}),
		cpu: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sonde_inspect_cpu_seconds_total", Help: "CPU time that reading and adding up took."}),
		targets: prometheus.NewGauge(prometheus.GaugeOpts{Name: "sonde_inspect_targets", Help: "Processes whose memory is read."}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.profiles, m.errors, m.gaps, m.limits, m.unknown, m.mixed, m.cpu, m.targets} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
