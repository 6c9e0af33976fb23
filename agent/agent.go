package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sonde-io/sonde/agent/internal/pprofenc"
)

// Type is a kind of profile.
type Type string

// The kinds of profile that the agent takes.
const (
	CPU       Type = "cpu"
	Heap      Type = "heap"
	Goroutine Type = "goroutine"
	Mutex     Type = "mutex"
	Block     Type = "block"
	Wall      Type = "wall" // where goroutines are, running or not; only where it is asked for
)

// Agent profiles the program it lives in. Its methods are safe for concurrent use and on a nil Agent.
type Agent struct {
	cfg      Config
	instance string
	boundary string
	rec      *recorder // nil where the agent is disabled
	up       *uploader
	taker    *taker
	flightMu sync.Mutex
	flight   *flight // nil where there is none
	privacy  *privacy
	closing  chan struct{}
	recorded chan struct{} // closed when the recorder's goroutine has ended
	uploaded chan struct{} // closed when the uploader's has
	cancel   context.CancelFunc
	ctx      context.Context
	deadline *closeDeadline
	close    sync.Once
	closeErr error
	oldMutex int // the mutex fraction before ours
	stripped atomic.Uint64

	strippedBefore uint64 // what strippedInDo held at Start
	tokenFile      string

	mu          sync.Mutex
	info        *processInfo
	process     json.RawMessage
	processHash string
	sentHash    string // the process that a window already carries
	remote      *settings
	remoteRules []rule
	said        map[string]bool
	downSince   time.Time
	downSaid    time.Time
}

// Start begins to profile the program and returns at once. It never returns nil and never fails: what is wrong is reported to the
// logger and worked around. Call Close at the end, or the last window is lost.
func Start(cfg Config) *Agent { return start(cfg, effects{first: firstWindow, getenv: os.Getenv}) }

// effects are what tests replace.
type effects struct {
	first  time.Duration // length of the first window
	getenv func(string) string
	tune   func(*Config) // changes the settings after they were checked
}

func start(cfg Config, fx effects) *Agent {
	a := &Agent{said: map[string]bool{}, strippedBefore: strippedInDo.Load()}
	problems := cfg.resolve(fx.getenv)
	if fx.tune != nil {
		fx.tune(&cfg)
	}
	a.cfg = cfg
	var wrong []string
	a.privacy, wrong = newPrivacy(&a.cfg)
	problems = append(problems, wrong...)
	for _, p := range problems {
		a.say("setting "+p, "sonde agent: wrong setting", "problem", p)
	}
	if cfg.Disabled {
		return a
	}
	instance, problem := chooseInstance(fx.getenv, os.Getppid())
	if problem != "" {
		a.say(instanceVariable, "sonde agent: wrong setting", "problem", problem)
	}
	a.instance = instance
	a.boundary = "sonde-" + a.instance
	a.tokenFile = fx.getenv("SONDE_TOKEN_FILE")
	info, stripped := describeProcess(&a.cfg, fx.getenv)
	a.info = info
	a.stripped.Store(uint64(stripped))
	if err := a.encodeProcess(); err != nil {
		a.say("process", "sonde agent: off", "err", err)
		return a
	}
	if cfg.MutexFraction > 0 {
		a.oldMutex = runtime.SetMutexProfileFraction(cfg.MutexFraction)
	}
	if cfg.BlockRate > 0 {
		runtime.SetBlockProfileRate(cfg.BlockRate)
	}
	a.closing, a.recorded, a.uploaded = make(chan struct{}), make(chan struct{}), make(chan struct{})
	a.deadline = newCloseDeadline()
	a.ctx, a.cancel = a.deadline, a.deadline.cancel
	id := info.GNUBuildID
	if id == "" {
		id = info.GoBuildID
	}
	a.rec = newRecorder(a, pprofenc.Mapping{File: info.Exe, BuildID: id})
	a.up = newUploader(a, a.recorded)
	a.taker = newTaker(a)
	a.startFlight()
	a.rec.begin(time.Now(), fx.first)
	go a.record()
	go a.upload()
	return a
}

// record runs the recorder. A fault of the agent's is never the program's: it ends the agent.
func (a *Agent) record() {
	defer close(a.recorded)
	defer func() {
		if v := recover(); v != nil {
			a.say("panic", "sonde agent: stopped by its own fault", "panic", fmt.Sprint(v))
			a.rec.abandon()
		}
	}()
	a.rec.run(a.closing)
}

// upload runs the uploader.
func (a *Agent) upload() {
	defer close(a.uploaded)
	defer func() {
		if v := recover(); v != nil {
			a.say("panic", "sonde agent: stopped by its own fault", "panic", fmt.Sprint(v))
			a.rec.pause() // nobody is left to send what it records
		}
	}()
	a.up.run(a.ctx, a.closing)
}

