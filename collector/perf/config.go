package perf

import (
	"context"
	"errors"
	"fmt"
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

// Mode is what events are opened for.
type Mode string

const (
	ModeAuto    Mode = ""        // ModeSystem where the rights allow, else ModeProcess
	ModeSystem  Mode = "system"  // one event per CPU for all processes
	ModeCgroup  Mode = "cgroup"  // one event per CPU for each cgroup that holds a target
	ModeProcess Mode = "process" // one event per CPU for each thread of a target
)

// Config configures a Sampler. Sink is required.
type Config struct {
	Sink Sink

	// Describe is asked about a process that ran and is no target: one that began after the last scan. ok says that it is to be watched. It is called on a goroutine of
	// the sampler and may take its time. nil: only targets are watched.
	Describe func(ctx context.Context, pid int) (t Target, ok bool)

	// Seen is told of processes that ended, with State "exited". It may be nil.
	Seen func(ctx context.Context, ps []catalog.Process)

	Mode     Mode
	Hz       int           // samples per second of CPU time; 0: 99
	Window   time.Duration // of one profile; 0: 15 s
	Every    int           // of so many windows one is sampled and its values multiplied by as much; 0: 1
	Kernel   bool          // kernel frames in the stacks
	OffCPU   bool          // off-CPU profiles too
	CPULimit float64       // of one CPU, for the sampler's own work; 0: 0.01; negative: none

	MaxEvents     int // descriptors of events; 0: 4096
	MaxProcesses  int // watched at the same time; 0: 4096
	MaxStackBytes int // of the stacks of one window, of all processes together; 0: 32 MiB
	AppendRetries int // of a push that the sink refused; 0: 3; negative: none

	Logger     *slog.Logger          // nil: discard
	Registerer prometheus.Registerer // nil: no metrics
}

// Target is a process to watch.
type Target struct {
	PID     int             // in the sampler's pid namespace
	Process catalog.Process // the row, labels included
	Build   *catalog.Build  // nil: unknown
	Cgroup  string          // of its memory controller, as in /proc/PID/cgroup; ModeCgroup reads the one of perf_event itself
	Weight  int64           // what its values are multiplied by; 0: 1
}

// Status is what is known of one process that is watched, or is to be and cannot.
type Status struct {
	Instance string    `json:"instance"`
	PID      int       `json:"pid"`
	Service  string    `json:"service"`
	Mode     Mode      `json:"mode"`
	State    string    `json:"state"` // watching, refused
	Reason   string    `json:"reason,omitempty"`
	Since    time.Time `json:"since"`
	Samples  uint64    `json:"samples"`  // taken of it
	Profiles uint64    `json:"profiles"` // appended
	Gaps     uint64    `json:"gaps"`     // profiles that could not be appended
}

// Stats are the sampler's own figures since it began.
type Stats struct {
	Mode       Mode          `json:"mode"`
	Events     int           `json:"events"` // open descriptors of events
	Watched    int           `json:"watched"`
	Hz         int           `json:"hz"`    // at the moment
	Every      int           `json:"every"` // of so many windows one is sampled at the moment
	Samples    uint64        `json:"samples"`
	Dropped    uint64        `json:"dropped"`           // samples of processes that are not watched
	Lost       uint64        `json:"lost"`              // records for which the rings had no room
	Malformed  uint64        `json:"malformed"`         // records that contradict themselves
	Cut        uint64        `json:"cut"`               // samples beyond MaxStackBytes
	EndedEarly uint64        `json:"ended_early"`       // processes that ended before they could be described or their binary opened
	CPU        time.Duration `json:"cpu"`               // the sampler's own
	Refused    string        `json:"refused,omitempty"` // what the kernel or the rights do not allow, in words
}

var errClosed = errors.New("the sampler has ended")

func (c *Config) setDefaults() error {
	if c.Sink == nil {
		return errors.New("make perf sampler: no sink")
	}
	switch c.Mode {
	case ModeAuto, ModeSystem, ModeCgroup, ModeProcess:
	default:
		return fmt.Errorf("make perf sampler: mode %q is none of system, cgroup, process", c.Mode)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	setDefault(&c.Hz, 99)
	setDefault(&c.Window, 15*time.Second)
	setDefault(&c.Every, 1)
	setDefault(&c.MaxEvents, 4096)
	setDefault(&c.MaxProcesses, 4096)
	setDefault(&c.MaxStackBytes, 32<<20)
	if c.CPULimit == 0 {
		c.CPULimit = 0.01
	}
	if c.AppendRetries == 0 {
		c.AppendRetries = 3
	}
	if c.Hz > 10_000 || c.Every > 1000 {
		return fmt.Errorf("make perf sampler: %d Hz and one window of %d, at most 10000 and 1000", c.Hz, c.Every)
	}
	return nil
}

func setDefault[T int | time.Duration](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}
