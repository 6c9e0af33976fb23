package scrape

import (
	"context"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/discover"
	"github.com/sonde-io/sonde/collector/rotate"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles/store"
)

// Sink takes what was scraped; *store.Store is one. An error that wraps catalog.ErrDuplicate means that it is stored already.
type Sink interface {
	Append(ctx context.Context, p store.Push) error
}

// Config configures a Manager. Sink is required.
type Config struct {
	Sink    Sink
	Scanner *discover.Scanner // nil: static targets only

	Version       string        // Sonde's version, for the User-Agent
	Host          string        // catalog.Process.Host of discovered processes; "": os.Hostname
	ScanPeriod    time.Duration // between two scans; 0: 5 s
	CPUPeriod     time.Duration // in each of which one CPU profile is taken; 0: 60 s
	CPUDuration   time.Duration // of one CPU profile; 0: 10 s; negative: no CPU profiles
	Period        time.Duration // between two captures of the other types; 0: a quarter of CPUPeriod
	Timeout       time.Duration // of one request, the CPU profile's own duration not counted; 0: 10 s
	MaxBody       int64         // bytes of one answer; 0: 16 MiB
	MaxDecoded    int64         // bytes of one profile uncompressed; 0: 64 MiB
	MaxSamples    int           // of one profile; 0: 200,000
	AppendRetries int           // of a push that the sink refused; 0: 3; negative: none

	// Rotate says which replicas of a service are profiled now; nil: all. It is asked before each capture, with the target's labels.
	Rotate func(ls labels.Labels) *rotate.Settings

	// Seen is told of discovered processes that are new, changed or gone (State "exited"), after each scan. It may be nil.
	Seen func(ctx context.Context, ps []catalog.Process)

	// ByAgent reports whether an agent pushes for the process that a listed target with these labels (service_name, k8s_pod_name, …) leads to, of those that are on no machine that the Scanner
	// sees. nil: nobody knows.
	ByAgent func(labels map[string]string) bool

	// Report is given the result of each scan, its Processes not to be changed. It may be nil.
	Report func(ctx context.Context, r discover.Report)

	Logger     *slog.Logger          // nil: discard
	Registerer prometheus.Registerer // nil: no metrics
}

// Target is one process to scrape: exactly one of URL and GopsAddr is set.
type Target struct {
	Instance string            // 32 hex digits; "": made from URL
	Service  string            // required
	Labels   map[string]string // besides service_name and service_instance_id
	URL      string            // base URL, such as http://10.0.0.7:6060/debug/pprof
	GopsAddr string            // host:port of a gops agent
	Types    []string          // what to ask for; nil: cpu, heap, goroutine, mutex, block
	Process  *catalog.Process  // nil for a static target: made from the above
	Build    *catalog.Build    // nil: unknown
	HTTP     HTTPOptions       // with URL only
	Dial     dialFunc          // how to connect; nil: as anybody does
	// MetricsURL is where the metrics are; "": where a scan found them, else /metrics beside /debug/pprof.
	MetricsURL string
	Guessed    bool // Service is made up for want of a better one: a process of this machine that is found there is named as the scan names it

	access *access // nil: the client that all share
}

// dialFunc connects to a literal address.
type dialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

// Status is what is known of one target or one process that is not profiled.
type Status struct {
	Instance   string    `json:"instance"`
	PID        int       `json:"pid,omitempty"`
	Exe        string    `json:"exe,omitempty"`
	Service    string    `json:"service"`
	Version    string    `json:"version,omitempty"`
	GoVersion  string    `json:"go_version,omitempty"`
	Build      string    `json:"build,omitempty"`
	Gatherer   string    `json:"gatherer"` // scrape, gops, agent; ""
	State      string    `json:"state"`    // a discover.State, or failing
	Reason     string    `json:"reason,omitempty"`
	URL        string    `json:"url,omitempty"`         // or the gops address
	MetricsURL string    `json:"metrics_url,omitempty"` // where it is asked for its metrics
	Static     bool      `json:"static,omitempty"`
	LastScrape time.Time `json:"last_scrape,omitzero"` // last capture that succeeded
	LastError  string    `json:"last_error,omitempty"`
	Profiles   uint64    `json:"profiles"`          // appended
	Gaps       uint64    `json:"gaps"`              // intervals without a profile: baselines, failed captures, refused pushes
	Rivals     uint64    `json:"rivals"`            // CPU profiles yielded to someone else's
	Missing    []string  `json:"missing,omitempty"` // types that the target does not serve
}
