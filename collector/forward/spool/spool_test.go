package spool

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sonde-io/sonde/internal/fsys/faultfs"
)

const testDir = "/spool"

func config(m *faultfs.FS) Config {
	return Config{FS: m, Dir: testDir, MaxBytes: MinBytes, SegmentBytes: 64 << 10, Gaps: func(a *Account) (Push, error) {
		meta, err := json.Marshal(a)
		return Push{Meta: meta, Start: 1, End: 2}, err
	}}
}

func open(t testing.TB, m *faultfs.FS, change func(*Config)) *Spool {
	t.Helper()
	cfg := config(m)
	if change != nil {
		change(&cfg)
	}
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// push makes the nth push of an instance; size is about its bytes.
func push(instance string, n, size int) *Push {
	return &Push{Instance: instance, Hash: "h-" + instance, Service: "cart", Process: []byte(`{"of":"` + instance + `"}`), Start: int64(n) * 10, End: int64(n)*10 + 10,
		Meta: fmt.Appendf(nil, "%s/%d", instance, n), Profiles: [][]byte{bytes.Repeat([]byte{byte(n)}, size), []byte("second")}}
}

// read reads what there is, without waiting.
func readAll(t testing.TB, s *Spool) (out []*Item) {
	t.Helper()
	for {
		it, err := s.TryRead()
		if err != nil {
			t.Fatal(err)
		}
		if it == nil {
			return out
		}
		out = append(out, it)
	}
}

func metas(items []*Item) (out []string) {
	for _, it := range items {
		out = append(out, string(it.Meta))
	}
	return out
}

func TestAppendReadDone(t *testing.T) {
	m := faultfs.New()
	s := open(t, m, nil)
	want := []string{}
	for i := range 100 {
		p := push("a", i, 2000)
		if i > 0 {
			p.Process = nil
		}
		if err := s.Append(t.Context(), p, push("b", i, 10)); err != nil {
			t.Fatal(err)
		}
		want = append(want, fmt.Sprintf("a/%d", i), fmt.Sprintf("b/%d", i))
	}
	if !s.Knows("a", "h-a") || s.Knows("a", "h-b") || s.Knows("c", "") {
		t.Error("Knows is wrong")
	}
	if err := s.Append(t.Context(), &Push{Instance: "c", Hash: "x"}); !errors.Is(err, ErrUnknownProcess) {
		t.Errorf("a push of an unknown process: %v", err)
	}
	got := readAll(t, s)
	if !slices.Equal(metas(got), want) {
		t.Fatalf("read %v", metas(got))
	}
	for _, it := range got {
		raw, err := it.Process.Raw()
		if err != nil || string(raw) != `{"of":"`+it.Instance+`"}` || it.Service != "cart" {
			t.Fatalf("process of %s: %s, %v", it.Meta, raw, err)
		}
	}
	if first := got[0]; first.Start != 0 || first.End != 10 || len(first.Profiles) != 4+2000+4+6 {
		t.Errorf("first item %+v", first)
	}
	if st := s.Stats(); st.Files < 3 || st.Waiting != 200 || st.Appended != 200 || st.Bytes > st.MaxBytes || st.Oldest == 0 {
		t.Errorf("stats %+v", st)
	}
	// Done in any order; files go once all before them is done.
	for _, i := range rand.Perm(len(got)) {
		s.Done(got[i])
	}
	if st := s.Stats(); st.Files != 1 || st.Waiting != 0 {
		t.Errorf("all is done: %+v", st)
	}
	s.Close()
	s = open(t, m, nil)
	if got := readAll(t, s); len(got) != 0 {
		t.Errorf("after a restart there are %v", metas(got))
	}
}

func TestRestart(t *testing.T) {
	m := faultfs.New()
	s := open(t, m, nil)
	for i := range 60 {
		if err := s.Append(t.Context(), push("a", i, 4000)); err != nil {
			t.Fatal(err)
		}
	}
	for _, it := range readAll(t, s)[:25] {
		s.Done(it)
	}
	s.Close()
	if err := s.Append(t.Context(), push("a", 1, 1)); !errors.Is(err, ErrClosed) {
		t.Errorf("Append after Close: %v", err)
	}
	s = open(t, m, nil)
	if !s.Knows("a", "h-a") {
		t.Error("the process object is not known after a restart")
	}
	if st := s.Stats(); st.Waiting != 35 {
		t.Errorf("%d wait, want 35", st.Waiting)
	}
	p := push("a", 60, 10)
	p.Process = nil
	if err := s.Append(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	got := readAll(t, s)
	if len(got) != 36 || string(got[0].Meta) != "a/25" || string(got[35].Meta) != "a/60" {
		t.Fatalf("read %v", metas(got))
	}
	for _, it := range got {
		if it.Process == nil {
			t.Errorf("%s has no process object", it.Meta)
		}
	}
}

func TestReadWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, faultfs.New(), nil)
		var got *Item
		go func() {
			var err error
			if got, err = s.Read(t.Context()); err != nil {
				t.Error(err)
			}
		}()
		synctest.Wait()
		if got != nil {
			t.Fatal("read before there was something")
		}
		if err := s.Append(t.Context(), push("a", 1, 1)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got == nil {
			t.Fatal("nothing was read")
		}
		s.Done(got)
		time.Sleep(2 * cursorEvery)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.Read(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Read = %v", err)
		}
		s.Close()
		if _, err := s.Read(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("Read = %v", err)
		}
	})
}

