package agent

import (
	"crypto/tls"
	"log/slog"
	"net/http"
	"time"
)

// Config says what the agent does. The zero value works. A field that is zero takes its environment variable, then its default.
// A wrong value is reported once, to Logger, and the default is taken: nothing here can stop the program.
type Config struct {
	// Service is the service_name label. SONDE_SERVICE, OTEL_SERVICE_NAME, else the base name of the main module, else of the executable.
	Service string
	// ServiceVersion is the service_version label. SONDE_SERVICE_VERSION, else the main module's version, else its VCS revision.
	ServiceVersion string
	// Environment is the deployment_environment_name label. SONDE_ENVIRONMENT.
	Environment string
	// Namespace is the service_namespace label. SONDE_NAMESPACE.
	Namespace string
	// Labels are added to the process's labels and win over those found. SONDE_LABELS and OTEL_RESOURCE_ATTRIBUTES: a=b,c=d.
	Labels map[string]string

	// URL is the collector's base, or a sidecar's socket: unix:/run/sonde/agent.sock. SONDE_URL; default http://127.0.0.1:7070.
	URL string
	// Token is sent as a bearer token. SONDE_TOKEN, or the content of the file SONDE_TOKEN_FILE, read again for each window.
	Token string

	// Types are the profiles to take; all but wall where empty. SONDE_TYPES: cpu,heap,goroutine,mutex,block,wall. Wall samples the stacks of all goroutines,
	// ten times a second where the budget covers that, and less often the more goroutines there are.
	Types []Type
	// Period is the length of a window, 1 s to 1 h. SONDE_PERIOD; default 15 s. Each window is up to a tenth shorter or longer, the first is 5 s.
	Period time.Duration
	// CPURate is how many samples a second the CPU profile takes of each running thread, 1 to 100, on average over a window. SONDE_CPU_RATE; default 100.
	// The runtime samples at 100 Hz; a lower rate profiles a part of each window, CPURate/100 of it, at a random place.
	CPURate int
	// MutexFraction is given to runtime.SetMutexProfileFraction where it is above 0. SONDE_MUTEX_FRACTION; default: not touched.
	MutexFraction int
	// BlockRate, in nanoseconds, is given to runtime.SetBlockProfileRate where it is above 0. SONDE_BLOCK_RATE; default: not touched.
	BlockRate int

	// MaxGoroutines is the most goroutines of which a profile is taken. SONDE_MAX_GOROUTINES; default 15000. While the runtime takes it, it holds
	// some 240 bytes for each in the heap, so the agent may need more than 16 MiB above the default.
	MaxGoroutines int

	// QueueBytes bounds the windows that wait to be sent; the oldest are dropped and counted. SONDE_QUEUE_BYTES; default 3 MiB.
	// The rest of the agent keeps to 13 MiB, so at the default all of it stays within 16 MiB.
	QueueBytes int
	// Timeout is for one attempt to send a window. SONDE_TIMEOUT; default 10 s.
	Timeout time.Duration
	// CloseTimeout is how long Close may take; where nobody listens at the URL it takes a tenth of a second. SONDE_CLOSE_TIMEOUT; default 5 s.
	CloseTimeout time.Duration

	// Captures lets the collector take captures: on demand, and by the triggers that it sends. Off turns both off, whatever the collector says.
	// SONDE_CAPTURES=0 or 1; default on.
	Captures Switch
	// FlightRecorder keeps the last seconds of the program's execution trace in memory, 8 MiB and more that are not in the agent's 16, for captures to
	// fetch. It needs Go 1.25, and slows the program by what execution traces do: 1 to 2 %. SONDE_FLIGHT_RECORDER=1; default off.
	FlightRecorder bool

	// Metrics has all metrics of runtime/metrics and the process's CPU, memory and files read every 10 s and sent with the windows. SONDE_METRICS=0 or 1; default on.
	Metrics Switch

	// KeepLabels and DropLabels choose the pprof labels of samples that leave the process, by patterns of path.Match over their keys: where KeepLabels names
	// any, only those that match it stay, and none that matches DropLabels. SONDE_KEEP_LABELS, SONDE_DROP_LABELS: a,b*; default: all stay.
	KeepLabels, DropLabels []string
	// Redact are regular expressions. What matches one of them in the value of a label, in build information or in a text is replaced by [redacted] before it
	// leaves; execution traces, whose texts cannot be replaced, are not taken then. SONDE_REDACT: one for each line. Where one is wrong all is redacted.
	Redact []string
	// SendArgs and SendEnv name what is sent of the command line and of the environment, as the labels process_command_args and
	// process_environment_variable_NAME: flags without their dashes, and variables, by patterns of path.Match. SONDE_SEND_ARGS, SONDE_SEND_ENV: a,b*; default: nothing.
	SendArgs, SendEnv []string

	// HTTPClient sends the windows; its own Timeout is obeyed too. Default: a client of the agent's own with one connection. A socket is not dialled by it.
	HTTPClient *http.Client
	// TLS is for the agent's own client. Default: the system's roots, and those in the file SONDE_CA_FILE.
	TLS *tls.Config

	// Logger takes the agent's few messages. Default: standard error.
	Logger *slog.Logger
	// Disabled turns the agent off: Start does nothing. SONDE_DISABLED=1 does so too, whatever Disabled says.
	Disabled bool
}

// Switch is on, off, or what is the default.
type Switch int8

// The positions of a Switch.
const (
	Default Switch = 0
	On      Switch = 1
	Off     Switch = -1
)

// The bounds and defaults of the settings.
const (
	defaultURL        = "http://127.0.0.1:7070"
	defaultPeriod     = 15 * time.Second
	minPeriod         = time.Second
	maxPeriod         = time.Hour
	firstWindow       = 5 * time.Second
	runtimeCPURate    = 100
	defaultQueueBytes = 3 << 20
	captureBytes      = 13 << 19 // of the runtime's records and of what is remembered of them
	defaultGoroutines = 15_000
	defaultTimeout    = 10 * time.Second
	defaultClose      = 5 * time.Second
)

// allTypes is every type, in the order in which they are captured; defaultTypes are those that nobody has to ask for.
var (
	allTypes     = []Type{CPU, Heap, Mutex, Block, Goroutine, Wall}
	defaultTypes = []Type{CPU, Heap, Mutex, Block, Goroutine}
)
