package functions

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-io/sonde/symbols/binaries"
	"github.com/sonde-io/sonde/symbols/pclntab"
)

// What a Sender keeps to.
const (
	askEvery    = time.Hour        // whether the collector still knows a build
	gonePause   = 5 * time.Minute  // before a binary that could not be read is tried again
	minPause    = time.Second      // after a failure; it doubles
	maxPause    = 10 * time.Minute // also what the collector may ask for
	requestTime = time.Minute      // for a question, and for a list to arrive
	maxAsked    = 1000             // builds in one question, as the collector takes them
	maxBuilds   = 4096             // builds that are remembered
	maxAnswer   = 256 << 10        // bytes of an answer
)

// Source makes lists of functions; *binaries.Store is one.
type Source interface {
	FunctionList(ctx context.Context, id string) (*os.File, error)
}

// Config configures a Sender. URL, Client and Source are required.
type Config struct {
	URL        string // the root of the collector's
	Client     *http.Client
	Source     Source
	Spread     time.Duration // each request waits a part of it by chance; 0: 10 s
	UserAgent  string
	Logger     *slog.Logger          // nil: discard
	Registerer prometheus.Registerer // nil: no metrics
}

// Sender sends the lists of functions that a collector does not have. Make one with New.
type Sender struct {
	cfg  Config
	wake chan struct{} // builds were set

	mu     sync.Mutex
	builds []string // that run here
	next   map[string]time.Time
	never  map[string]bool // of which no list can be made, or taken

	sent     prometheus.Counter
	failures prometheus.Counter
	refused  prometheus.Counter
}

// New returns a Sender.
func New(cfg Config) *Sender {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cfg.Spread = cmp.Or(cfg.Spread, 10*time.Second)
	s := &Sender{cfg: cfg, wake: make(chan struct{}, 1), next: map[string]time.Time{}, never: map[string]bool{}}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	s.sent = counter("sonde_functions_sent_total", "Lists of the functions of binaries that the upstream took.")
	s.failures = counter("sonde_functions_failures_total", "Questions and lists of functions that did not arrive, and are tried again.")
	s.refused = counter("sonde_functions_refused_total", "Builds whose functions the upstream will not know: their binary passes a limit or cannot be read, or it refused the list.")
	if cfg.Registerer != nil {
		cfg.Registerer.MustRegister(s.sent, s.failures, s.refused)
	}
	return s
}

// SetBuilds says which builds run here. Beyond the first 4096 they are left out.
func (s *Sender) SetBuilds(ids []string) {
	ids = slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return binaries.CheckBuildID(id) != nil })
	slices.Sort(ids)
	ids = ids[:min(len(ids), maxBuilds)]
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.Equal(ids, s.builds) {
		return
	}
	s.builds = ids
	select {
	case s.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// due returns the builds that the collector is to be asked for now, and how long there is nothing to do otherwise.
func (s *Sender) due(now time.Time) (ids []string, wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	wait = askEvery
	for _, id := range s.builds {
		switch at := s.next[id]; {
		case s.never[id]:
		case at.After(now):
			wait = min(wait, at.Sub(now))
		case len(ids) < maxAsked:
			ids = append(ids, id)
		}
	}
	return ids, wait
}

// later says when a build is asked for again.
func (s *Sender) later(id string, pause time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.next) >= 2*maxBuilds { // of builds of long ago
		clear(s.next)
	}
	s.next[id] = time.Now().Add(pause)
}

// GiveUp notes, counts and says once that no list of a build can be had.
func (s *Sender) GiveUp(id string, err error) {
	s.mu.Lock()
	if s.never[id] {
		s.mu.Unlock()
		return
	}
	if len(s.never) >= maxBuilds {
		clear(s.never)
	}
	s.never[id] = true
	s.mu.Unlock()
	s.refused.Inc()
	s.cfg.Logger.Warn("the functions of a binary cannot be sent: whether a vulnerable one is in it stays unknown", "build", id, "error", err)
}

// Run asks and sends until ctx ends.
func (s *Sender) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	failures := 0
	for {
		ids, wait := s.due(time.Now())
		wake := s.wake
		if len(ids) > 0 {
			wait, wake = rand.N(s.cfg.Spread), nil
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return nil
		case <-wake:
			continue
		case <-timer.C:
		}
		if len(ids) == 0 {
			continue
		}
		err := s.round(ctx, ids)
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			failures = 0
			continue
		}
		failures++
		s.failures.Inc()
		if failures == 1 {
			s.cfg.Logger.Warn("cannot tell the upstream which functions are in binaries; it is tried again", "error", err)
		}
		timer.Reset(pause(failures, err))
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
	}
}