// TestLimit appends far more than the spool may hold: what is not read is counted, by instance, and the rest is there.
func TestLimit(t *testing.T) {
	m := faultfs.New()
	s := open(t, m, nil)
	const pushes, size = 3000, 4000
	held := []*Item{}
	for i := range pushes {
		if err := s.Append(t.Context(), push([]string{"a", "b", "c"}[i%3], i, size)); err != nil {
			t.Fatal(err)
		}
		if st := s.Stats(); st.Bytes > st.MaxBytes {
			t.Fatalf("%d bytes on disk, at most %d", st.Bytes, st.MaxBytes)
		}
		if i == 100 {
			held = readAll(t, s)[:50]
		}
	}
	for _, it := range held {
		if !s.Dropped(it) {
			t.Fatalf("%s, read long ago, is not said to be dropped", it.Meta)
		}
		s.Done(it)
	}
	s.Close() // the account is on disk
	s = open(t, m, nil)
	dropped, there := map[string]int64{}, map[string]int64{}
	for _, it := range readAll(t, s) {
		if it.account == nil {
			there[it.Instance]++
			continue
		}
		for _, l := range it.account.Losses {
			dropped[l.Instance] += l.Pushes
			if l.Service != "cart" || l.To <= l.From {
				t.Errorf("loss %+v", l)
			}
		}
	}
	for _, instance := range []string{"a", "b", "c"} {
		if dropped[instance]+there[instance] != pushes/3 || dropped[instance] == 0 || there[instance] < MinBytes/2/size/3 {
			t.Errorf("%s: %d dropped, %d there, of %d", instance, dropped[instance], there[instance], pushes/3)
		}
	}
}

// TestFullDisk refuses pushes, loses nothing, and takes pushes again when there is room.
func TestFullDisk(t *testing.T) {
	m := faultfs.New()
	s := open(t, m, nil)
	if err := s.Append(t.Context(), push("a", 0, 1000)); err != nil {
		t.Fatal(err)
	}
	m.Inject(faultfs.Fault{Ops: faultfs.Write, N: 1, Err: syscall.ENOSPC, Short: true, Sticky: true})
	for i := range 20 {
		if err := s.Append(t.Context(), push("a", 1+i, 1000)); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("Append on a full disk: %v", err)
		}
	}
	if entries, err := m.ReadDir(testDir); err != nil || len(entries) > 2 {
		t.Errorf("%d files are left behind, %v", len(entries), err)
	}
	m.Inject()
	if err := s.Append(t.Context(), push("a", 21, 1000)); err != nil {
		t.Fatal(err)
	}
	if got := metas(readAll(t, s)); !slices.Equal(got, []string{"a/0", "a/21"}) {
		t.Errorf("read %v", got)
	}
	if st := s.Stats(); st.Failures != 20 {
		t.Errorf("%d failures counted", st.Failures)
	}
}

