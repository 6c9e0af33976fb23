package receive

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"runtime/debug"
	"sync"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/reply"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/symbols/build"
)

// processJSON is the process object of a push.
type processJSON struct {
	Labels     map[string]string `json:"labels"`
	GoVersion  string            `json:"go_version"`
	BuildInfo  string            `json:"build_info"`
	GoBuildID  string            `json:"go_build_id"`
	GNUBuildID string            `json:"gnu_build_id"`
	Exe        string            `json:"exe"`
	PID        int               `json:"pid"`
	BootID     string            `json:"boot_id"`
	PIDNS      uint64            `json:"pid_ns"`
	StartTicks uint64            `json:"start_ticks"`
	NSPIDs     []int             `json:"ns_pids"`
	Started    int64             `json:"started"`
	Agent      string            `json:"agent"`
}

// known is what a collector remembers of a process between its pushes.
type known struct {
	hash    string
	service string
	labels  labels.Labels
	stats   stats
}

// The bounds of the cache; a process that fell out is looked up in the catalogue.
const (
	maxKnown      = 16_384
	maxKnownBytes = 64 << 20 // of labels
)

// processCache remembers processes by instance. It is only a cache: what it forgets the catalogue knows.
type processCache struct {
	mu    sync.Mutex
	m     map[string]known
	bytes uint64
}

func (c *processCache) get(instance, hash string) (known, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k, ok := c.m[instance]
	return k, ok && k.hash == hash
}

// put remembers k and returns what the agent's statistics were before.
func (c *processCache) put(instance string, k known) stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil {
		c.m = make(map[string]known)
	}
	k.stats.Skipped = nil // as long as the sender likes; only the counters are compared
	old := c.m[instance]
	c.bytes -= old.labels.ByteSize()
	delete(c.m, instance)
	c.bytes += k.labels.ByteSize()
	for victim, v := range c.m { // any one
		if len(c.m) < maxKnown && c.bytes <= maxKnownBytes {
			break
		}
		c.bytes -= v.labels.ByteSize()
		delete(c.m, victim)
	}
	c.m[instance] = k
	return old.stats
}

// process finds out which process m is about: as it says itself, else from the cache, else from the catalogue, else 428. The
// catalogue row and build are what is to be stored with the push.
func (h *Handler) process(ctx context.Context, m *meta) (known, *catalog.Process, *catalog.Build, error) {
	now := h.cfg.Now().UnixMilli()
	if len(m.Process) > 0 && string(m.Process) != "null" {
		return h.ownWords(m, now)
	}
	k, ok := h.known.get(m.Instance, m.ProcessHash)
	if !ok {
		p, err := h.cfg.Processes.Process(ctx, m.Instance)
		switch {
		case errors.Is(err, catalog.ErrNotFound) || err == nil && p.LabelsHash != m.ProcessHash:
			return known{}, nil, nil, &reply.Error{Status: http.StatusPreconditionRequired, Message: "the process is not known here, or not by this hash",
				Hint: "send the window again with the process object"}
		case err != nil:
			return known{}, nil, nil, &reply.Error{Status: http.StatusServiceUnavailable, Message: "cannot look the process up now", RetryAfter: 5, Cause: err}
		}
		k = known{hash: m.ProcessHash, service: p.Service, labels: p.Labels}
	}
	row := &catalog.Process{Instance: m.Instance, Service: k.service, Gatherer: "agent", State: "running", LastSeen: now}
	return k, row, nil, nil
}

// ownWords reads the process object of m.
func (h *Handler) ownWords(m *meta, now int64) (known, *catalog.Process, *catalog.Build, error) {
	fail := func(err error) (known, *catalog.Process, *catalog.Build, error) { return known{}, nil, nil, err }
	sum := sha256.Sum256(m.Process)
	if hash := hex.EncodeToString(sum[:8]); hash != m.ProcessHash {
		return fail(reply.Errorf(http.StatusUnprocessableEntity, "process_hash %.32q is not that of the process object, %s", m.ProcessHash, hash))
	}
	var p processJSON
	if err := json.Unmarshal(m.Process, &p); err != nil {
		return fail(reply.Errorf(http.StatusBadRequest, "read meta.process: %v", err))
	}
	ls, err := h.labels(p.Labels, m.Instance)
	if err != nil {
		return fail(err)
	}
	k := known{hash: m.ProcessHash, service: ls.Get("service_name"), labels: ls}
	row := &catalog.Process{Instance: m.Instance, Service: k.service, Labels: ls, LabelsHash: m.ProcessHash, Version: ls.Get("service_version"),
		GoVersion: clip(p.GoVersion, 256), Exe: clip(p.Exe, 4096), PID: p.PID, BootID: clip(p.BootID, 128), PIDNS: p.PIDNS, StartTicks: p.StartTicks,
		Host: ls.Get("host_name"), Gatherer: "agent", State: "running", Started: p.Started, FirstSeen: now, LastSeen: now}
	if len(p.NSPIDs) <= 32 { // the kernel nests no deeper
		row.NSPIDs = p.NSPIDs
	}
	b := buildOf(&p, now)
	if b != nil {
		row.BuildID = b.ID
	}
	return k, row, b, nil
}

// buildOf returns the build that p runs, or nil where it does not say.
func buildOf(p *processJSON, now int64) *catalog.Build {
	b := &catalog.Build{ID: clip(p.GNUBuildID, 128), GNUBuildID: clip(p.GNUBuildID, 128), GoBuildID: clip(p.GoBuildID, 512), GoVersion: clip(p.GoVersion, 256),
		Info: p.BuildInfo, FirstSeen: now}
	if b.ID == "" {
		if p.GoBuildID == "" {
			return nil
		}
		sum := sha256.Sum256([]byte(p.GoBuildID))
		b.ID = hex.EncodeToString(sum[:20])
	}
	if info, err := debug.ParseBuildInfo(p.BuildInfo); err == nil {
		b.Module, b.Version = build.ModuleOf(info), info.Main.Version
	}
	return b
}

// clip cuts s to n bytes: for descriptive fields, where a cut is better than a refusal.
func clip(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}
