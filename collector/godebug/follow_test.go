package godebug

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/series"
	"github.com/sonde-io/sonde/collector/wire"
)

// sinks keep what they get, and fail while they are told to.
type sinks struct {
	mu      sync.Mutex
	failing bool
	cycles  []string // "SERVICE CYCLE at TIME"
	text    []string
}

func (s *sinks) AppendSeries(_ context.Context, batches ...series.Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failing {
		return errors.New("full")
	}
	for _, b := range batches {
		for _, v := range b.Samples {
			if v.Labels.Get("__name__") == "gctrace_cycle" {
				s.cycles = append(s.cycles, fmt.Sprintf("%s %v at %d", b.Process.Get("service_name"), v.V, v.T))
			}
		}
	}
	return nil
}

func (s *sinks) AppendLines(_ context.Context, c wire.LinesChunk) error {
	text, err := gunzip(c.Gzip, 1<<20)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for line := range strings.Lines(string(text)) {
		_, line, _ = strings.Cut(line, "\t")
		s.text = append(s.text, line)
	}
	return nil
}

func (s *sinks) took() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.cycles)
}

// cycle is a line of gctrace.
func cycle(n int) string { return fmt.Sprintf("gc %d @%d.000s", n, n) + gc1[len("gc 1 @0.017s"):] }

func followers(t *testing.T, dir string, s *sinks, files ...File) *Followers {
	t.Helper()
	f, err := NewFollowers(FollowersConfig{Settings: Settings{Files: files}, Dir: dir, Host: "n1", Series: s, Lines: s, Every: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, l := range f.files {
			l.close()
		}
	})
	return f
}

