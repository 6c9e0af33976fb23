package godebug

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-io/sonde/collector/series"
	"github.com/sonde-io/sonde/collector/wire"
)

// The times and bounds of following.
const (
	followEvery = time.Second
	globEvery   = 10 * time.Second
	// goneAfter is for how long a file is silent that no name leads to, until it is given up.
	goneAfter = 5 * time.Minute
	// maxFollowed bounds the files that are open at once.
	maxFollowed = 1000
	maxJournal  = 1000 // processes of one journal at once
)

// FollowersConfig configures Followers. Settings, Dir, Series and Lines are required.
type FollowersConfig struct {
	Settings Settings
	Dir      string // where positions are kept
	Host     string // the label host_name of what no process is known of
	Series   series.Appender
	Lines    wire.LinesSink
	Redact   func([]byte) []byte // of each line that is kept; nil: as they are

	Journalctl string // its command; "": journalctl
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	Every      time.Duration // between two looks at the files; 0: 1 s
}

// Followers read the traces in logs. A file that is there when Followers run for the first time is read from its end on, one that comes later from its begin. What cannot be handed over is
// tried again, and nothing more is read until then: the logs keep it.
type Followers struct {
	cfg FollowersConfig
	log *slog.Logger

	mu    sync.Mutex
	known []Known

	positions map[string]position // as they are in the file
	fresh     bool                // there was no file of positions
	files     map[string]*logFile // by path
	globbed   time.Time
	failed    map[string]string // by path: why it cannot be read, which is said once

	open  prometheus.Gauge
	bytes prometheus.Counter
	lines prometheus.Counter
	left  *prometheus.CounterVec
}

// NewFollowers returns Followers, or nil where the settings name no log.
func NewFollowers(cfg FollowersConfig) (*Followers, error) {
	if len(cfg.Settings.Files) == 0 {
		return nil, nil
	}
	if err := cfg.Settings.Validate(); err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cfg.Every = cmp.Or(cfg.Every, followEvery)
	cfg.Journalctl = cmp.Or(cfg.Journalctl, "journalctl")
	f := &Followers{cfg: cfg, log: cfg.Logger, files: map[string]*logFile{}, failed: map[string]string{},
		open:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "sonde_logs_files", Help: "Logs that are followed for GODEBUG traces."}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{Name: "sonde_logs_read_bytes_total", Help: "Bytes of logs that were read."}),
		lines: prometheus.NewCounter(prometheus.CounterOpts{Name: "sonde_logs_lines_total", Help: "Lines of GODEBUG traces that were found in logs."}),
		left:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sonde_logs_left_out_total", Help: "What was left out: lines of logs that are too long, lines of traces that did not fit, files beyond those that are followed at once, reads that failed."}, []string{"what"})}
	if cfg.Registerer != nil {
		cfg.Registerer.MustRegister(f.open, f.bytes, f.lines, f.left)
	}
	var err error
	if f.positions, err = loadPositions(cfg.Dir); err != nil {
		f.log.Warn("the positions in logs are lost: they are read from their ends on", "error", err)
		f.positions = map[string]position{}
	}
	f.fresh = len(f.positions) == 0
	return f, nil
}

// SetKnown says which processes there are, so that logs get the labels of their process. It is safe for concurrent use.
func (f *Followers) SetKnown(known []Known) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.known = known
}

func (f *Followers) processes() []Known {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.known
}

