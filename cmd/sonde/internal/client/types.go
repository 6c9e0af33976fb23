package client

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

// Types is the answer of /api/v1/types.
type Types struct {
	Types []Type `json:"types"`
}

// Type is one column of a type of profile, such as heap:inuse_space.
type Type struct {
	ID      string `json:"id"`
	Profile string `json:"profile"`
}
