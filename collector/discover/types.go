package discover

import (
	"log/slog"
	"net/netip"
	"time"

	"github.com/sonde-io/sonde/symbols/build"
)

// Config configures a Scanner. The zero Config works.
type Config struct {
	ProcRoot     string        // where proc is mounted; "": /proc. A host's proc mounted elsewhere works too
	Host         string        // the label host_name; "": os.Hostname
	Version      string        // Sonde's version, for the User-Agent of probes
	Self         bool          // report the scanner's own process like any other
	Paths        []string      // URL paths under which pprof is looked for; nil: /debug/pprof
	Rules        Rules         // what may be touched
	Env          []string      // variables besides the Go runtime's whose values Process.Conditions tells: NAME or PREFIX_*; see BuildSettings
	ProbeTimeout time.Duration // of one request; 0: 2 s
	AgentGrace   time.Duration // how long a process with the agent built in may take to its first push before it is probed; 0: 10 s
	Logger       *slog.Logger  // nil: discard

	// AgentSeen reports whether an agent pushes for the process with this identity; pidns is 0 where it may not be read. It is called
	// in every scan for each process that it has not said yes to yet. nil: none does. Identity.Same says what makes two the same.
	AgentSeen func(bootID string, pidns, startTicks uint64, pids []int) bool

	// Placed is asked in every scan for each process in a container or pod what is known of that from elsewhere, nil for nothing yet. container is the name that a mount
	// tells, mostly "". An answer is not changed by either side: a new one is a new pointer. nil: nobody knows.
	Placed func(containerID, podUID, container string) *Placement

	// Relabel may change the labels of a process (its own copy), service_name and service_version among them, and says whether it is kept: one that is not is left alone. It is asked once for each process, and again when more is
	// known of where it was placed, which is nil until then. nil: all are kept as they are.
	Relabel func(p *Process, at *Placement) (keep bool)

	// Sampled is asked in every scan, one process at a time, for each that has neither agent nor endpoint nor gops and is not denied. The gatherer that it
	// names (perf) watches the process, whose state becomes Profiling, with reason as it is; with "" the state stays and reason is added to its
	// own. It may not call the Scanner. nil: nobody watches these.
	Sampled func(p *Process) (gatherer, reason string)
}

// Rules say what may be touched. What is both allowed and denied is denied. An empty allow list allows everything.
type Rules struct {
	AllowUIDs, DenyUIDs   []int
	AllowPorts, DenyPorts []int
	AllowExes, DenyExes   []string // path.Match patterns on the whole path of the executable
	NoProbes              bool     // no port is asked whether it answers as pprof
	NoGops                bool     // agents of gops are passed by
	NoMetrics             bool     // no port is asked whether it has metrics
}

// State says how far a process is profiled.
type State string

const (
	Profiling   State = "profiling"     // it is profiled from outside: Process.Gatherer says how
	ByAgent     State = "agent"         // its own agent reports it
	Waiting     State = "waiting"       // it has the agent built in, whose first push is awaited
	NotProbed   State = "not probed"    // dry run only: Process.Touch says what would be requested of it
	NeedsRoot   State = "needs root"    // its files in /proc may not be read
	NoEndpoint  State = "no endpoint"   // nothing that it listens on answers as pprof
	OtherNetNS  State = "other network" // it lives in another network namespace, which may not be entered
	Denied      State = "denied"        // by rule
	SelfProcess State = "self"          // the scanner's own process
)

// Placement is what an orchestrator knows of the container that a process runs in.
type Placement struct {
	Service string                   // what the process is named by if its own environment does not name it; "": unknown
	Named   bool                     // Service is meant for Sonde: of the environment only SONDE_SERVICE is stronger
	Version string                   // of the service, if the environment does not tell it; "": unknown
	Labels  map[string]string        // k8s_pod_name and the like
	Meta    func() map[string]string // what else is known, for relabeling: __meta_kubernetes_pod_label_…; nil: nothing
	Off     string                   // why the process is to be left alone; "" if it is not
}

// Identity is what names a process across gatherers and pid namespaces.
type Identity struct {
	BootID     string
	PIDNS      uint64 // inode of its pid namespace; 0: unknown
	StartTicks uint64 // field 22 of /proc/PID/stat
	PIDs       []int  // NSpid: as the reader sees it first, as the process sees itself last
}

// Process is one Go process, as a scan saw it. It is a copy: the caller may keep it; Build is shared and not to be changed.
type Process struct {
	Identity
	Instance    string // Identity.Instance
	PID         int    // as the scanner sees it
	UID         int
	Exe         string
	Service     string // from OTEL_SERVICE_NAME, SONDE_SERVICE, … else the name of the executable
	Version     string // service_version
	Labels      map[string]string
	GoVersion   string
	Build       *build.Info // nil where the binary could not be read
	BuildID     string      // build.Key
	Started     time.Time
	Conditions  map[string]string // what it was started with besides its build, as catalog.Process has it; nil: unknown; not to be changed
	ContainerID string            // 64 hex digits, "" outside of containers
	PodUID      string            // of its Kubernetes pod, as the kubelet names it; "" outside of pods
	Cgroup      string            // path of its memory cgroup as in /proc/PID/cgroup, as the scanner sees it; "" where there is none
	NetNS       uint64            // inode of its network namespace; 0: unknown
	Ports       []string          // listening addresses, host:port, sorted
	State       State
	Off         bool     // its owner wants it left alone: by its environment or its pod, not by the scanner's rules
	Reason      string   // why it is not profiled; of a Profiling one what its gatherer has to say, mostly ""
	Gatherer    string   // scrape, gops, agent, or what Config.Sampled named; ""
	URL         string   // base URL of its pprof endpoint, such as http://127.0.0.1:6060/debug/pprof; "" for none
	Types       []string // profile types that the endpoint's index lists; nil: unknown
	GopsAddr    string   // host:port of its gops agent; "" for none
	MetricsURL  string   // where it answers with go_* or process_* metrics, such as http://127.0.0.1:9090/metrics, whatever its State; "": not known
	Touch       []string // DryRun only: the requests that Scan would send
}

// Report is the result of one scan.
type Report struct {
	Time      time.Time
	Processes []Process               // Go processes, by PID
	Seen      int                     // processes of any kind that were looked at
	NetNS     uint64                  // inode of the scanner's own network namespace; 0: unknown
	Networks  map[uint64][]netip.Addr // addresses of the network namespaces that the processes live in, by inode; not to be changed
	Unknown   int                     // processes that may be Go programs, but nothing of them can be read without root
}
