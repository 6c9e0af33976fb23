package capture

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// The kinds of captures. All but Goroutines, Trace and Flight are gzipped pprof profiles.
const (
	CPU          = "cpu"
	Heap         = "heap"
	Allocs       = "allocs"
	Goroutine    = "goroutine"
	Mutex        = "mutex"
	Block        = "block"
	ThreadCreate = "threadcreate"
	Wall         = "wall"
	OffCPU       = "offcpu"
	Goroutines   = "goroutines" // every goroutine's stack as text: goroutine?debug=2
	Trace        = "trace"      // an execution trace
	Flight       = "flight"     // the window of the flight recorder: an execution trace of what was
)

// Kinds are all kinds, as help lists them.
var Kinds = []string{CPU, Heap, Allocs, Goroutine, Mutex, Block, ThreadCreate, Wall, OffCPU, Goroutines, Trace, Flight}

// lasting are the kinds that take as long as they are asked to.
var lasting = []string{CPU, Wall, OffCPU, Trace}

// expensive are the kinds that stop the process, slow it down or make much data, of which only a few may run at once.
var expensive = []string{Goroutines, Trace, Flight}

// ValidKind reports whether kind is one.
func ValidKind(kind string) bool { return slices.Contains(Kinds, kind) }

// Lasting reports whether a capture of that kind takes a time that is asked for; others are of a moment, or where a duration is given of the difference over it.
func Lasting(kind string) bool { return slices.Contains(lasting, kind) }

// IsProfile reports whether a capture of that kind is a pprof profile.
func IsProfile(kind string) bool { return kind != Goroutines && kind != Trace && kind != Flight }

// The content types of captures.
const (
	Binary = "application/octet-stream"
	Text   = "text/plain; charset=utf-8"
)

// ContentType returns the content type of captures of that kind.
func ContentType(kind string) string {
	if kind == Goroutines {
		return Text
	}
	return Binary
}

// FileName returns the name under which a capture is saved: service, kind and id with what tools expect at the end.
func FileName(service, kind, id string) string {
	ext := ".pb.gz"
	switch kind {
	case Goroutines:
		ext = ".txt"
	case Trace, Flight:
		ext = ".trace"
	}
	clean := func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.' {
			return r
		}
		return '_'
	}
	if len(service) > 64 {
		service = service[:64]
	}
	return strings.TrimLeft(strings.Map(clean, service+"-"+kind+"-"+id), ".-") + ext
}

const (
	defaultDuration = 30 * time.Second // of the kinds that last
	maxDuration     = 10 * time.Minute
	traceDuration   = 5 * time.Second // of a trace: a busy program writes megabytes a second
	maxBytes        = 64 << 20        // of one capture
	limitBytes      = "max_capture_bytes"
)

// Task is one capture to take.
type Task struct {
	ID         string `json:"id"`
	Instance   string `json:"instance"`
	Kind       string `json:"kind"`
	DurationMs int64  `json:"duration_ms"` // 0: of a moment
	MaxBytes   int64  `json:"max_bytes"`   // of the result
	Deadline   int64  `json:"deadline"`    // Unix ms by the collector's clock: a result that comes later is too late
}

// Duration returns how long the capture takes.
func (t Task) Duration() time.Duration { return time.Duration(t.DurationMs) * time.Millisecond }

// ErrKind says that an executor cannot take captures of this kind of that process. Errors that wrap it say in words what can.
var ErrKind = errors.New("this kind of capture cannot be taken of this process")

// Executor takes captures of processes that it reaches.
type Executor interface {
	// Instances returns the processes that it reaches now.
	Instances() []string
	// Capture takes what t asks for. The caller reads body and closes it. The error says in words why not, for whoever asked; it wraps ErrKind where another executor of the same process might.
	Capture(ctx context.Context, t Task) (contentType string, body io.ReadCloser, err error)
}

// Result is what came of a task, or of a claim that was granted.
type Result struct {
	ID          string
	Instance    string
	Kind        string // of a claim with several kinds; "": the task's, or what the bytes are
	Error       string // why there is nothing; "" with a Body
	ContentType string
	Body        io.Reader
	From, To    int64 // Unix ms of what it covers; 0: from its start until now
}

// Claim asks for a trigger's captures to be taken.
type Claim struct {
	Instance string   `json:"instance"`
	Service  string   `json:"service"`
	Build    string   `json:"build"`
	Trigger  string   `json:"trigger"`          // the rule's name
	Metric   string   `json:"metric,omitempty"` // the rule's
	Value    float64  `json:"value"`
	Kinds    []string `json:"kinds"`
	Shadow   bool     `json:"shadow"` // only say what would be done
}

// Grant is the answer to a claim.
type Grant struct {
	Granted bool   `json:"granted"`
	ID      string `json:"id,omitempty"`     // under which results are delivered, each with its kind
	Reason  string `json:"reason,omitempty"` // why not
}

// Source hands tasks out and takes results: a Broker, a Remote, or a Relay.
type Source interface {
	// Next returns tasks for any of instances, or none after the wait. Asking says that these processes are reached.
	Next(ctx context.Context, instances []string, wait time.Duration) ([]Task, error)
	// Deliver hands in a result. An error means that it was not stored.
	Deliver(ctx context.Context, r Result) error
	// Claim asks whether a trigger's captures may be taken.
	Claim(ctx context.Context, c Claim) (Grant, error)
}

// Executors are several executors as one: those of a process are tried in their order until one knows the kind.
type Executors []Executor

// Instances implements Executor.
func (es Executors) Instances() []string {
	seen := map[string]bool{}
	var out []string
	for _, e := range es {
		for _, i := range e.Instances() {
			if !seen[i] {
				seen[i] = true
				out = append(out, i)
			}
		}
	}
	return out
}

// Capture implements Executor.
func (es Executors) Capture(ctx context.Context, t Task) (string, io.ReadCloser, error) {
	var errs []error
	for _, e := range es {
		if !slices.Contains(e.Instances(), t.Instance) {
			continue
		}
		contentType, body, err := e.Capture(ctx, t)
		if err == nil || !errors.Is(err, ErrKind) {
			return contentType, body, err
		}
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		return "", nil, fmt.Errorf("process %.64s is not reached any more", t.Instance)
	}
	return "", nil, errors.Join(errs...)
}