// pause is how long to wait after so many failures in a row: up to a bound that doubles, and after what the collector asked for.
func pause(failures int, err error) time.Duration {
	bound := min(minPause<<min(failures-1, 20), maxPause)
	var asked time.Duration
	if a, ok := errors.AsType[*answerError](err); ok {
		asked = a.after
	}
	return asked + rand.N(bound)
}

// round asks which builds the collector does not know, and sends the functions of the first of them: others may send the next ones meanwhile.
func (s *Sender) round(ctx context.Context, ids []string) error {
	missing, err := s.ask(ctx, ids)
	if err != nil {
		return fmt.Errorf("ask which functions are missing: %w", err)
	}
	for _, id := range ids {
		if !slices.Contains(missing, id) {
			s.later(id, askEvery-rand.N(askEvery/10))
		}
	}
	for _, id := range missing {
		if !slices.Contains(ids, id) {
			continue // nobody asked
		}
		switch sent, err := s.send(ctx, id); {
		case err != nil:
			return fmt.Errorf("send functions of build %s: %w", id, err)
		case sent:
			return nil
		}
	}
	return nil
}

// ask returns which of some builds the collector knows nothing of.
func (s *Sender) ask(ctx context.Context, ids []string) (missing []string, err error) {
	body, err := json.Marshal(ids)
	if err != nil {
		return nil, err
	}
	raw, err := s.do(ctx, http.MethodPost, "/api/v1/binaries/functions/missing", "application/json", bytes.NewReader(body), int64(len(body)))
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(raw, &missing); err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	return missing, nil
}

// send sends the functions of a build, and reports whether it did: if not, and there is no error, they cannot be had now or at all.
func (s *Sender) send(ctx context.Context, id string) (sent bool, err error) {
	f, err := s.cfg.Source.FunctionList(ctx, id)
	switch {
	case err == nil:
		defer f.Close()
	case hopeless(err):
		s.GiveUp(id, err)
		return false, nil
	case errors.Is(err, os.ErrNotExist): // its process ended; another may begin
		s.later(id, gonePause)
		return false, nil
	default:
		return false, err
	}
	st, err := f.Stat()
	if err != nil {
		return false, err
	}
	_, err = s.do(ctx, http.MethodPut, "/api/v1/binaries/functions?build="+url.QueryEscape(id), "application/octet-stream", f, st.Size())
	if a, ok := errors.AsType[*answerError](err); ok && a.final() {
		s.GiveUp(id, err)
		return true, nil
	}
	if err != nil {
		return false, err
	}
	s.sent.Inc()
	s.later(id, askEvery-rand.N(askEvery/10))
	return true, nil
}

// hopeless reports whether the functions of a binary can never be listed.
func hopeless(err error) bool {
	_, limit := errors.AsType[*binaries.LimitError](err)
	return limit || errors.Is(err, pclntab.ErrVersion) || errors.Is(err, pclntab.ErrNotGo) || errors.Is(err, pclntab.ErrDamaged) || errors.Is(err, binaries.ErrBadList) ||
		errors.Is(err, binaries.ErrBuildID)
}

// answerError is an answer other than 200.
type answerError struct {
	status int
	after  time.Duration // Retry-After
	text   string
}

func (e *answerError) Error() string {
	return fmt.Sprintf("the upstream answered %d: %.300s", e.status, e.text)
}

// final reports whether the list itself is refused.
func (e *answerError) final() bool {
	switch e.status {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity:
		return true
	}
	return false
}

// do makes a request and returns the answer to it.
func (s *Sender) do(ctx context.Context, method, path, contentType string, body io.Reader, size int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(s.cfg.URL, "/")+path, io.NopCloser(body))
	if err != nil {
		return nil, err
	}
	req.ContentLength = size
	req.Header.Set("Content-Type", contentType)
	if s.cfg.UserAgent != "" {
		req.Header.Set("User-Agent", s.cfg.UserAgent)
	}
	resp, err := s.cfg.Client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if resp.StatusCode != http.StatusOK {
		e := &answerError{status: resp.StatusCode, text: string(bytes.TrimSpace(raw))}
		if n, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && n > 0 {
			e.after = min(time.Duration(min(n, 1<<20))*time.Second, maxPause)
		}
		return nil, e
	}
	return raw, err
}
