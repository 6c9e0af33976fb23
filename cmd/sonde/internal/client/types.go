package client

// Processes is the answer of /api/v1/processes.
type Processes struct {
	Processes []Process `json:"processes"`
	Total     int       `json:"total"`          // of all pages
	Next      string    `json:"next,omitempty"` // cursor of the page that follows; "": this is the last
	More      bool      `json:"more,omitempty"` // there are more than the collector looks at
	Summary   string    `json:"summary"`
}

// Process is one run of one Go program.
type Process struct {
	Instance  string            `json:"instance"`
	Service   string            `json:"service"`
	Version   string            `json:"version"`
	GoVersion string            `json:"go_version"`
	Build     string            `json:"build"`
	Node      string            `json:"node"`
	Pod       string            `json:"pod"` // NAMESPACE/NAME
	Host      string            `json:"host"`
	PID       int               `json:"pid"`
	Exe       string            `json:"exe"`
	Gatherer  string            `json:"gatherer"`            // the one that knows it best; "": none
	Gatherers []string          `json:"gatherers,omitempty"` // all of them
	State     string            `json:"state"`               // running, exited, crashed, lost
	Reason    string            `json:"reason"`
	Started   int64             `json:"started"` // Unix ms
	LastSeen  int64             `json:"last_seen"`
	Uptime    int64             `json:"uptime_ms"`
	Instances []string          `json:"instances,omitempty"` // where it has several ids
	Labels    map[string]string `json:"labels"`
}

// Event is something at a point in time.
type Event struct {
	ID      int64             `json:"id"`
	Time    int64             `json:"time"` // Unix ms
	Kind    string            `json:"kind"`
	Service string            `json:"service"`
	Text    string            `json:"text"`
	Attrs   map[string]string `json:"attrs,omitempty"`
}

// Events is the answer of /api/v1/events.
type Events struct {
	Events []Event `json:"events"`
}

// Services is the answer of /api/v1/services.
type Services struct {
	Services []Service `json:"services"`
}

// Service is one service with profiles in the range.
type Service struct {
	Name      string   `json:"name"`
	Types     []string `json:"types"`
	First     int64    `json:"first"` // Unix ms
	Last      int64    `json:"last"`
	Profiles  int64    `json:"profiles"`
	Processes int      `json:"processes"`
	Versions  []string `json:"versions"`
}

// PushAnswer is the answer to a push of one profile.
type PushAnswer struct {
	Status   string `json:"status"` // ok or duplicate
	Profiles int    `json:"profiles"`
	Samples  int    `json:"samples"`
}

// Types is the answer of /api/v1/types.
type Types struct {
	Types []Type `json:"types"`
}

// Type is one column of a type of profile, such as heap:inuse_space.
type Type struct {
	ID      string `json:"id"`
	Profile string `json:"profile"`
}

// Coverage is the answer of /api/v1/coverage.
type Coverage struct {
	At        int64       `json:"at"` // Unix ms
	Processes Tally       `json:"processes"`
	Pods      Tally       `json:"pods"`
	Units     Tally       `json:"units"`
	Nodes     Tally       `json:"nodes"` // watched: those that report
	Gaps      []Gap       `json:"gaps"`
	ByService []NameTally `json:"by_service"`
	ByNode    []NodeTally `json:"by_node"`
	More      bool        `json:"more"`
}

// Tally counts what should be watched and what is.
type Tally struct {
	Expected int `json:"expected"`
	Watched  int `json:"watched"`
}

// NameTally is the Tally of a service.
type NameTally struct {
	Name string `json:"name"`
	Tally
}

// NodeTally is the Tally of a node, with what it reports.
type NodeTally struct {
	NameTally
	Reports  bool   `json:"reports"`
	Silent   bool   `json:"silent"`
	Reported int64  `json:"reported"` // Unix ms
	Gatherer string `json:"gatherer"`
	More     int    `json:"more"`
	Unknown  int    `json:"unknown"`
}

// Gap is why processes are not watched, or, where it is partial, what watched ones lack.
type Gap struct {
	Reason    string    `json:"reason"`
	Cure      string    `json:"cure"`
	Partial   bool      `json:"partial"`
	Processes int       `json:"processes"`
	Services  []string  `json:"services"`
	Nodes     []string  `json:"nodes"`
	Examples  []Example `json:"examples"`
}

// Example is one process with a gap.
type Example struct {
	Instance string `json:"instance"`
	Service  string `json:"service"`
	Node     string `json:"node"`
	Pod      string `json:"pod"`
	Unit     string `json:"unit"`
	PID      int    `json:"pid"`
	Exe      string `json:"exe"`
	Text     string `json:"text"` // the reason as it was given
}
