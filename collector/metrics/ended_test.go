package metrics

import (
	"fmt"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"

	"github.com/sonde-io/sonde/collector/metrics/intake"
	"github.com/sonde-io/sonde/collector/series"
)

// carried is what a sidecar forwards: samples with all labels of their processes, in one batch.
func carried(bs ...series.Batch) (out series.Batch) {
	for _, b := range bs {
		for _, x := range b.Samples {
			x.Labels = series.Merge(series.WithTarget(b.Process), x.Labels)
			out.Samples = append(out.Samples, x)
		}
	}
	return out
}

// read is what is read of a process at a time.
func read(instance string, at time.Time) series.Batch {
	return series.Batch{Process: process("cart", instance), Samples: []series.Sample{sample("process_threads", at, 5), pauses(at, 4, 1, 5)}}
}

const (
	countThreads = `count(process_threads{service_name="cart"})`
	countPauses  = `count(go_gc_pauses_seconds{service_name="cart"})`
)

// TestEnded: a process that ended counts no more right after its end, whichever way its samples came, in floats and in histograms.
func TestEnded(t *testing.T) {
	for _, way := range []struct {
		name string
		put  func(bs ...series.Batch) []series.Batch
	}{{"here", func(bs ...series.Batch) []series.Batch { return bs }}, {"forwarded", func(bs ...series.Batch) []series.Batch { return []series.Batch{carried(bs...)} }}} {
		t.Run(way.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "metrics")
			s := open(t, Config{Dir: dir})
			now := time.Now().Truncate(time.Second).Add(-time.Minute)
			put := func(bs ...series.Batch) { t.Helper(); appendAll(t, s, way.put(bs...)...) }
			ended := func(at time.Time) {
				t.Helper()
				if err := s.Ended(t.Context(), End{"i1", at.UnixMilli()}, End{"nobody", at.UnixMilli()}, End{}); err != nil {
					t.Fatal(err)
				}
			}
			counts := func(what string, at time.Time, want int) {
				t.Helper()
				for _, q := range []string{countThreads, countPauses} {
					wantLines(t, what+": "+q, ask(t, s, q, at), fmt.Sprintf("{} %d", want))
				}
			}
			put(read("i1", now), read("i2", now), series.Batch{Samples: []series.Sample{sample("cart:threads", now, 5, "service_instance_id", "i1")}})
			counts("both run", now, 2)
			end := now.Add(5 * time.Second)
			ended(end)
			counts("before the end", end.Add(-time.Millisecond), 2)
			counts("at the end", end, 1)
			ended(end)
			counts("told twice", end.Add(time.Second), 1)
			wantLines(t, "what a rule wrote", ask(t, s, "cart:threads", end), `{__name__="cart:threads", service_instance_id="i1"} 5`)

			put(read("i1", now.Add(-time.Minute)), read("i1", now.Add(time.Second)))
			counts("after late samples", end.Add(time.Second), 1)
			late := read("i1", end)
			late.Samples = append(late.Samples, sample("process_open_fds", end.Add(-time.Second), 3))
			put(late)
			counts("after one of the time of the end", end.Add(time.Second), 1)
			wantLines(t, "a series that is new", ask(t, s, `process_open_fds`, end.Add(time.Second)))

			put(read("i1", end.Add(10*time.Second)))
			counts("it goes on", end.Add(10*time.Second), 2)
			ended(end.Add(5 * time.Second)) // its clock is ahead of ours
			counts("an end before the last sample", end.Add(11*time.Second), 1)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = open(t, Config{Dir: dir})
			counts("opened again", end.Add(11*time.Second), 1)
		})
	}
}

