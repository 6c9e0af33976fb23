package catalog

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/prometheus/model/labels"
)

var (
	// ErrDuplicate says that a window or idempotency key was registered before; *DuplicateError names which.
	ErrDuplicate = errors.New("already registered")
	// ErrConflict says that a swap did not find exactly its live input rows: another writer was there first. Nothing was changed.
	ErrConflict = errors.New("catalogue conflict")
	// ErrNotFound says that there is no such row.
	ErrNotFound = errors.New("not in catalogue")
)

// Block is a row for one segment (level 0) or block (level 1 and up) that is live.
type Block struct {
	ID      string // ULID-like: sorts by creation; also the blob's name without its folder
	Level   int
	Blob    string // name in the blob store
	Size    int64
	Created int64
	// Resolution is 0 where the block holds raw profiles, else the width in ms of the windows in which their values are added up.
	Resolution int64
	// Pinned is the state of the pins (see Catalog.Pins) in which all that the block holds was found to be pinned, or less than 0 that in which nothing of it was; 0 where nobody looked.
	Pinned   int64
	Datasets []Dataset // one per service; a block of level >= 1 has one
}

// Dataset is what one block holds of one service.
type Dataset struct {
	Service  string
	MinStart int64 // of the profiles' starts
	MaxStart int64
	MaxEnd   int64
	Types    []string // profile types: cpu, heap, …
	Profiles int64
}

// Key identifies one push for ever. Either Instance with Window and Part, or Idempotency alone; a zero Key is never a duplicate.
type Key struct {
	Instance    string
	Window      uint64 // from 1, one more for each window of the instance, dropped ones included
	Part        uint32
	Idempotency string
}

// DuplicateError lists the indices, in Registration.Keys, of keys seen before.
type DuplicateError struct{ Keys []int }

func (e *DuplicateError) Error() string { return ErrDuplicate.Error() }
func (e *DuplicateError) Unwrap() error { return ErrDuplicate }

// Registration is what one durable write registers in one transaction: the segment, the pushes it holds, and what they said about their processes and builds.
type Registration struct {
	Block     *Block // nil where the pushes held no profile
	Keys      []Key
	Processes []Process // upserted; zero fields leave what is known
	Builds    []Build   // inserted if new
	Events    []Event
}

// Process is one run of one Go program.
type Process struct {
	Instance   string // service_instance_id
	Service    string
	Labels     labels.Labels
	LabelsHash string // hash of the agent's process object, "" for others
	BuildID    string
	Version    string // service_version
	GoVersion  string
	Exe        string
	PID        int
	BootID     string
	PIDNS      uint64 // inode of the pid namespace
	StartTicks uint64 // field 22 of /proc/PID/stat
	NSPIDs     []int  // NSpid of /proc/PID/status: the outermost that the reader sees first
	Host       string
	Gatherer   string // agent, scrape, gops, perf, sdk, otlp, push; "" where it is only seen
	State      string // running, exited, crashed
	Reason     string // why it is not profiled, "" if it is
	Started    int64
	FirstSeen  int64
	LastSeen   int64

	// Conditions are what it was started with besides its build: args, env_NAME, gogc, gomemlimit, gomaxprocs, cgroup_cpu (CPUs), cgroup_memory (bytes), node_kind. Nil: unknown.
	Conditions map[string]string

	// Build is what is told of its build with it, stored as PutBuilds does. It is nil in what is read.
	Build *Build
}

// Build is the binary a process runs.
type Build struct {
	ID         string // GNU build ID in hex, else hex of the first 20 bytes of SHA-256 of the Go build ID
	GoBuildID  string
	GNUBuildID string
	GoVersion  string
	Module     string // main module path
	Version    string // main module version
	Info       string // debug.BuildInfo.String()
	FirstSeen  int64
	Size       int64  // of the file in bytes, 0: unknown
	Stripped   string // yes, no, "": unknown
}

// Event is something at a point in time.
type Event struct {
	ID      int64             `json:"id,omitempty"` // 0 before it is stored
	Time    int64             `json:"time"`
	Kind    string            `json:"kind"` // deploy, start, exit, oom_kill
	Service string            `json:"service"`
	Text    string            `json:"text"`
	Attrs   map[string]string `json:"attrs,omitempty"` // from_build, to_build, from_version, to_version, instance
}

// BlockFilter selects live blocks. Zero fields select all.
type BlockFilter struct {
	From, To int64 // datasets with a profile whose start is in [From, To)
	Services []string
	Type     string
	Levels   []int
}

// ProcessFilter selects processes. Zero fields select all.
type ProcessFilter struct {
	Instance string
	Service  string
	Build    string
	BootID   string
	Since    int64 // last seen at or after
	Limit    int
	MaxBytes int // of labels, all rows together: the list ends after the row that passes it
}

