package functions

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sonde-io/sonde/symbols/binaries"
	"github.com/sonde-io/sonde/symbols/pclntab"
)

const buildA, buildB, buildC = "aaaaaaaa", "bbbbbbbb", "cccccccc"

// fake is a collector and the binaries of a machine. It answers in the bubble of a test.
type fake struct {
	dir    string
	errs   map[string]error // of the binaries
	mu     sync.Mutex
	has    map[string]string // what the collector has
	status int               // what it answers; 0: what is asked
	after  string            // Retry-After
	asked  []time.Time
	made   []string
	log    bytes.Buffer
}

func newFake(t *testing.T) *fake {
	return &fake{dir: t.TempDir(), errs: map[string]error{}, has: map[string]string{}}
}

func (f *fake) FunctionList(_ context.Context, id string) (*os.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.made = append(f.made, id)
	if err := f.errs[id]; err != nil {
		return nil, err
	}
	path := filepath.Join(f.dir, id)
	if err := os.WriteFile(path, []byte("functions of "+id), 0o600); err != nil {
		return nil, err
	}
	return os.Open(path)
}

func (f *fake) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	f.serve(w, r)
	return w.Result(), nil
}

func (f *fake) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, time.Now())
	switch {
	case f.status != 0 && (f.status >= 500 || r.Method == http.MethodPut):
		w.Header().Set("Retry-After", f.after)
		http.Error(w, "no", f.status)
	case r.Method+" "+r.URL.Path == "POST /api/v1/binaries/functions/missing":
		var ids []string
		if err := json.Unmarshal(body, &ids); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		ids = slices.DeleteFunc(ids, func(id string) bool { return f.has[id] != "" })
		if err := json.NewEncoder(w).Encode(append(ids, "dddddddd")); err != nil { // and one that nobody asked for
			panic(err)
		}
	case r.Method+" "+r.URL.Path == "PUT /api/v1/binaries/functions" && r.ContentLength == int64(len(body)):
		f.has[r.URL.Query().Get("build")] = string(body)
	default:
		http.NotFound(w, r)
	}
}

// with runs a Sender to the end of what do does.
func (f *fake) with(t *testing.T, do func(t *testing.T, s *Sender)) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := New(Config{URL: "http://collector/", Client: &http.Client{Transport: f}, Source: f, Logger: slog.New(slog.NewTextHandler(&f.log, nil))})
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		do(t, s)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// wait lets time pass.
func wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (f *fake) lock(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
}

func TestSends(t *testing.T) {
	f := newFake(t)
	f.has[buildB] = "known"
	f.with(t, func(t *testing.T, s *Sender) {
		s.SetBuilds([]string{buildC, buildA, buildB, "not a build"})
		wait(time.Minute)
		f.lock(func() {
			if f.has[buildA] != "functions of "+buildA || f.has[buildC] != "functions of "+buildC || f.has[buildB] != "known" || len(f.has) != 3 || len(f.made) != 2 {
				t.Errorf("the collector has %v, made of %v", f.has, f.made)
			}
			f.asked = nil
		})
		wait(30 * time.Minute)
		s.SetBuilds([]string{buildA, buildB, buildC}) // the same ones
		wait(time.Minute)
		f.lock(func() {
			if len(f.asked) != 0 {
				t.Errorf("asked again at %v", f.asked)
			}
			delete(f.has, buildA) // the collector lost it
		})
		wait(31 * time.Minute)
		f.lock(func() {
			if f.has[buildA] == "" {
				t.Error("what the collector lost did not come again within the hour")
			}
		})
		if got := testutil.ToFloat64(s.sent); got != 3 {
			t.Errorf("%v are counted as sent, want 3", got)
		}
	})
}

