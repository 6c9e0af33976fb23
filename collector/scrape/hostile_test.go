package scrape

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles"
	"github.com/sonde-io/sonde/profiles/store"
)

func total(t *testing.T, body []byte, column string) (sum int64) {
	t.Helper()
	p, err := profiles.Parse(body, profiles.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for c, ty := range p.SampleTypes {
		if ty.Type == column {
			for i := range p.Samples {
				sum += p.Row(i)[c]
			}
		}
	}
	return sum
}

// bomb is a gzipped answer of n zero bytes.
func bomb(n int64) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	io.CopyN(w, zeros{}, n)
	w.Close()
	return b.Bytes()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// requests counts what a server was asked.
type requests struct {
	mu sync.Mutex
	n  map[string]int
}

func (r *requests) count(path string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.n[path]
}

func serve(t *testing.T, h http.HandlerFunc) (base string, asked *requests) {
	t.Helper()
	asked = &requests{n: map[string]int{}}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.mu.Lock()
		asked.n[r.URL.Path]++
		asked.mu.Unlock()
		h(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL, asked
}

func TestTargetsThatMisbehave(t *testing.T) {
	large, other := bomb(10<<20), goroutineProfile(t)
	for _, tt := range []struct {
		name   string
		answer http.HandlerFunc
		want   string // in LastError
		state  string
	}{
		{"endless", func(w http.ResponseWriter, r *http.Request) { io.Copy(w, zeros{}) },
			"answer is larger than 100000 bytes", "profiling"},
		{"bomb", func(w http.ResponseWriter, r *http.Request) { w.Write(large) },
			"max_decompressed_bytes", "profiling"},
		{"no profile", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "<html>welcome</html>") },
			"scrape heap: ", "profiling"},
		{"nothing", func(w http.ResponseWriter, r *http.Request) {},
			"scrape heap: ", "profiling"},
		{"another error", func(w http.ResponseWriter, r *http.Request) { http.Error(w, "out of coffee\nsecret", 500) },
			`answered 500 Internal Server Error: "out of coffee"`, "profiling"},
		{"redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://192.0.2.1/", http.StatusFound)
		},
			`redirects are not followed`, "profiling"},
		{"never answers", func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
			"no whole answer within 300ms", "failing"},
		{"stops in the middle", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "1000")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}, "no whole answer within 300ms", "profiling"},
		{"hangs up", func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) },
			"EOF", "failing"},
		{"another type", func(w http.ResponseWriter, r *http.Request) { w.Write(other) },
			"it has no column inuse_space", "profiling"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			base, _ := serve(t, tt.answer)
			sink := newMemory()
			cfg := quick(sink)
			cfg.CPUDuration, cfg.MaxBody, cfg.MaxDecoded = -1, 100_000, 1<<20
			if strings.Contains(tt.want, "300ms") {
				cfg.Timeout = 300 * time.Millisecond
			}
			m, stop := run(t, cfg, Target{Service: "cart", URL: base, Types: []string{"heap"}})
			until(t, "an error", func() bool { return only(m).LastError != "" })
			if st := only(m); !strings.Contains(st.LastError, tt.want) || st.State != tt.state || strings.Contains(st.LastError, "secret") {
				t.Errorf("state %s, error %q; want %s, %q", st.State, st.LastError, tt.state, tt.want)
			}
			stop()
			if len(sink.keys) > 0 {
				t.Errorf("%d pushes of a target without a profile", len(sink.keys))
			}
		})
	}
}

func goroutineProfile(t *testing.T) []byte { return profileOf(t, "goroutine", 0) }

// profileOf makes a profile of one sample with the value 7.
func profileOf(t *testing.T, column string, length time.Duration) []byte {
	t.Helper()
	p := &profiles.Profile{
		DurationNanos: int64(length),
		SampleTypes:   []profiles.ValueType{{Type: column, Unit: "count"}},
		Samples:       []profiles.Sample{{Locations: profiles.Span{Hi: 1}}},
		LocationIDs:   []uint32{0}, Values: []int64{7},
		Locations: []profiles.Location{{Address: 0x1000, Lines: profiles.Span{Hi: 1}}},
		Lines:     []profiles.Line{{}}, Functions: []profiles.Function{{Name: "main.work"}},
	}
	var b bytes.Buffer
	if err := profiles.WriteProfile(&b, p); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestMissingTypesAreAskedForOnce(t *testing.T) {
	base, asked := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/goroutine" {
			http.NotFound(w, r)
			return
		}
		w.Write(goroutineProfile(t))
	})
	sink := newMemory()
	m, stop := run(t, quick(sink), Target{Service: "cart", URL: base})
	until(t, "many rounds and a turn for the CPU profile", func() bool { return asked.count("/goroutine") > 5 && asked.count("/profile") > 0 })
	st := only(m)
	stop()
	for _, path := range []string{"/heap", "/mutex", "/block", "/profile"} {
		if n := asked.count(path); n != 1 {
			t.Errorf("%s was asked for %d times, want 1", path, n)
		}
	}
	if len(st.Missing) != 4 || st.LastError != "" || st.State != "profiling" {
		t.Errorf("status %+v", st)
	}
	if s := sink.of("goroutine")[0]; s.sums["goroutine"] != 7 {
		t.Errorf("a gauge of %d, want the 7 that were captured", s.sums["goroutine"])
	}
}