// Run follows until ctx is done.
func (f *Followers) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	for i := range f.cfg.Settings.Files {
		if set := &f.cfg.Settings.Files[i]; set.Format == FormatJournald {
			j := &journal{f: f, set: set, streams: map[int]*stream{}}
			j.cursor = f.positions[j.key()].Cursor
			wg.Go(func() { j.run(ctx) })
		}
	}
	defer func() {
		for _, l := range f.files {
			l.close()
		}
	}()
	t := time.NewTicker(f.cfg.Every)
	defer t.Stop()
	for {
		f.Round(ctx, time.Now())
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// Round looks at all files once.
func (f *Followers) Round(ctx context.Context, now time.Time) {
	if now.Sub(f.globbed) >= min(globEvery, 10*f.cfg.Every) {
		f.glob()
		f.globbed = now
	}
	changed := false
	for path, l := range f.files {
		if ctx.Err() != nil {
			return
		}
		if f.follow(ctx, l, now) {
			changed = true
		}
		if l.f == nil {
			delete(f.files, path)
		}
	}
	f.open.Set(float64(len(f.files)))
	if changed {
		f.save()
	}
}

// glob opens files that are new.
func (f *Followers) glob() {
	for i := range f.cfg.Settings.Files {
		set := &f.cfg.Settings.Files[i]
		if set.Format == FormatJournald {
			continue
		}
		paths, _ := filepath.Glob(set.Path) // the pattern is a good one
		for _, path := range paths {
			if f.files[path] != nil || f.follows(path) {
				continue
			}
			if len(f.files) >= maxFollowed {
				f.left.WithLabelValues("files").Inc()
				f.warn("", "too many logs: the rest are not followed", errors.New("max_followed_files: 1000"))
				return
			}
			f.start(set, path)
		}
	}
	f.fresh = false
}

// follows reports whether the file at path is followed by another name, that which it had before.
func (f *Followers) follows(path string) bool {
	info, err := os.Stat(path)
	if err != nil {
		return false
	}
	for _, l := range f.files {
		if l.f != nil && l.is(info) {
			return true
		}
	}
	return false
}

func (f *Followers) start(set *File, path string) {
	l := &logFile{path: path, format: set.Format}
	if l.format == FormatAuto {
		l.format = ""
	}
	l.s = newStream(set, path, originOf(path), f.cfg.Redact)
	p, known := f.position(path)
	switch {
	case known:
		l.s.restore(p)
		if !l.resume(p) {
			l.s.restore(position{})
			if err := l.open(path, 0); err != nil {
				f.warn(path, "cannot follow a log", err)
				return
			}
		}
	default:
		at := int64(0)
		if f.fresh {
			at = -1
		}
		if err := l.open(path, at); err != nil {
			f.warn(path, "cannot follow a log", err)
			return
		}
	}
	f.mu.Lock()
	delete(f.failed, path)
	f.mu.Unlock()
	f.files[path] = l
}

func (f *Followers) position(key string) (position, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p, ok := f.positions[key]
	return p, ok
}

// follow reads what a file has and hands it over, piece by piece; it reports whether its position changed. While what was read cannot be handed over nothing more is read.
func (f *Followers) follow(ctx context.Context, l *logFile, now time.Time) (changed bool) {
	if len(l.s.pending) > 0 && !f.hand(ctx, l.s) {
		return false
	}
	if l.s.rec.Sampler.Started == 0 {
		_, l.s.rec.Sampler.Started = l.s.labels(f.processes(), f.cfg.Host)
	}
	for more := true; more && ctx.Err() == nil; {
		var n int64
		var err error
		over := l.over(now.UnixMilli()) // before reading: what is written until then is read
		if n, more, err = l.read(now.UnixMilli()); err != nil {
			f.left.WithLabelValues("failed").Inc()
			f.warn(l.path, "cannot read a log", err)
			l.close()
			return changed
		}
		f.bytes.Add(float64(n))
		f.left.WithLabelValues("too_long").Add(float64(l.tooBig))
		l.tooBig = 0
		if !f.deliver(ctx, l.s, !more) {
			return changed
		}
		changed = f.keep(l) || changed
		if over && !more {
			if !f.next(l) {
				return true
			}
			more = true
		}
	}
	return f.keep(l) || changed
}

// keep notes how far a file was handed over, and reports whether that changed.
func (f *Followers) keep(l *logFile) bool {
	p := l.position()
	f.mu.Lock()
	defer f.mu.Unlock()
	changed := p != f.positions[l.path]
	f.positions[l.path] = p
	return changed
}

// next goes on with the file that took the place of l's. False: there is none.
func (f *Followers) next(l *logFile) bool {
	l.s.giveUp()
	old, at := l.renamed(), l.position()
	err := l.open(l.path, 0)
	f.mu.Lock()
	defer f.mu.Unlock()
	if matched, _ := filepath.Match(l.s.set.Path, old); matched { // it is not to be read again by its new name
		f.positions[old] = at
	}
	if err != nil {
		l.close()
		delete(f.positions, l.path)
		return false
	}
	return true
}

// deliver hands over what a stream gathered. flush: nothing more is there to be read for now.
func (f *Followers) deliver(ctx context.Context, s *stream, flush bool) bool {
	ls, _ := s.labels(f.processes(), f.cfg.Host)
	f.lines.Add(float64(s.take(ls, flush)))
	f.left.WithLabelValues("lines").Add(float64(s.rec.Dropped))
	s.rec.Dropped = 0
	return f.hand(ctx, s)
}

// hand hands over what is pending of a stream.
func (f *Followers) hand(ctx context.Context, s *stream) bool {
	if err := s.hand(ctx, f.cfg.Series, f.cfg.Lines); err != nil {
		if ctx.Err() == nil {
			f.warn(s.source, "cannot hand over what a log says; it is tried again", err)
		}
		return false
	}
	return true
}

// warn says once what is wrong with a log.
func (f *Followers) warn(path, text string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failed[path] == err.Error() {
		return
	}
	f.failed[path] = err.Error()
	f.log.Warn(text, "log", path, "error", err)
}

// save keeps the positions; those of files that are gone are forgotten.
func (f *Followers) save() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := savePositions(f.cfg.Dir, f.positions); err != nil {
		f.log.Warn("cannot keep the positions in logs", "error", err)
	}
}

// sortedPIDs is for a journal's streams: those silent for longest go first.
func sortedPIDs(m map[int]*stream) []int {
	pids := make([]int, 0, len(m))
	for pid := range m {
		pids = append(pids, pid)
	}
	slices.SortFunc(pids, func(a, b int) int { return cmp.Compare(m[a].at, m[b].at) })
	return pids
}