// life appends pushes, reads them, and is done of some, until something fails; what it was told is kept in acked and done.
type life struct {
	acked []string        // in the order of Append
	done  map[string]bool // before the crash at least
}

func (l *life) run(t *testing.T, m *faultfs.FS, from int) {
	s, err := Open(config(m))
	if err != nil {
		return
	}
	defer s.Close()
	for i := from; i < from+30; i++ {
		p := push("a", i, 6000)
		if s.Append(t.Context(), p) == nil {
			l.acked = append(l.acked, string(p.Meta))
		}
		if i%3 != 0 {
			continue
		}
		for range 2 {
			if it, err := s.TryRead(); it != nil && err == nil {
				if l.done[string(it.Meta)] {
					continue // read again after a restart: a duplicate at the collector
				}
				l.done[string(it.Meta)] = true
				s.Done(it)
			}
		}
	}
}

// TestFaults fails each operation on the disk in turn, in each way, then kills the process or takes the power. Whatever happened, what was acked is
// read after the restart unless it was done, in the order in which it was appended, and nothing else but pushes whose Append failed.
func TestFaults(t *testing.T) {
	clean := faultfs.New()
	(&life{done: map[string]bool{}}).run(t, clean, 0)
	ops := clean.Count(faultfs.All)
	if ops < 100 {
		t.Fatalf("only %d operations", ops)
	}
	for n := 1; n <= ops; n++ {
		ways := []faultfs.Fault{{}, {Crash: true}, {Short: true}, {Crash: true, Short: true}, {Late: true}, {Sticky: true, Err: syscall.ENOSPC, Ops: faultfs.Mutations}}
		for _, fault := range ways[n%3*2:][:2] { // each operation in two ways, its neighbours in the others
			for _, power := range []bool{false, true} {
				if fault.N = n; fault.Ops == 0 {
					fault.Ops = faultfs.All
				}
				m := faultfs.New()
				l := &life{done: map[string]bool{}}
				m.Inject(fault)
				l.run(t, m, 0)
				m.Inject()
				if power {
					m.PowerLoss(uint64(n))
				} else {
					m.Kill()
				}
				if !l.check(t, m) {
					t.Fatalf("operation %d of %d, %+v, power loss %v", n, ops, fault, power)
				}
			}
		}
	}
}

func (l *life) check(t *testing.T, m *faultfs.FS) bool {
	s, err := Open(config(m))
	if err != nil {
		t.Errorf("open after the crash: %v", err)
		return false
	}
	defer s.Close()
	items := readAll(t, s)
	got := metas(items)
	ok := true
	for _, meta := range l.acked {
		if !l.done[meta] && !slices.Contains(got, meta) {
			t.Errorf("%s was acked and is lost", meta)
			ok = false
		}
	}
	last := -1
	for _, meta := range got {
		var n int
		if _, err := fmt.Sscanf(meta, "a/%d", &n); err != nil || n <= last {
			t.Errorf("read %s after a/%d", meta, last)
			ok = false
		}
		last = n
	}
	for _, it := range items {
		if it.Process == nil {
			t.Errorf("%s has no process object", it.Meta)
			ok = false
		}
	}
	if err := s.Append(t.Context(), push("a", 1000, 10)); err != nil {
		t.Errorf("append after the crash: %v", err)
		ok = false
	}
	return ok
}

