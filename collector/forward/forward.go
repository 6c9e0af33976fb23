package forward

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"

	"github.com/sonde-io/sonde/collector/forward/spool"
	"github.com/sonde-io/sonde/collector/receive"
	"github.com/sonde-io/sonde/collector/series"
	"github.com/sonde-io/sonde/collector/wire"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/internal/fsys"
)

// Config configures a Forwarder. Upstream, Dir, SpoolBytes and Limits are required.
type Config struct {
	Upstream  string      // URL of the collector, without /api
	TokenFile string      // with the bearer token for it, read anew for each batch; "": none
	TLS       *tls.Config // nil: the system's certificates
	Transport http.RoundTripper

	Dir        string // of the spool; one forwarder at a time
	SpoolBytes int64  // at least spool.MinBytes
	FS         fsys.FS

	Limits  receive.Limits // of what agents send
	Host    string         // named in events of gaps; "": os.Hostname
	Version string         // for the User-Agent

	Lanes        int           // connections in use at once; a power of two; 0: 4
	BatchBytes   int           // how large a batch becomes, a single push apart; 0: 1 MiB
	BatchRecords int           // 0: 512
	BatchWait    time.Duration // how long the first push of a batch waits for others; 0: 500 ms
	MinBackoff   time.Duration // the first pause after a failure is up to this, and doubles; 0: 500 ms
	MaxBackoff   time.Duration // the longest pause, where the upstream does not ask for a longer one; 0: 30 s
	Timeout      time.Duration // of one batch; 0: 2 min
	ParkFor      time.Duration // how long one instance's pushes are tried that the upstream refuses for now; 0: 10 min
	Drain        time.Duration // how long Run, told to end, goes on to send what there is; 0: 5 s

	Logger     *slog.Logger          // nil: discard
	Registerer prometheus.Registerer // nil: no metrics
	Now        func() time.Time      // nil: time.Now
}

func (c *Config) setDefaults() error {
	u, err := url.Parse(c.Upstream)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return fmt.Errorf("upstream %q is not http://HOST:PORT or https://HOST:PORT", c.Upstream)
	}
	def(&c.Lanes, 4)
	def(&c.BatchBytes, 1<<20)
	def(&c.BatchRecords, 512)
	def(&c.BatchWait, 500*time.Millisecond)
	def(&c.MinBackoff, 500*time.Millisecond)
	def(&c.MaxBackoff, 30*time.Second)
	def(&c.Timeout, 2*time.Minute)
	def(&c.ParkFor, 10*time.Minute)
	def(&c.Drain, 5*time.Second)
	if c.Lanes < 1 || c.Lanes > 256 || c.Lanes&(c.Lanes-1) != 0 {
		return fmt.Errorf("%d lanes, want a power of two up to 256", c.Lanes)
	}
	if c.FS == nil {
		c.FS = fsys.OS{}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Host == "" {
		// Without a name the event says less.
		c.Host, _ = os.Hostname()
	}
	return nil
}

func def[T int | time.Duration](field *T, value T) {
	if *field == 0 {
		*field = value
	}
}

// Forwarder keeps pushes and sends them on.
type Forwarder struct {
	cfg    Config
	log    *slog.Logger
	spool  *spool.Spool
	target string // of batches
	client *http.Client

	key     string // namespace of the numbers of what the sidecar itself tells
	windows [256]atomic.Uint64
	gaps    atomic.Uint64
	budget  *semaphore.Weighted // bytes read from the spool and not done
	agents  agents
	told    told
	unseen  unseen
	quiet   quiet
	metrics metrics
	receive *receive.Handler

	down atomic.Bool // the last batch failed
	once sync.Once
	err  error // of Close
}

// budgetBatches is how many batches per lane may be in memory: one under way, one that gathers.
const budgetBatches = 2

// New opens the spool. Run sends what is in it.
func New(cfg Config) (*Forwarder, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, fmt.Errorf("start forwarder: %w", err)
	}
	f := &Forwarder{cfg: cfg, log: cfg.Logger, target: strings.TrimSuffix(cfg.Upstream, "/") + "/api/v1/batch", key: "sidecar/" + newEpoch()}
	f.budget = semaphore.NewWeighted(int64(budgetBatches * cfg.Lanes * cfg.BatchBytes))
	var err error
	if f.spool, err = spool.Open(spool.Config{FS: cfg.FS, Dir: cfg.Dir, MaxBytes: cfg.SpoolBytes, Gaps: f.gapsPush, Logger: cfg.Logger, Now: cfg.Now}); err != nil {
		return nil, err
	}
	f.client = &http.Client{Transport: cfg.Transport, Timeout: cfg.Timeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	if cfg.Transport == nil {
		f.client.Transport = &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: cfg.TLS, MaxIdleConnsPerHost: cfg.Lanes, IdleConnTimeout: 90 * time.Second,
			TLSHandshakeTimeout: 10 * time.Second, ForceAttemptHTTP2: true}
	}
	f.register()
	f.receive = receive.New(receive.Config{Sink: f, Relay: f, Limits: cfg.Limits, Logger: cfg.Logger, Registerer: cfg.Registerer, Now: cfg.Now})
	if st := f.spool.Stats(); st.Waiting > 0 || st.TornBytes > 0 {
		f.log.Info("the spool holds what was not sent", "pushes", st.Waiting, "bytes", st.Bytes, "torn_bytes_cut", st.TornBytes)
	}
	return f, nil
}

// newEpoch names one run.
func newEpoch() string {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// Receiver is the handler of what agents and scripts send, to which the endpoints of other senders can be added.
func (f *Forwarder) Receiver() *receive.Handler { return f.receive }

// Handler answers agents and scripts as the collector does: POST /api/v1/push, /api/v1/profiles, and /api/v1/batch of other sidecars.
func (f *Forwarder) Handler() http.Handler {
	mux := http.NewServeMux()
	f.receive.Register(mux)
	return mux
}

// Close ends the forwarder after its Run. It may be called twice.
func (f *Forwarder) Close() error {
	f.once.Do(func() {
		f.err = f.spool.Close()
		f.client.CloseIdleConnections()
	})
	return f.err
}

// Down reports whether the upstream could not be reached, or took nothing, the last time.
func (f *Forwarder) Down() bool { return f.down.Load() }

// laneOf returns the lane of what is about an instance.
func laneOf(instance string) uint8 {
	h := fnv.New64a()
	h.Write([]byte(instance))
	return uint8(h.Sum64())
}

var (
	_ receive.Sink    = (*Forwarder)(nil)
	_ receive.Relay   = (*Forwarder)(nil)
	_ series.Appender = (*Forwarder)(nil)
	_ wire.LinesSink  = (*Forwarder)(nil)
)

// unseen are processes that were reported and could not be kept: the next report takes them along.
type unseen struct {
	mu sync.Mutex
	m  map[string]catalog.Process
}

// maxUnseen bounds them.
const maxUnseen = 4096

// errGone ends a lane.
var errGone = errors.New("told to end")

// sleep waits, and reports false where ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
