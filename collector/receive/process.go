package receive

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/reply"
	"github.com/sonde-io/sonde/collector/wire"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles"
	"github.com/sonde-io/sonde/profiles/store"
	"github.com/sonde-io/sonde/symbols/build"
)

// known is what a collector remembers of a process between its pushes.
type known struct {
	hash     string
	service  string
	labels   labels.Labels
	gatherer string
	state    string
	stats    wire.Stats
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
func (c *processCache) put(instance string, k known) wire.Stats {
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

// subject finds out which process m is about: as it says itself, else from the cache, else from the catalogue, else 428. The push holds what is to be
// stored besides profiles; at is when the process was seen, Unix ms.
func (h *Handler) subject(ctx context.Context, m *wire.Meta, at int64, lookUp lookUp) (known, store.Push, error) {
	p := store.Push{Key: catalog.Key{Instance: cmp.Or(m.Key, m.Instance), Window: m.Window, Part: m.Part}}
	if m.Idempotency != "" {
		p.Key = catalog.Key{Idempotency: m.Idempotency}
	}
	var err error
	if p.Events, err = h.events(m); err != nil {
		return known{}, p, err
	}
	var k known
	switch {
	case hasProcess(m):
		if k, p.Process, p.Build, err = h.ownWords(m.Process, m.Instance, m.ProcessHash, at); err != nil {
			return known{}, p, err
		}
	case m.Instance == "" && len(m.Profiles) == 0:
		return known{}, p, nil
	default:
		if k, p.Process, p.Build, err = lookUp(ctx, m.Instance, m.ProcessHash); err != nil {
			return known{}, p, err
		}
		p.Process.LastSeen = at
	}
	if p.Process.Instance = m.Instance; m.Instance == "" {
		p.Process = nil // nobody to remember
	}
	for i := range p.Events {
		// By the clock that says when the process was last seen: by its own it may have ended before that.
		if e := &p.Events[i]; m.Instance != "" && e.Kind == exitEvent && e.Attrs["instance"] == m.Instance {
			e.Time = at
		}
	}
	return k, p, nil
}

func hasProcess(m *wire.Meta) bool { return len(m.Process) > 0 && string(m.Process) != "null" }

// unknownProcess is the answer that asks for the process object.
func unknownProcess() error {
	return &reply.Error{Status: http.StatusPreconditionRequired, Message: "the process is not known here, or not by this hash",
		Hint: "send the window again with the process object"}
}

// lookUp finds a process whose object did not come, with the row and the build to store.
type lookUp func(ctx context.Context, instance, hash string) (known, *catalog.Process, *catalog.Build, error)

func (h *Handler) lookUp(ctx context.Context, instance, hash string) (known, *catalog.Process, *catalog.Build, error) {
	k, ok := h.known.get(instance, hash)
	if !ok {
		if instance == "" {
			return known{}, nil, nil, unknownProcess()
		}
		p, err := h.cfg.Processes.Process(ctx, instance)
		switch {
		case errors.Is(err, catalog.ErrNotFound) || err == nil && p.LabelsHash != hash:
			return known{}, nil, nil, unknownProcess()
		case err != nil:
			return known{}, nil, nil, &reply.Error{Status: http.StatusServiceUnavailable, Message: "cannot look the process up now", RetryAfter: 5, Cause: err}
		}
		k = known{hash: hash, service: p.Service, labels: p.Labels, gatherer: cmp.Or(p.Gatherer, agentGatherer), state: runningState}
	}
	return k, &catalog.Process{Service: k.service, Gatherer: k.gatherer, State: k.state}, nil, nil
}

// What a process is where its object does not say.
const (
	agentGatherer = "agent"
	runningState  = "running"
)

// exitEvent is the kind of the event with which a process tells that it ends.
const exitEvent = "exit"

// ownWords reads a process object that came at the time at, Unix ms.
func (h *Handler) ownWords(raw []byte, instance, hash string, at int64) (known, *catalog.Process, *catalog.Build, error) {
	fail := func(err error) (known, *catalog.Process, *catalog.Build, error) { return known{}, nil, nil, err }
	if own := wire.ProcessHash(raw); own != hash {
		return fail(reply.Errorf(http.StatusUnprocessableEntity, "process_hash %.32q is not that of the process object, %s", hash, own))
	}
	var p wire.Process
	if err := json.Unmarshal(raw, &p); err != nil {
		return fail(reply.Errorf(http.StatusBadRequest, "read meta.process: %v", err))
	}
	p.Gatherer, p.State = cmp.Or(p.Gatherer, agentGatherer), cmp.Or(p.State, runningState)
	row, b, err := h.row(&p, instance, at)
	if err != nil {
		return fail(err)
	}
	row.LabelsHash = hash
	return known{hash: hash, service: row.Service, labels: row.Labels, gatherer: p.Gatherer, state: p.State}, row, b, nil
}

// maxWord bounds the names of gatherers and states, in bytes.
const maxWord = 32

// row makes what the catalogue keeps of p and of its build, which is nil where p does not say.
func (h *Handler) row(p *wire.Process, instance string, at int64) (*catalog.Process, *catalog.Build, error) {
	for _, word := range []string{p.Gatherer, p.State} {
		if len(word) > maxWord || word != "" && !profiles.ValidName(word) {
			return nil, nil, reply.Errorf(http.StatusUnprocessableEntity, "process: %.64q cannot name a gatherer or a state", word)
		}
	}
	ls, err := h.labels(p.Labels, instance)
	if err != nil {
		return nil, nil, err
	}
	row := &catalog.Process{Instance: instance, Service: ls.Get("service_name"), Labels: ls, Version: ls.Get("service_version"), BuildID: clip(p.Build, 128),
		GoVersion: clip(p.GoVersion, 256), Exe: clip(p.Exe, 4096), PID: p.PID, BootID: clip(p.BootID, 128), PIDNS: p.PIDNS, StartTicks: p.StartTicks,
		Host: ls.Get("host_name"), Gatherer: p.Gatherer, State: p.State, Reason: clip(p.Reason, 1024), Started: p.Started, FirstSeen: at, LastSeen: at,
		Conditions: clipConditions(p.Conditions)}
	if len(p.NSPIDs) <= 32 { // the kernel nests no deeper
		row.NSPIDs = p.NSPIDs
	}
	b := buildOf(p, at)
	if b != nil {
		row.BuildID = b.ID
	}
	return row, b, nil
}

// buildOf returns the build that p runs, or nil where it does not say.
func buildOf(p *wire.Process, at int64) *catalog.Build {
	b := &catalog.Build{ID: clip(p.GNUBuildID, 128), GNUBuildID: clip(p.GNUBuildID, 128), GoBuildID: clip(p.GoBuildID, 512), GoVersion: clip(p.GoVersion, 256),
		Info: p.BuildInfo, FirstSeen: at, Size: max(p.BinarySize, 0)}
	if p.Stripped == "yes" || p.Stripped == "no" {
		b.Stripped = p.Stripped
	}
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

// The limits of what is kept of a process's conditions: of more, the first by name.
const (
	maxConditions     = 128
	maxConditionName  = 160
	maxConditionValue = 4096
	maxConditionBytes = 32 << 10 // of all together
)

// clipConditions bounds what a process was started with.
func clipConditions(conditions map[string]string) map[string]string {
	if len(conditions) == 0 {
		return nil
	}
	out, bytes := make(map[string]string, min(len(conditions), maxConditions)), 0
	for _, name := range slices.Sorted(maps.Keys(conditions)) {
		value := strings.ToValidUTF8(clip(conditions[name], maxConditionValue), "")
		if bytes += len(name) + len(value); len(out) >= maxConditions || bytes > maxConditionBytes {
			break
		}
		if name != "" && len(name) <= maxConditionName && utf8.ValidString(name) {
			out[name] = value
		}
	}
	return out
}

// clip cuts s to n bytes: for descriptive fields, where a cut is better than a refusal.
func clip(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}