func appendTo(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

// numbers are the cycles that were taken.
func (s *sinks) numbers() string {
	var out []string
	for _, c := range s.took() {
		out = append(out, strings.Fields(c)[1])
	}
	return strings.Join(out, " ")
}

// TestFollowRotation follows a plain file over renaming, emptying and restarts: every cycle once.
func TestFollowRotation(t *testing.T) {
	data, logs := t.TempDir(), t.TempDir()
	path := filepath.Join(logs, "cart.log")
	s := &sinks{}
	set := File{Path: filepath.Join(logs, "*.log"), Service: "cart"}
	appendTo(t, path, "old\n"+cycle(1))
	f := followers(t, data, s, set)
	clock := time.Unix(1795262400, 0)
	round := func(want string) {
		t.Helper()
		clock = clock.Add(time.Second)
		f.Round(t.Context(), clock)
		if got := s.numbers(); got != want {
			t.Fatalf("cycles %q, want %q", got, want)
		}
	}
	restart := func() {
		for _, l := range f.files {
			l.close()
		}
		f = followers(t, data, s, set)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	round("") // what was there before is not read
	appendTo(t, path, cycle(2)+"half a line, "+cycle(3)[:40])
	round("2")
	appendTo(t, path, cycle(3)[40:])
	round("2 3")
	appendTo(t, path, cycle(4))
	must(os.Rename(path, path+".1"))
	appendTo(t, path+".1", cycle(5)) // who writes it has not noticed
	appendTo(t, path, "a new file\n"+cycle(6))
	round("2 3 4 5 6")
	must(os.Truncate(path, 0))
	appendTo(t, path, "t\n"+cycle(7))
	round("2 3 4 5 6 7")
	s.failing = true
	appendTo(t, path, cycle(8))
	round("2 3 4 5 6 7")
	s.failing = false
	round("2 3 4 5 6 7 8")
	restart()
	appendTo(t, path, cycle(9))
	round("2 3 4 5 6 7 8 9")
	for _, l := range f.files {
		l.close()
	}
	appendTo(t, path, cycle(10))
	must(os.Rename(path, path+".1"))
	appendTo(t, path, cycle(11))
	restart()
	round("2 3 4 5 6 7 8 9 10 11")
	appendTo(t, filepath.Join(logs, "other.log"), cycle(1))
	round("2 3 4 5 6 7 8 9 10 11 1")
	must(os.Remove(path))
	round("2 3 4 5 6 7 8 9 10 11 1")
	clock = clock.Add(goneAfter)
	round("2 3 4 5 6 7 8 9 10 11 1")
	if f.files[path] != nil {
		t.Error("a file that is gone is followed")
	}
}

// TestFollowRenamed: who writes goes on in a file that was renamed, for a while or for ever, beside an empty new one or none; nothing of it is lost, and nothing read twice by a pattern that matches
// the renamed file, too.
func TestFollowRenamed(t *testing.T) {
	for _, pattern := range []string{"*.log", "cart.log*"} {
		t.Run(pattern, func(t *testing.T) {
			data, logs, s := t.TempDir(), t.TempDir(), &sinks{}
			path := filepath.Join(logs, "cart.log")
			set := File{Path: filepath.Join(logs, pattern), Service: "cart"}
			f := followers(t, data, s, set)
			clock := time.Unix(1795262400, 0)
			round := func(after time.Duration, want string) {
				t.Helper()
				clock = clock.Add(after)
				f.Round(t.Context(), clock)
				if got := s.numbers(); got != want {
					t.Fatalf("cycles %q, want %q", got, want)
				}
			}
			round(time.Second, "")
			appendTo(t, path, cycle(1))
			round(time.Minute, "1")
			if err := os.Rename(path, path+".1"); err != nil {
				t.Fatal(err)
			}
			appendTo(t, path+".1", cycle(2))
			round(time.Minute, "1 2")
			appendTo(t, path+".1", cycle(3))
			round(time.Minute, "1 2 3")
			appendTo(t, path, "") // logrotate's create, its postrotate comes later
			appendTo(t, path+".1", cycle(4))
			round(time.Minute, "1 2 3 4")
			appendTo(t, path+".1", cycle(5))
			appendTo(t, path, cycle(6))
			round(time.Minute, "1 2 3 4 5 6")
			appendTo(t, path, cycle(7))
			round(time.Minute, "1 2 3 4 5 6 7")
			for _, l := range f.files {
				l.close()
			}
			f = followers(t, data, s, set)
			appendTo(t, path, cycle(8))
			round(time.Minute, "1 2 3 4 5 6 7 8")
		})
	}
}

func TestFollowFormats(t *testing.T) {
	id := strings.Repeat("ab", 32)
	cri := func(tag, text string) string {
		return "2026-11-21T12:00:07.500000000Z stderr " + tag + " " + text + "\n"
	}
	line := strings.TrimSuffix(cycle(7), "\n")
	for _, tc := range []struct {
		name, file, format, text string
		set                      File
		want                     string
	}{
		{"cri", "cart-7d4_shop_cart-" + id + ".log", "", cri("F", "hello") + cri("P", line[:50]) + "2026-11-21T12:00:07.500000000Z stdout F between\n" + cri("F", line[50:]), File{}, "known 7 at 1795262407000"},
		{"docker", id + "-json.log", FormatAuto, `{"log":"hello\n","stream":"stderr","time":"2026-11-21T12:00:07Z"}` + "\n" + fmt.Sprintf(`{"log":%q,"stream":"stderr","time":"2026-11-21T12:00:07.5Z"}`, line+"\n") + "\n",
			File{Service: "cart"}, "cart 7 at 1795262407000"},
		{"plain", "billing.log", FormatPlain, "x\r\n" + line + "\r\n", File{}, "billing 7 at 1795262407493"}, // from when it was read, less what the cycle took
	} {
		t.Run(tc.name, func(t *testing.T) {
			logs, s := t.TempDir(), &sinks{}
			tc.set.Path, tc.set.Format = filepath.Join(logs, tc.file), tc.format
			f := followers(t, t.TempDir(), s, tc.set)
			f.SetKnown([]Known{{Labels: labels.FromStrings("service_name", "known"), Started: 1795262400000, ContainerID: id}})
			f.Round(t.Context(), time.Unix(1795262400, 0))
			appendTo(t, tc.set.Path, tc.text)
			f.Round(t.Context(), time.UnixMilli(1795262407500))
			if got := s.took(); len(got) != 1 || got[0] != tc.want {
				t.Errorf("%q, want %q", got, tc.want)
			}
			if len(s.text) != 1 || s.text[0] != line+"\n" {
				t.Errorf("lines %q", s.text)
			}
		})
	}
}

// TestFollowTooLong passes over what is no log's line.
func TestFollowTooLong(t *testing.T) {
	logs, s := t.TempDir(), &sinks{}
	path := filepath.Join(logs, "a.log")
	f := followers(t, t.TempDir(), s, File{Path: path})
	f.Round(t.Context(), time.Unix(1, 0))
	appendTo(t, path, strings.Repeat("x", 2*maxLogLine)+"\n"+cycle(1))
	f.Round(t.Context(), time.Unix(100, 0))
	if got := s.numbers(); got != "1" {
		t.Errorf("cycles %q", got)
	}
}

// exported is an entry as journalctl -o export prints it.
func exported(cursor string, us int64, pid int, message string, binary bool) string {
	e := fmt.Sprintf("__CURSOR=%s\n__REALTIME_TIMESTAMP=%d\n_PID=%d\n", cursor, us, pid)
	if binary {
		n := len(message)
		return e + "MESSAGE\n" + string([]byte{byte(n), byte(n >> 8), 0, 0, 0, 0, 0, 0}) + message + "\n\n"
	}
	return e + "MESSAGE=" + message + "\n\n"
}

// TestFollowJournal follows what stands in for journalctl: a program that prints its export format, from where it is told.
func TestFollowJournal(t *testing.T) {
	dir, s := t.TempDir(), &sinks{}
	line := strings.TrimSuffix(cycle(7), "\n")
	first := exported("c1", 1795262407500000, 4711, "hello", false) + exported("c2", 1795262407500000, 4711, line, false)
	second := exported("c3", 1795262408500000, 4711, strings.TrimSuffix(cycle(8), "\n"), true)
	for name, text := range map[string]string{"first": first, "second": second} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	command := filepath.Join(dir, "journalctl")
	script := fmt.Sprintf("#!/bin/sh\necho \"$*\" >>%[1]s/args\ncase \"$*\" in *--after-cursor=c2*) cat %[1]s/second;; *) cat %[1]s/first;; esac\nexec sleep 1000\n", dir)
	if err := os.WriteFile(command, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"7", "7 8"} {
		f, err := NewFollowers(FollowersConfig{Settings: Settings{Files: []File{{Format: FormatJournald, Path: "cart.service"}}}, Dir: dir, Series: s, Lines: s, Journalctl: command, Every: 5 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		f.SetKnown([]Known{{Labels: labels.FromStrings("service_name", "cart"), PID: 4711}})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- f.Run(ctx) }()
		for end := time.Now().Add(time.Minute); s.numbers() != want && time.Now().Before(end); {
			time.Sleep(5 * time.Millisecond)
		}
		for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			if p, _ := f.position("journald:cart.service"); p.Cursor == fmt.Sprintf("c%d", 2+i) {
				break
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if got := s.numbers(); got != want {
			t.Fatalf("cycles %q, want %q", got, want)
		}
	}
	if got := s.took(); !strings.HasPrefix(got[0], "cart 7 at 17952624") {
		t.Errorf("%q", got)
	}
	args, err := os.ReadFile(filepath.Join(dir, "args"))
	if err != nil || !strings.Contains(string(args), "-u cart.service -n 0\n") || !strings.Contains(string(args), "--after-cursor=c2") {
		t.Errorf("journalctl was called with %q, %v", args, err)
	}
}

func TestSettings(t *testing.T) {
	for _, tc := range []struct {
		s    Settings
		want string
	}{
		{Settings{}, ""}, {Settings{Files: []File{{Path: "/x/*.log", Format: "cri"}, {Format: "journald"}}}, ""},
		{Settings{MaxAge: -1}, "max_age"}, {Settings{MaxBytes: -1}, "max_bytes"}, {Settings{Files: []File{{}}}, "files[0]: path"},
		{Settings{Files: []File{{Path: "["}}}, "files[0]: path"}, {Settings{Files: []File{{Path: "a", Format: "x"}}}, "files[0]: format"}, {Settings{Files: make([]File, 65)}, "at most 64"},
	} {
		if err := tc.s.Validate(); (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: %v, want %q", tc.s, err, tc.want)
		}
	}
}

// FuzzLog reads logs and journals of any content.
func FuzzLog(f *testing.F) {
	f.Add([]byte("2026-11-21T12:00:07.5Z stderr P " + gc1))
	f.Add([]byte(`{"log":"gc 1 @0.1s\n","stream":"stderr","time":"2026-11-21T12:00:07Z"}`))
	f.Add([]byte(exported("c", 1, 2, gc1, true)))
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, format := range []string{"", FormatPlain, FormatCRI, FormatDocker} {
			l := &logFile{format: format, s: newStream(&File{}, "x", originOf("x"), nil)}
			l.take(text, 1)
			l.s.giveUp()
			l.s.take(labels.EmptyLabels(), true)
		}
		out := make(chan journalEntry, len(text)+1)
		_ = readExport(t.Context(), bufio.NewReader(bytes.NewReader(text)), out)
	})
}