// TestManyLives crashes again and again, with appends from several goroutines.
func TestManyLives(t *testing.T) {
	for seed := range uint64(8) {
		m := faultfs.New()
		rnd := rand.New(rand.NewPCG(seed, 1))
		var mu sync.Mutex
		acked, done := map[string]bool{}, map[string]bool{}
		for life := range 12 {
			s := open(t, m, nil)
			m.Inject(faultfs.Fault{Ops: faultfs.Mutations, N: 1 + rnd.IntN(120), Crash: true, Short: rnd.IntN(2) == 0})
			var writers sync.WaitGroup
			for w := range 4 {
				writers.Go(func() {
					for i := range 20 {
						p := push(fmt.Sprint("w", w), life*100+i, 3000)
						if s.Append(context.Background(), p) == nil {
							mu.Lock()
							acked[string(p.Meta)] = true
							mu.Unlock()
						}
					}
				})
			}
			for range 40 {
				if it, err := s.TryRead(); err == nil && it != nil {
					done[string(it.Meta)] = true
					s.Done(it)
				}
			}
			writers.Wait()
			s.Close()
			m.Inject()
			m.PowerLoss(seed*100 + uint64(life))
		}
		s := open(t, m, nil)
		last := map[string]int{}
		for _, it := range readAll(t, s) {
			done[string(it.Meta)] = true
			_, number, _ := strings.Cut(string(it.Meta), "/")
			var n int
			fmt.Sscan(number, &n)
			if n < last[it.Instance] {
				t.Errorf("seed %d: %s after %d", seed, it.Meta, last[it.Instance])
			}
			last[it.Instance] = n
		}
		for meta := range acked {
			if !done[meta] {
				t.Errorf("seed %d: %s was acked and is lost", seed, meta)
			}
		}
	}
}

// TestDamage flips bits all over a file: what can be read is read, what cannot is counted.
func TestDamage(t *testing.T) {
	clean := faultfs.New()
	write := func(m *faultfs.FS) *Spool {
		s := open(t, m, nil)
		for i := range 8 {
			if err := s.Append(t.Context(), push("a", i, 300)); err != nil {
				t.Fatal(err)
			}
		}
		return s
	}
	size := write(clean).Stats().Bytes
	for at := int64(fileHeader); at < size; at += 13 {
		m := faultfs.New()
		write(m).Close()
		if !m.Flip(testDir+"/"+fileName(1), at) {
			t.Fatal("no bit to flip")
		}
		s := open(t, m, nil)
		got := readAll(t, s)
		if n := len(got); n < 7 || n == 7 && s.Stats().DamagedPushes+s.Stats().DamagedBytes+s.Stats().TornBytes == 0 {
			t.Fatalf("a bit flipped at %d: %v are left, %+v", at, metas(got), s.Stats())
		}
		for _, it := range got {
			s.Done(it)
		}
		if st := s.Stats(); st.Waiting != 0 {
			t.Fatalf("a bit flipped at %d: %d wait for ever", at, st.Waiting)
		}
		s.Close()
	}
}

func FuzzSegment(f *testing.F) {
	m := faultfs.New()
	s := open(f, m, nil)
	for i := range 3 {
		if err := s.Append(f.Context(), push("a", i, 50)); err != nil {
			f.Fatal(err)
		}
	}
	s.Close()
	file, err := m.Open(testDir + "/" + fileName(1))
	if err != nil {
		f.Fatal(err)
	}
	size, _ := file.Size()
	seed := make([]byte, size)
	if _, err := file.ReadAt(seed, 0); err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add(seed[:len(seed)/2])
	f.Add(append(bytes.Clone(seed), make([]byte, 100)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		m := faultfs.New()
		if err := m.MkdirAll(testDir); err != nil {
			t.Fatal(err)
		}
		w, err := m.Create(testDir + "/" + fileName(1))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(b); err != nil {
			t.Fatal(err)
		}
		s := open(t, m, nil)
		for _, it := range readAll(t, s) {
			if it.Process != nil {
				it.Process.Raw()
			}
			s.Done(it)
		}
		if err := s.Append(t.Context(), push("new", 1, 10)); err != nil {
			t.Fatal(err)
		}
		if got := readAll(t, s); len(got) != 1 || string(got[0].Meta) != "new/1" {
			t.Fatalf("read %v", metas(got))
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