// Close captures what the running window has of every type, tells the collector that the process ends, sends what waits, and ends the agent, all within CloseTimeout. Where nobody
// listens at the collector's address it gives up after the second refused connection instead. It returns an error where windows were left behind, and logs
// it unless the log says already that the collector cannot be reached. The heap's figures are those of the last finished garbage collection but one, as in every
// Go heap profile: what the program allocated since then is in no profile. A second Close returns what the first did.
func (a *Agent) Close() error {
	if a == nil || a.rec == nil {
		return nil
	}
	a.close.Do(func() { a.closeErr = a.shut() })
	return a.closeErr
}

func (a *Agent) shut() error {
	timer := time.NewTimer(a.cfg.CloseTimeout)
	defer timer.Stop()
	end := time.Now().Add(a.cfg.CloseTimeout)
	a.deadline.set(end)
	a.taker.stop(end)
	close(a.closing)
	late := false
	for _, done := range []chan struct{}{a.recorded, a.uploaded} {
		if late {
			break
		}
		select {
		case <-done:
		case <-timer.C:
			late = true
		}
	}
	a.cancel()
	// The requests are being cancelled and a capture takes milliseconds: a moment more leaves no goroutine behind.
	grace := time.NewTimer(time.Second)
	defer grace.Stop()
	for _, done := range []<-chan struct{}{a.uploaded, a.taker.over()} {
		select {
		case <-done:
		case <-grace.C:
		}
	}
	if a.cfg.ownClient() {
		a.up.client.CloseIdleConnections()
		a.taker.client.CloseIdleConnections()
	}
	a.stopFlight()
	if a.cfg.MutexFraction > 0 {
		runtime.SetMutexProfileFraction(a.oldMutex)
	}
	if a.cfg.BlockRate > 0 {
		runtime.SetBlockProfileRate(0)
	}
	if n := a.up.left(); n > 0 {
		err := fmt.Errorf("close agent: %d windows not sent within %v", n, a.cfg.CloseTimeout)
		if cause := a.up.gaveUp.Load(); cause != nil {
			err = fmt.Errorf("close agent: %d windows not sent: %w", n, *cause)
		}
		a.sayLeft(err)
		return err
	}
	if late {
		return fmt.Errorf("close agent: not done within %v", a.cfg.CloseTimeout)
	}
	return nil
}

// Pause stops all profiling before it returns, whatever the collector's settings say; the CPU profile is free for the program then.
// What the running window gathered is thrown away, what waits is still sent.
func (a *Agent) Pause() {
	if a != nil && a.rec != nil {
		a.rec.pause()
		a.taker.pause()
		a.stopFlight()
	}
}

// Resume ends a Pause with a new window. After Close it does nothing.
func (a *Agent) Resume() {
	if a != nil && a.rec != nil && !isClosed(a.closing) {
		a.startFlight()
		a.rec.resume(time.Now())
	}
}

// SetLabels adds labels to the process's, or replaces them, from the window after this one on. An empty value takes a label away. service_name stays.
func (a *Agent) SetLabels(labels map[string]string) {
	if a == nil || a.rec == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	m := &labelMap{labels: maps.Clone(a.info.Labels)}
	set := map[string]string{}
	for name, value := range labels {
		switch clean := labelName(name); {
		case clean == "service_name":
		case value == "":
			delete(m.labels, clean)
		default:
			set[name] = value
		}
	}
	m.add(set, slices.Sorted(maps.Keys(set)))
	m.mark()
	a.stripped.Add(uint64(m.stripped))
	a.info.Labels = m.labels
	if err := a.encodeProcess(); err != nil {
		a.sayLocked("process", "sonde agent: labels not taken over", "err", err)
	}
}

// shown returns the process as it may be shown. The caller holds mu, or is Start.
func (a *Agent) shown() processInfo {
	info := *a.info
	a.privacy.process(&info)
	return info
}

// ended returns the event of the agent's end.
func (a *Agent) ended(at time.Time) event {
	a.mu.Lock()
	defer a.mu.Unlock()
	info := a.shown()
	return info.ended(a.instance, at)
}

// encodeProcess makes the process object that the next window carries. The caller holds mu, or is Start.
func (a *Agent) encodeProcess() error {
	info := a.shown()
	raw, hash, err := info.encode()
	if err == nil {
		a.process, a.processHash = raw, hash
	}
	return err
}

// token returns the bearer token. The file is read each time, so that a rotated token is taken up.
func (a *Agent) token() string {
	if a.cfg.Token != "" {
		return a.cfg.Token
	}
	if a.tokenFile == "" {
		return ""
	}
	b, err := os.ReadFile(a.tokenFile)
	if err != nil {
		a.say("token", "sonde agent: no token", "err", err)
		return ""
	}
	return strings.TrimSpace(string(b))
}
