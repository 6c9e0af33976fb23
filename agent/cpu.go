package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/pprof"
	"strconv"
	"sync"
	"time"

	"github.com/sonde-io/sonde/agent/internal/pprofmerge"
)

// errBusy says that somebody called runtime/pprof past the agent.
var errBusy = errors.New("the program takes its own CPU profile")

// cpuHub shares the one CPU profile that the runtime can take between the agents of the program and whoever calls
// StartCPUProfile or CPUHandler. Each of them is a tap. When a tap opens, takes or closes, the running profile is cut: the piece goes to every
// open tap, and the next piece starts at once. So the agent's windows go on while the program profiles itself, and each gets all
// samples of its own interval, except for the moment of the cut, which costs neither more than a few milliseconds (up to 0.2 s before Go 1.25).
type cpuHub struct {
	mu      sync.Mutex
	taps    map[*cpuTap]struct{}
	running bool
	buf     bytes.Buffer // the runtime writes the running piece here when it is cut
	began   time.Time    // of the running piece
	start   func(io.Writer) error
	stop    func()
}

// cpu is the program's hub.
var cpu = &cpuHub{start: pprof.StartCPUProfile, stop: pprof.StopCPUProfile}

// cpuTap is one user of the hub.
type cpuTap struct {
	pieces [][]byte // gzipped profiles
	from   time.Time
	to     time.Time
	busy   bool // for a while nothing could be profiled
}

// open adds a tap. It fails where the runtime's profile is taken by somebody else, and the tap is then not added.
func (h *cpuHub) open() (*cpuTap, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cut()
	if err := h.restart(); err != nil {
		h.setBusy()
		return nil, err
	}
	t := &cpuTap{}
	if h.taps == nil {
		h.taps = map[*cpuTap]struct{}{}
	}
	h.taps[t] = struct{}{}
	return t, nil
}

// take returns what the tap gathered since it opened or since the last take. The profiling goes on; where it cannot, the tap's
// next cpuPiece says busy, and revive tries again.
func (h *cpuHub) take(t *cpuTap) cpuPiece {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cut()
	p := t.piece()
	if h.restart() != nil {
		h.setBusy()
	}
	return p
}

// revive starts profiling again where it was found busy, and reports whether it runs.
func (h *cpuHub) revive() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.running || h.restart() == nil
}

// close removes the tap and returns what it gathered. Closing a tap twice returns nothing the second time.
func (h *cpuHub) close(t *cpuTap) cpuPiece {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.taps[t]; !ok {
		return cpuPiece{}
	}
	h.cut()
	delete(h.taps, t)
	if len(h.taps) > 0 && h.restart() != nil {
		h.setBusy()
	}
	return t.piece()
}

// cut stops the running piece and hands it to every tap.
func (h *cpuHub) cut() {
	if !h.running {
		return
	}
	end := time.Now()
	h.stop()
	h.running = false
	if len(h.taps) > 0 {
		piece := bytes.Clone(h.buf.Bytes()) // taps share it and never write to it
		for t := range h.taps {
			t.pieces = append(t.pieces, piece)
			if t.from.IsZero() {
				t.from = h.began
			}
			t.to = end
		}
	}
	h.buf.Reset()
	if h.buf.Cap() > keepBytes {
		h.buf = bytes.Buffer{}
	}
}

// restart starts the next piece.
func (h *cpuHub) restart() error {
	if err := h.start(&h.buf); err != nil {
		return errBusy
	}
	h.running, h.began = true, time.Now()
	return nil
}

func (h *cpuHub) setBusy() {
	for t := range h.taps {
		t.busy = true
	}
}

// cpuPiece is what a tap gathered over an interval.
type cpuPiece struct {
	pieces   [][]byte
	from, to time.Time
	busy     bool
}

func (t *cpuTap) piece() cpuPiece {
	p := cpuPiece{t.pieces, t.from, t.to, t.busy}
	*t = cpuTap{}
	return p
}

// profile returns the piece as one gzipped profile; nil where there is nothing.
func (p cpuPiece) profile() ([]byte, error) {
	switch len(p.pieces) {
	case 0:
		return nil, nil
	case 1:
		return p.pieces[0], nil
	}
	var m pprofmerge.Merger
	for _, gz := range p.pieces {
		raw, err := unzip(gz)
		if err != nil {
			return nil, err
		}
		if err := m.Add(raw); err != nil {
			return nil, fmt.Errorf("join cpu profile: %w", err)
		}
	}
	return zipMerged(&m)
}

// own is the profile that the program takes itself with StartCPUProfile.
var own struct {
	sync.Mutex
	tap *cpuTap
	w   io.Writer
}

// StartCPUProfile is runtime/pprof's for a program with an agent: both share the profile that runs, so neither finds it in use. It
// fails where a StartCPUProfile has not been stopped yet, or where the program calls runtime/pprof's own beside it. The profile is
// written to w by StopCPUProfile. Without an agent it works as well.
func StartCPUProfile(w io.Writer) error {
	own.Lock()
	defer own.Unlock()
	if own.tap != nil {
		return errors.New("start cpu profile: already in use by another StartCPUProfile")
	}
	t, err := cpu.open()
	if err != nil {
		return fmt.Errorf("start cpu profile: %w", err)
	}
	own.tap, own.w = t, w
	return nil
}

// StopCPUProfile ends what StartCPUProfile started and writes the profile; without one it does nothing. It returns the error of the writer.
func StopCPUProfile() error {
	own.Lock()
	defer own.Unlock()
	if own.tap == nil {
		return nil
	}
	piece := cpu.close(own.tap)
	w := own.w
	own.tap, own.w = nil, nil
	p, err := piece.profile()
	if err != nil {
		return err
	}
	if _, err := w.Write(p); err != nil {
		return fmt.Errorf("write cpu profile: %w", err)
	}
	return nil
}

// maxHandlerSeconds bounds what a request of CPUHandler may ask for.
const maxHandlerSeconds = 3600

// CPUHandler returns a handler for /debug/pprof/profile?seconds=30 that shares the agent's running profile, for any number of
// requests at once. net/http/pprof's own answers "already in use" while the agent profiles.
func CPUHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seconds := 30.0
		if s := r.FormValue("seconds"); s != "" {
			v, err := strconv.ParseFloat(s, 64)
			if err != nil || !(v > 0 && v <= maxHandlerSeconds) {
				http.Error(w, fmt.Sprintf("seconds=%q: want a number above 0, at most %d", s, maxHandlerSeconds), http.StatusBadRequest)
				return
			}
			seconds = v
		}
		w.Header().Set("X-Content-Type-Options", "nosniff")
		t, err := cpu.open()
		if err != nil {
			http.Error(w, "Could not enable CPU profiling: "+err.Error(), http.StatusInternalServerError)
			return
		}
		timer := time.NewTimer(time.Duration(seconds * float64(time.Second)))
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
		}
		p, err := cpu.close(t).profile()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Disposition", `attachment; filename="profile"`)
		_, _ = w.Write(p) // the client went away: nobody is left to tell
	})
}