// TestGivesUp logs and counts once what cannot be listed or is refused, and sends the others.
func TestGivesUp(t *testing.T) {
	for name, c := range map[string]struct {
		err    error
		status int
	}{
		"a limit":              {&binaries.LimitError{Limit: "max_functions", Max: 1}, 0},
		"an unknown version":   {pclntab.ErrVersion, 0},
		"no Go program":        {pclntab.ErrNotGo, 0},
		"refused by collector": {nil, http.StatusUnprocessableEntity},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.errs[buildA], f.status = c.err, c.status
			f.with(t, func(t *testing.T, s *Sender) {
				s.SetBuilds([]string{buildA})
				wait(time.Minute)
				f.lock(func() { f.status = 0 })
				s.SetBuilds([]string{buildA, buildB})
				wait(3 * time.Hour)
				f.lock(func() {
					if f.has[buildA] != "" || f.has[buildB] == "" {
						t.Errorf("the collector has %v", f.has)
					}
				})
				s.GiveUp(buildA, binaries.ErrTooLarge) // also by who sees the file
				if got := testutil.ToFloat64(s.refused); got != 1 || testutil.ToFloat64(s.failures) != 0 {
					t.Errorf("%v are counted as refused, want 1", got)
				}
			})
			if n := strings.Count(f.log.String(), "cannot be sent"); n != 1 || !strings.Contains(f.log.String(), buildA) {
				t.Errorf("said %d times: %s", n, &f.log)
			}
		})
	}
}

// TestGone tries a binary whose process ended again, but seldom.
func TestGone(t *testing.T) {
	f := newFake(t)
	f.errs[buildA] = os.ErrNotExist
	f.with(t, func(t *testing.T, s *Sender) {
		s.SetBuilds([]string{buildA})
		wait(time.Hour)
		f.lock(func() {
			if n := len(f.made); n < 5 || n > 13 {
				t.Errorf("tried %d times in an hour, want about 12", n)
			}
			f.errs[buildA] = nil
		})
		wait(10 * time.Minute)
		f.lock(func() {
			if f.has[buildA] == "" {
				t.Error("not sent once it was there")
			}
		})
		s.SetBuilds(nil)
		f.lock(func() { f.asked = nil })
		wait(5 * time.Hour)
		f.lock(func() {
			if len(f.asked) != 0 {
				t.Errorf("asked %d times of nothing", len(f.asked))
			}
		})
	})
}

// TestBacksOff waits longer after each failure, and as the collector asks, and makes up for it.
func TestBacksOff(t *testing.T) {
	for status, after := range map[int]string{http.StatusServiceUnavailable: "", http.StatusTooManyRequests: "300"} {
		f := newFake(t)
		f.status, f.after = status, after
		f.errs[buildB] = errors.New("disk full")
		f.with(t, func(t *testing.T, s *Sender) {
			s.SetBuilds([]string{buildA, buildB})
			wait(10 * time.Hour)
			f.lock(func() {
				if n := len(f.asked); n < 20 || n > 700 {
					t.Errorf("%d: %d requests in ten hours", status, n)
				}
				f.status = 0
				delete(f.errs, buildB)
			})
			wait(time.Hour)
			f.lock(func() {
				if len(f.has) != 2 {
					t.Errorf("%d: afterwards the collector has %v", status, f.has)
				}
			})
			if testutil.ToFloat64(s.failures) < 10 || testutil.ToFloat64(s.refused) != 0 {
				t.Errorf("%d: failures %v", status, testutil.ToFloat64(s.failures))
			}
		})
		if n := strings.Count(f.log.String(), "it is tried again"); n != 1 {
			t.Errorf("%d: said %d times", status, n)
		}
	}
}

// TestManyBuilds asks in pieces as large as the collector takes them.
func TestManyBuilds(t *testing.T) {
	s := New(Config{})
	ids := make([]string, 2*maxBuilds)
	for i := range ids {
		ids[i] = hexOf(i)
	}
	s.SetBuilds(ids)
	due, _ := s.due(time.Now())
	if len(s.builds) != maxBuilds || len(due) != maxAsked {
		t.Errorf("%d builds, %d asked for", len(s.builds), len(due))
	}
	for _, id := range due {
		s.later(id, time.Hour)
	}
	again, _ := s.due(time.Now())
	if len(again) != maxAsked || again[0] == due[0] {
		t.Errorf("then %d, from %s", len(again), again[0])
	}
	for i := range 5 * maxBuilds {
		s.later(hexOf(i), time.Hour)
	}
	if len(s.next) > 2*maxBuilds {
		t.Errorf("%d builds are remembered", len(s.next))
	}
}

func hexOf(i int) string { return fmt.Sprintf("%08x", i) }