// ServiceVersion counts the processes of one version of a service.
type ServiceVersion struct {
	Service, Version string
	Processes        int
}

// EventFilter selects events in [From, To), newest first. Zero fields select all.
type EventFilter struct {
	From, To int64
	Service  string
	Kind     string
	Limit    int
}

// Catalog is the catalogue. Safe for concurrent use. All methods that write are one transaction and durable when they return nil.
type Catalog interface {
	CaptureStore
	LineStore
	Fleet
	BuildStore
	// Register stores r. If any key was seen before it changes nothing and returns a *DuplicateError.
	Register(ctx context.Context, r Registration) error
	// Seen reports which of keys were registered before. It may not know of a window that another program has just registered: Register has the last word.
	Seen(ctx context.Context, keys []Key) ([]bool, error)
	// Blocks returns the live blocks that f selects, ordered by ID, each with the datasets that f selects.
	Blocks(ctx context.Context, f BlockFilter) ([]Block, error)
	// Swap replaces the live blocks in by out and queues in's blobs for deletion after the given time. It deletes exactly
	// len(in) rows or changes nothing and returns ErrConflict. With no out it is a deletion.
	Swap(ctx context.Context, in []string, out []Block, deleteAfter time.Time) error
	// Garbage returns names of blobs whose time to be deleted has come, by the database's clock, at most limit.
	Garbage(ctx context.Context, limit int) ([]string, error)
	// Forget removes names from the garbage once their blobs are gone.
	Forget(ctx context.Context, names []string) error
	// PutProcesses upserts processes; zero fields leave what is known, but an empty Reason with a Gatherer takes the earlier reason back, and so does the State exited. A process
	// that is the first of its service with another build adds a deploy event in the same transaction; so does Register.
	PutProcesses(ctx context.Context, ps []Process) error
	// Process returns one process, or ErrNotFound.
	Process(ctx context.Context, instance string) (Process, error)
	// Processes returns the processes that f selects, last seen first.
	Processes(ctx context.Context, f ProcessFilter) ([]Process, error)
	// Versions counts the profiled processes last seen at or after since and first seen before the given time (Unix ms), by service and version.
	Versions(ctx context.Context, since, before int64) ([]ServiceVersion, error)
	// AddEvents stores events.
	AddEvents(ctx context.Context, es []Event) error
	// Events returns events that f selects, newest first.
	Events(ctx context.Context, f EventFilter) ([]Event, error)
	// Acquire takes or renews the lease name for holder until ttl from now, by the database's clock; false if another holds it. A ttl of 0 gives it back.
	Acquire(ctx context.Context, name, holder string, ttl time.Duration) (bool, error)
	// Expire removes keys, processes (and builds that none runs any more) and events older than the given times (Unix ms; 0 keeps all) unless a live block of their service reaches
	// into their time, and processes that were never profiled and not seen for 10 minutes.
	Expire(ctx context.Context, keysBefore, processesBefore, eventsBefore int64) error
	// PutPin stores a pin and returns its id.
	PutPin(ctx context.Context, p Pin) (id int64, err error)
	// Pins returns all pins by id, and their state: a number that grows with every change of them.
	Pins(ctx context.Context) (pins []Pin, state int64, err error)
	// DeletePin removes a pin; ErrNotFound if there is none.
	DeletePin(ctx context.Context, id int64) error
	// MarkPinned sets Pinned of a live block; ErrConflict if it is not live.
	MarkPinned(ctx context.Context, block string, state int64) error
	// PutDeletion stores a deletion that begins. One that is there is left as it is.
	PutDeletion(ctx context.Context, d Deletion) error
	// Deletions returns all deletions by id.
	Deletions(ctx context.Context) ([]Deletion, error)
	// FinishDeletion marks d as finished and removes in the same transaction the processes that it names and that were last seen before the given time (Unix ms; 0: none), with their
	// keys, its captures and lines in its range, and where it names a service alone that service's events in its range.
	FinishDeletion(ctx context.Context, d Deletion, seenBefore int64) (Removed, error)
	// ForgetDeletion removes the row of a deletion.
	ForgetDeletion(ctx context.Context, id string) error
	// Hold keeps Garbage empty for ttl from now, by the database's clock, whoever asks; a ttl of 0 ends the hold of that id.
	Hold(ctx context.Context, id string, ttl time.Duration) error
	// RetentionClock returns the time in Unix ms that retention last went by, 0 before the first time.
	RetentionClock(ctx context.Context) (int64, error)
	// SetRetentionClock sets it.
	SetRetentionClock(ctx context.Context, ms int64) error
	// Now returns the database's clock.
	Now(ctx context.Context) (time.Time, error)
	// Check verifies the database itself (SQLite: PRAGMA integrity_check, foreign keys) and returns what is wrong.
	Check(ctx context.Context) ([]string, error)
	Close() error
}