// TestEndedFirst: of a process that ran for a moment the end may be told before its samples come.
func TestEndedFirst(t *testing.T) {
	s := open(t, Config{Settings: Settings{OutOfOrder: model.Duration(24 * time.Hour)}})
	now := time.Now().Truncate(time.Second)
	if err := s.Ended(t.Context(), End{"i1", now.Add(time.Hour).UnixMilli()}); err != nil { // by a clock that is wrong
		t.Fatal(err)
	}
	appendAll(t, s, read("i1", now.Add(-time.Second)), carried(read("i1", now.Add(-time.Second))), read("i2", now))
	for _, q := range []string{countThreads, countPauses} {
		wantLines(t, q, ask(t, s, q, time.Now()), "{} 1")
	}
	s.targets.forget(time.Now().Add(time.Hour))
	if len(s.targets.byHash)+len(s.targets.ends) != 0 {
		t.Errorf("%d targets and %d ends are remembered", len(s.targets.byHash), len(s.targets.ends))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Ended(t.Context(), End{"i1", 1}); err == nil {
		t.Error("a closed store ends series")
	}
}

// TestEndedIsSentOn: who gets the series by remote-write gets their ends too.
func TestEndedIsSentOn(t *testing.T) {
	receiver := open(t, Config{})
	srv := httptest.NewServer(intake.New(intake.Config{Series: receiver, Appendable: receiver.Appendable()}).RemoteWrite())
	defer srv.Close()
	sender := open(t, Config{})
	w, err := sender.NewRemoteWriter(RemoteWriterConfig{Dir: t.TempDir(), To: remoteWrites(t, fmt.Sprintf(`[{url: %q, queue_config: {batch_send_deadline: 100ms}}]`, srv.URL))})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	counted := func(want string) func() error {
		return func() error {
			for _, q := range []string{countThreads, countPauses} {
				if got := fmt.Sprint(ask(t, receiver, q, time.Now())); got != want {
					return fmt.Errorf("%s is %s, want %s", q, got, want)
				}
			}
			return nil
		}
	}
	eventually(t, "series", func() error {
		appendAll(t, sender, read("i1", time.Now()), read("i2", time.Now())) // what the log held before its follower came to its end is not sent
		return counted("[{} 2]")()
	})
	if err := sender.Ended(t.Context(), End{"i1", time.Now().UnixMilli()}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "end", counted("[{} 1]"))
}

// TestDelete: what is deleted is gone, in the head, in what came out of order and in blocks, and stays gone; the rest stays.
func TestDelete(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "metrics")
	s := open(t, Config{Dir: dir})
	now := time.Now().Truncate(time.Second)
	all := func(at time.Time) {
		t.Helper()
		pay := read("p1", at)
		pay.Process = process("pay", "p1")
		appendAll(t, s, read("i1", at), carried(read("i2", at)), pay)
	}
	all(now.Add(-5 * time.Hour))
	if err := s.db.CompactHead(tsdb.NewRangeHead(s.db.Head(), s.db.Head().MinTime(), s.db.Head().MaxTime())); err != nil {
		t.Fatal(err)
	}
	all(now)
	all(now.Add(-3 * time.Hour)) // out of order
	count := func(what string, want ...string) {
		t.Helper()
		for _, name := range []string{"process_threads", "go_gc_pauses_seconds"} {
			wantLines(t, what+": "+name, ask(t, s, `sum by (service_instance_id) (count_over_time(`+name+`[6h]))`, now), want...)
		}
	}
	count("before", `{service_instance_id="i1"} 3`, `{service_instance_id="i2"} 3`, `{service_instance_id="p1"} 3`)
	var deleted []Deletion
	remove := func(service, instance string, from, to int64) {
		t.Helper()
		deleted = append(deleted, Deletion{service, instance, from, to})
		for range 2 { // as after a crash
			if err := s.Delete(t.Context(), deleted[len(deleted)-1]); err != nil {
				t.Fatal(err)
			}
		}
	}
	never := time.Now().UnixMilli() + 1
	remove("cart", "i2", now.Add(-4*time.Hour).UnixMilli(), now.UnixMilli())
	count("a range", `{service_instance_id="i1"} 3`, `{service_instance_id="i2"} 2`, `{service_instance_id="p1"} 3`)
	remove("", "i1", 0, never)
	count("an instance", `{service_instance_id="i2"} 2`, `{service_instance_id="p1"} 3`)
	remove("cart", "p1", 0, never)
	count("not of that service", `{service_instance_id="i2"} 2`, `{service_instance_id="p1"} 3`)
	remove("cart", "", 0, never)
	count("a service", `{service_instance_id="p1"} 3`)
	if err := s.Delete(t.Context(), Deletion{To: never}); err == nil {
		t.Error("a deletion of all is carried out")
	}
	if err := s.Close(); err != nil { // before the blocks were cleaned
		t.Fatal(err)
	}
	s = open(t, Config{Dir: dir, Deleted: deleted})
	count("opened again", `{service_instance_id="p1"} 3`)
	if err := s.clean(); err != nil {
		t.Fatal(err)
	}
	for _, b := range s.db.Blocks() {
		r, err := b.Index()
		if err != nil {
			t.Fatal(err)
		}
		if names, err := r.SortedLabelValues(t.Context(), serviceLabel, nil); err != nil || fmt.Sprint(names) != "[pay]" {
			t.Errorf("a block has series of %v, error %v", names, err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	count("cleaned", `{service_instance_id="p1"} 3`)
	appendAll(t, s, read("i1", now.Add(time.Second)))
	wantLines(t, "what comes later stays", ask(t, s, countThreads, now.Add(time.Second)), "{} 1")
}

// TestServiceShare: a service that makes series without end leaves others theirs.
func TestServiceShare(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "metrics")
	s := open(t, Config{Dir: dir, Settings: Settings{MaxSeries: 1000}})
	now := time.Now().Truncate(time.Second)
	starts := func(service string, n int) {
		t.Helper()
		for i := range n {
			b := series.Batch{Process: process(service, fmt.Sprint(service, i))}
			for j := range 20 {
				b.Samples = append(b.Samples, sample("m", now, 1, "n", fmt.Sprint(j)))
			}
			appendAll(t, s, b)
		}
	}
	count := func(what string, want ...string) {
		t.Helper()
		wantLines(t, what, ask(t, s, `count by (service_name) (m)`, now), want...)
	}
	starts("crashes", 100)
	count("alone", `{service_name="crashes"} 500`)
	if got := len(s.targets.byHash); got != 25 { // of 20 series each
		t.Errorf("%d processes are remembered, of which 25 have series", got)
	}
	starts("pay", 2)
	count("beside", `{service_name="crashes"} 500`, `{service_name="pay"} 40`)
	starts("loops", 100)
	starts("spins", 100)
	starts("mail", 1)
	count("three that would take all", `{service_name="crashes"} 500`, `{service_name="pay"} 40`, `{service_name="loops"} 230`, `{service_name="spins"} 115`, `{service_name="mail"} 20`)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	before := s.alive.total()
	s = open(t, Config{Dir: dir, Settings: Settings{MaxSeries: 1000}})
	if got := s.alive.total(); got != before || uint64(got.series) != s.db.Head().NumSeries() {
		t.Errorf("opened again it counts %v, before %v, of %d series", got, before, s.db.Head().NumSeries())
	}
	gone := alive{}
	ls := labels.FromStrings(serviceLabel, "cart")
	gone.add(ls, 1)
	gone.add(ls, -1)
	if len(gone.services) != 0 || gone.all != (share{}) {
		t.Errorf("of nothing there is %v", gone.services)
	}
}