func TestUserAgentNamesSonde(t *testing.T) {
	got := make(chan string, 1)
	base, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		select {
		case got <- r.UserAgent():
		default:
		}
		http.NotFound(w, r)
	})
	_, stop := run(t, quick(newMemory()), Target{Service: "cart", URL: base})
	if ua := <-got; ua != "Sonde/1.2.3 (+https://github.com/sonde-io/sonde)" {
		t.Errorf("User-Agent %q", ua)
	}
	stop()
}

func TestGopsProtocol(t *testing.T) {
	for _, tt := range []struct {
		name   string
		typ    string
		answer func(conn net.Conn, command byte)
		want   error
		text   string
	}{
		{"heap", "heap", func(c net.Conn, b byte) { c.Write([]byte{b, 'h'}) }, nil, "\x05h"},
		{"cpu", "cpu", func(c net.Conn, b byte) { c.Write([]byte{b, 'c'}) }, nil, "\x06c"},
		{"goroutine", "goroutine", func(c net.Conn, b byte) {}, errNotServed, ""},
		{"nothing", "heap", func(c net.Conn, b byte) {}, errors.New("the gops agent sent nothing"), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				b := make([]byte, 1)
				if _, err := io.ReadFull(conn, b); err == nil {
					tt.answer(conn, b[0])
				}
			}()
			f := newFetcher(Config{Timeout: 5 * time.Second, MaxBody: 1000})
			defer f.close()
			body, err := f.get(context.Background(), &Target{GopsAddr: l.Addr().String()}, tt.typ, 0)
			if string(body) != tt.text || (err == nil) != (tt.want == nil) || err != nil && err.Error() != tt.want.Error() {
				t.Errorf("%q, error %v; want %q, %v", body, err, tt.text, tt.want)
			}
		})
	}
}

// TestGopsRival: an agent whose program is being profiled already leaves the connection open and says nothing.
func TestGopsRival(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f := newFetcher(Config{Timeout: time.Second, MaxBody: 1000})
	defer f.close()
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if _, err := f.gops(ctx, &Target{GopsAddr: l.Addr().String()}, "cpu"); !errors.Is(err, errRival) {
		t.Errorf("error %v, want a rival", err)
	}
}

func TestAppendRetriesWithTheSameKey(t *testing.T) {
	down := errors.New("disk is full")
	for _, tt := range []struct {
		name     string
		fail     func(try int, k catalog.Key) error
		windows  []uint64 // of the attempts
		profiles uint64
		gaps     uint64
	}{
		{"twice down", func(try int, _ catalog.Key) error {
			if try <= 2 {
				return down
			}
			return nil
		}, []uint64{1, 1, 1, 2}, 2, 0},
		{"the answer was lost", func(try int, _ catalog.Key) error {
			switch try {
			case 1:
				return down
			case 2:
				return &catalog.DuplicateError{}
			}
			return nil
		}, []uint64{1, 1, 2}, 2, 0},
		{"down for window 1", func(_ int, k catalog.Key) error {
			if k.Window == 1 {
				return down
			}
			return nil
		}, []uint64{1, 1, 1, 1, 2}, 1, 1},
		{"over a limit", func(_ int, k catalog.Key) error {
			if k.Window == 1 {
				return &store.LimitError{Limit: "max_series_per_service", What: "too many"}
			}
			return nil
		}, []uint64{1, 2}, 1, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sink := newMemory()
				sink.fail = tt.fail
				m, err := New(Config{Sink: sink})
				if err != nil {
					t.Fatal(err)
				}
				target := Target{Service: "cart", URL: "http://127.0.0.1:1"}
				if err := target.normalize(""); err != nil {
					t.Fatal(err)
				}
				l := newLoop(m, target, true)
				for i := range 2 {
					l.append(t.Context(), []store.Profile{{Type: "cpu", Start: int64(i), End: int64(i + 1), Data: &profiles.Profile{}}})
				}
				var windows []uint64
				for _, k := range sink.keys {
					windows = append(windows, k.Window)
				}
				st := l.status()
				if !equal(windows, tt.windows) || st.Profiles != tt.profiles || st.Gaps != tt.gaps {
					t.Errorf("attempts %v, %d profiles, %d gaps; want %v, %d, %d", windows, st.Profiles, st.Gaps, tt.windows, tt.profiles, tt.gaps)
				}
			})
		})
	}
}

func equal(a, b []uint64) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// TestTargetWithoutAnyType is what an annotation about metrics may lead to: a server that has no profiles.
func TestTargetWithoutAnyType(t *testing.T) {
	base, asked := serve(t, http.NotFound)
	m, stop := run(t, quick(newMemory()), Target{Service: "cart", URL: base})
	defer stop()
	until(t, "the answer", func() bool { return only(m).State == "no endpoint" })
	if st := only(m); st.Reason == "" || len(st.Missing) != 5 {
		t.Errorf("%+v", st)
	}
	for _, path := range []string{"/heap", "/goroutine", "/mutex", "/block", "/profile"} {
		if n := asked.count(path); n != 1 {
			t.Errorf("%s was asked for %d times, want 1", path, n)
		}
	}
}
