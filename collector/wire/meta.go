package wire

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"

	"github.com/sonde-io/sonde/internal/catalog"
)

// Version is the meta object's version, its field v.
const Version = 1

// Meta is the first part of a push and the first section of a record. Times are Unix milliseconds.
type Meta struct {
	V        int    `json:"v"`
	Instance string `json:"instance,omitempty"`
	// Key is the namespace of the numbers of windows, "": the instance.
	Key         string          `json:"key,omitempty"`
	Window      uint64          `json:"window,omitempty"`
	Part        uint32          `json:"part"`
	Idempotency string          `json:"idempotency,omitempty"` // in records only: the key of a push without a window
	Start       int64           `json:"start"`
	End         int64           `json:"end"`
	ProcessHash string          `json:"process_hash,omitempty"`
	Process     json.RawMessage `json:"process,omitempty"`
	Profiles    []Entry         `json:"profiles"`
	Events      []Event         `json:"events,omitempty"`
	Seen        []Seen          `json:"seen,omitempty"`
	Metrics     string          `json:"metrics,omitempty"` // the part that holds metrics, a gzipped WriteRequest of remote-write 1.0 (collector/series); "": none
	Lines       []Lines         `json:"lines,omitempty"`
	Stats       Stats           `json:"stats,omitzero"`
}

// Entry is one profile of a push.
type Entry struct {
	Part  string `json:"part"`
	Type  string `json:"type"`
	Start int64  `json:"start"`
	End   int64  `json:"end"`
	// Weight is how many profiles like it this one stands for, 0: 1. The collector multiplies the values.
	Weight int64 `json:"weight,omitempty"`
	// Labels replace those of the process for this profile, nil: the process's.
	Labels map[string]string `json:"labels,omitempty"`
}

// Lines is a chunk of the lines that a process's runtime printed about itself, in their order: a part of gzipped text, each line ended by a line break.
type Lines struct {
	Part   string `json:"part"`
	Source string `json:"source"` // stderr, or the file that they were read from
	From   int64  `json:"from"`   // of the first line and of the last
	To     int64  `json:"to"`
	Count  int    `json:"count"`
	// Labels are those of the process that printed them, for a record that is about none, nil: the process's.
	Labels map[string]string `json:"labels,omitempty"`
}

// Event is a catalog.Event on its way: the collector numbers it.
type Event struct {
	Time    int64             `json:"time"`
	Kind    string            `json:"kind"`
	Service string            `json:"service,omitempty"`
	Text    string            `json:"text,omitempty"`
	Attrs   map[string]string `json:"attrs,omitempty"`
}

// EventOf returns e as it is sent.
func EventOf(e catalog.Event) Event {
	return Event{Time: e.Time, Kind: e.Kind, Service: e.Service, Text: e.Text, Attrs: e.Attrs}
}

// Stats is what an agent says about itself; the counters count from its start.
type Stats struct {
	WindowsDropped int64             `json:"windows_dropped"`
	WindowsFailed  int64             `json:"windows_failed"`
	LabelsStripped int64             `json:"labels_stripped"`
	CaptureCPUMs   int64             `json:"capture_cpu_ms"`
	Skipped        map[string]string `json:"skipped,omitempty"`
}

// Process is the process object of a push.
type Process struct {
	Labels     map[string]string `json:"labels"`
	GoVersion  string            `json:"go_version,omitempty"`
	BuildInfo  string            `json:"build_info,omitempty"`
	Build      string            `json:"build,omitempty"` // the id, where neither of the next two is there
	GoBuildID  string            `json:"go_build_id,omitempty"`
	GNUBuildID string            `json:"gnu_build_id,omitempty"`
	BinarySize int64             `json:"binary_size,omitempty"` // of the file, in bytes
	Stripped   string            `json:"stripped,omitempty"`    // yes, no, "": unknown
	Exe        string            `json:"exe,omitempty"`
	PID        int               `json:"pid,omitempty"`
	BootID     string            `json:"boot_id,omitempty"`
	PIDNS      uint64            `json:"pid_ns,omitempty"`
	StartTicks uint64            `json:"start_ticks,omitempty"`
	NSPIDs     []int             `json:"ns_pids,omitempty"`
	Started    int64             `json:"started,omitempty"`
	Agent      string            `json:"agent,omitempty"` // its version

	// Conditions are what the process was started with besides its build: catalog.Process.Conditions.
	Conditions map[string]string `json:"conditions,omitempty"`

	Gatherer string `json:"gatherer,omitempty"` // "": agent
	State    string `json:"state,omitempty"`    // "": running
	Reason   string `json:"reason,omitempty"`   // why it is not profiled
}

// Seen is a process that is reported without a profile of it.
type Seen struct {
	Process
	Instance string `json:"instance"`
	LastSeen int64  `json:"last_seen"`
}

// instanceLabel is set by the collector from the instance.
const instanceLabel = "service_instance_id"

// ProcessOf returns what row and b, which may be nil, say of a process.
func ProcessOf(row *catalog.Process, b *catalog.Build) Process {
	p := Process{Labels: map[string]string{}, GoVersion: row.GoVersion, Build: row.BuildID, Exe: row.Exe, PID: row.PID, BootID: row.BootID, PIDNS: row.PIDNS,
		StartTicks: row.StartTicks, NSPIDs: row.NSPIDs, Started: row.Started, Gatherer: row.Gatherer, State: row.State, Reason: row.Reason, Conditions: row.Conditions}
	for name, value := range row.Labels.Map() {
		if name != instanceLabel {
			p.Labels[name] = value
		}
	}
	if b == nil {
		b = row.Build
	}
	if b != nil {
		p.BuildInfo, p.GoBuildID, p.GNUBuildID, p.BinarySize, p.Stripped = b.Info, b.GoBuildID, b.GNUBuildID, b.Size, b.Stripped
	}
	return p
}

// Encode returns the object's JSON and the hash that names it.
func (p *Process) Encode() (raw []byte, hash string, err error) {
	if raw, err = json.Marshal(p); err != nil {
		return nil, "", err
	}
	return raw, ProcessHash(raw), nil
}

// ProcessHash returns the hash of a process object as sent.
func ProcessHash(raw []byte) string {
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:8])
}

// The statuses of a Result.
const (
	StatusOK        = "ok"
	StatusDuplicate = "duplicate" // stored before
	StatusUnknown   = "unknown"   // the process object is wanted
	StatusRefused   = "refused"
)

// Result is the answer to one record.
type Result struct {
	Status     string          `json:"status"`
	Code       int             `json:"code,omitempty"`        // what a push of its own would have been answered; 0: 200
	Retry      bool            `json:"retry,omitempty"`       // of what was refused: another time it may be taken
	RetryAfter int             `json:"retry_after,omitempty"` // seconds, 0: as the sender likes
	Error      json.RawMessage `json:"error,omitempty"`       // as in the answer to a push
}

// BatchAnswer is the answer to a batch: a result for each record that was read, in their order. What comes after these was not taken.
type BatchAnswer struct {
	Results  []Result                   `json:"results"`
	Settings map[string]json.RawMessage `json:"settings,omitempty"` // by instance, of the agents in the batch; null: none
	Error    json.RawMessage            `json:"error,omitempty"`    // why reading ended before the end
}
