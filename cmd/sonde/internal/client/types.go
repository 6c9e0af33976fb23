package client

// Type describes a column of a type of profile.
type Type struct {
	ID      string `json:"id"` // heap:inuse_space
	Profile string `json:"profile"`
	Sample  string `json:"sample"`
	Unit    string `json:"unit"`
	Kind    string `json:"kind"` // interval or gauge
}

// Stats says what a query read.
type Stats struct {
	Profiles  int   `json:"profiles"`
	Series    int   `json:"series"`
	Samples   int   `json:"samples"`
	Blocks    int   `json:"blocks"`
	BytesRead int64 `json:"bytes_read"`
	CoveredMs int64 `json:"covered_ms"`
	Period    int64 `json:"period,omitempty"`
	Saturated bool  `json:"saturated,omitempty"`
}

// Flame is a flame graph in columns; node 0 is the root, nodes are in depth-first pre-order. The base columns are there in diffs only.
type Flame struct {
	Type      Type     `json:"type"`
	From      int64    `json:"from"` // Unix ms
	To        int64    `json:"to"`
	Total     int64    `json:"total"`
	BaseTotal int64    `json:"base_total,omitempty"`
	Names     []string `json:"names"`
	Kinds     []string `json:"kinds"`
	Files     []string `json:"files"`
	Name      []int    `json:"name"` // index into Names, Kinds and Files
	Depth     []int    `json:"depth"`
	Value     []int64  `json:"value"` // self plus children
	Self      []int64  `json:"self"`
	BaseValue []int64  `json:"base_value,omitempty"`
	BaseSelf  []int64  `json:"base_self,omitempty"`
	Nodes     int      `json:"nodes"`
	Dropped   int      `json:"dropped"`
	Stats     Stats    `json:"stats"`
}

// Top is the table of functions.
type Top struct {
	Type      Type     `json:"type"`
	From      int64    `json:"from"` // Unix ms
	To        int64    `json:"to"`
	Total     int64    `json:"total"`
	BaseTotal int64    `json:"base_total,omitempty"`
	Rows      []TopRow `json:"rows"`
	Stats     Stats    `json:"stats"`
}

// TopRow is one function. The base columns are there in diffs only.
type TopRow struct {
	Function  string `json:"function"`
	File      string `json:"file"`
	Kind      string `json:"kind"`
	Self      int64  `json:"self"`
	Total     int64  `json:"total"`
	BaseSelf  int64  `json:"base_self,omitempty"`
	BaseTotal int64  `json:"base_total,omitempty"`
}

// Processes is the answer of /api/v1/processes.
type Processes struct {
	Processes []Process `json:"processes"`
	Summary   string    `json:"summary"`
}

// Process is one run of one Go program.
type Process struct {
	Instance  string            `json:"instance"`
	Service   string            `json:"service"`
	Version   string            `json:"version"`
	GoVersion string            `json:"go_version"`
	Build     string            `json:"build"`
	Host      string            `json:"host"`
	PID       int               `json:"pid"`
	Exe       string            `json:"exe"`
	Gatherer  string            `json:"gatherer"`
	State     string            `json:"state"`
	Reason    string            `json:"reason"`
	Started   int64             `json:"started"` // Unix ms
	LastSeen  int64             `json:"last_seen"`
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
