//go:build linux

package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sonde-io/sonde/internal/bench"
)

const (
	loadRate        = 2000 // profiles/s
	loadPeriod      = 15 * time.Second
	loadConnections = 256
	loadRSS         = 512 // MB
	seriesRSS       = 1024
)

// BenchmarkLoad runs sonde serve under the load of a fleet that sends 2,000 profiles a second: some 7,800 instances of the corpus' services, each of which pushes
// a window every 15 s over connections that are kept alive. The load comes from this process, the figures are those of the server's: its CPU, its peak memory
// (VmHWM), how long an ack took from when its push was due, and how old the oldest segment became that was not compacted. It lasts SONDE_LOAD, by default 3m.
//
//	SONDE_LOAD=1m go test ./internal/e2e -run '^$' -bench Load -benchtime 1x
func BenchmarkLoad(b *testing.B) {
	length := 3 * time.Minute
	if text := os.Getenv("SONDE_LOAD"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			b.Fatal(err)
		}
	}
	c := bench.LoadCorpus(b)
	f := &bench.Fleet{Corpus: c, Windows: int(length / loadPeriod)}
	for perWindow := 0; perWindow < loadRate*int(loadPeriod/time.Second); f.Instances++ {
		perWindow += len(c.Types[c.Services[f.Instances%len(c.Services)]])
	}
	for b.Loop() {
		// More pushes may wait for their segment than the default lets in at once.
		srv := startServe(b, b.TempDir(), "--discover=false", "--config", manyPushes(b))
		l := newLoad(b, srv, f)
		watch := watchServer(b, srv)
		before, began := watch.cpu(), time.Now()
		l.run(b, loadPeriod)
		took := time.Since(began)
		cpu := watch.cpu() - before
		peak := watch.peak()
		bench.AtMost(b, peak, "MB-peak-RSS", loadRSS)
		b.ReportMetric(float64(l.profiles.Load())/took.Seconds(), "profiles/s")
		b.ReportMetric(float64(cpu.Microseconds())/float64(l.profiles.Load()), "µs/profile")
		b.ReportMetric(cpu.Seconds()/took.Seconds(), "cores")
		b.ReportMetric(l.quantile(0.5), "ms-ack-p50")
		b.ReportMetric(l.quantile(0.99), "ms-ack-p99")
		b.ReportMetric(float64(l.refused.Load()), "refused")
		b.ReportMetric(watch.lag.Seconds(), "s-compaction-lag-peak")
		watch.stop()
		// What is still to be compacted when the load ends, and what that costs.
		srv.stop(b)
	}
}

// BenchmarkSeries tells a collector of 100,000 instances, of ten services, each of which sends a short CPU profile, compacts them and asks about one service.
//
//	go test ./internal/e2e -run '^$' -bench Series -benchtime 1x
func BenchmarkSeries(b *testing.B) {
	const instances, services = 100_000, 10
	c := bench.LoadCorpus(b, "cpu")
	few := &bench.Corpus{Types: map[string][]string{}, Data: map[string]map[string][][]byte{}}
	for i := range services {
		name := fmt.Sprintf("service-%d", i)
		few.Services = append(few.Services, name)
		few.Types[name] = []string{"cpu"}
		few.Data[name] = c.Data["nats-server-go126"]
	}
	for b.Loop() {
		srv := startServe(b, b.TempDir(), "--discover=false", "--config", manyPushes(b))
		l := newLoad(b, srv, &bench.Fleet{Corpus: few, Instances: instances, Windows: 1})
		watch := watchServer(b, srv)
		l.run(b, 0)
		for deadline := time.Now().Add(3 * time.Minute); watch.segments() > 0 && time.Now().Before(deadline); {
			time.Sleep(time.Second)
		}
		q := url.Values{"query": {"service-3"}, "type": {"cpu"}, "from": {"now-1h"}}
		var values struct{ Values []string }
		srv.get(b, "/api/v1/labels/service_instance_id/values?"+q.Encode(), &values)
		if len(values.Values) != instances/services {
			b.Errorf("%d instances of a service are known, want %d", len(values.Values), instances/services)
		}
		var flame struct{ Stats struct{ Profiles int } }
		srv.get(b, "/api/v1/flamegraph?"+q.Encode(), &flame)
		if flame.Stats.Profiles != instances/services {
			b.Errorf("the flame graph is of %d profiles, want %d", flame.Stats.Profiles, instances/services)
		}
		bench.AtMost(b, watch.peak(), "MB-peak-RSS", seriesRSS)
		b.ReportMetric(float64(watch.cpu().Microseconds())/instances, "µs/instance")
		b.ReportMetric(float64(l.refused.Load()), "refused")
		watch.stop()
		srv.kill(b)
	}
}

// manyPushes returns a configuration that lets a whole fleet wait for its segments at once.
func manyPushes(b *testing.B) string {
	name := filepath.Join(b.TempDir(), "sonde.yaml")
	if err := os.WriteFile(name, []byte("limits: {max_concurrent_pushes: 512}\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	return name
}

// load is a fleet's pushes over HTTP. Requests are written as bytes that were put together beforehand but for the meta part, so that the load takes little of the
// machine that it shares with the server.
type load struct {
	srv     *server
	f       *bench.Fleet
	senders []*bench.Sender

	profiles, refused atomic.Int64
	mu                sync.Mutex
	waits             []time.Duration
}

func newLoad(t testing.TB, srv *server, f *bench.Fleet) *load {
	l := &load{srv: srv, f: f}
	for i := range f.Instances {
		l.senders = append(l.senders, bench.NewSender(t, f.Service(i), f.Name(i), i))
	}
	return l
}

// job is a push that is due at a time.
type job struct {
	instance, window int
	due              time.Time
}

// run sends all windows of all instances, evenly over time where a window takes a period, else as fast as they are answered.
func (l *load) run(t testing.TB, period time.Duration) {
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	jobs := make(chan job, loadConnections)
	var wg sync.WaitGroup
	for range loadConnections {
		wg.Go(func() {
			if err := l.connection(t, jobs); err != nil {
				cancel(err)
			}
		})
	}
	began := time.Now()
send:
	for w := range l.f.Windows {
		for i := range l.f.Instances {
			due := began.Add(time.Duration(w)*period + time.Duration(i)*period/time.Duration(l.f.Instances))
			if period == 0 {
				due = time.Now()
			} else {
				time.Sleep(time.Until(due))
			}
			select {
			case jobs <- job{i, w, due}:
			case <-ctx.Done():
				break send
			}
		}
	}
	close(jobs)
	wg.Wait()
	if err := context.Cause(ctx); err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

// connection answers for jobs over one connection.
func (l *load) connection(t testing.TB, jobs <-chan job) error {
	conn, err := net.Dial("tcp", l.srv.addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	var body []byte
	for j := range jobs {
		entries := l.f.Entries(j.instance, j.window)
		end := j.due.UnixMilli()
		body = l.senders[j.instance].Body(t, body, uint64(j.window+1), end-loadPeriod.Milliseconds(), end, entries)
		for {
			status, err := post1(conn, r, l.srv.addr, body)
			if err != nil {
				return err
			}
			if status == http.StatusOK {
				break
			}
			if status != http.StatusTooManyRequests && status != http.StatusServiceUnavailable {
				return fmt.Errorf("push: status %d", status)
			}
			l.refused.Add(1)
			time.Sleep(time.Second)
		}
		l.profiles.Add(int64(len(entries)))
		l.mu.Lock()
		l.waits = append(l.waits, time.Since(j.due))
		l.mu.Unlock()
	}
	return nil
}

func post1(conn net.Conn, r *bufio.Reader, host string, body []byte) (status int, err error) {
	head := fmt.Appendf(nil, "POST /api/v1/push HTTP/1.1\r\nHost: %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n", host, bench.ContentType, len(body))
	if _, err := (&net.Buffers{head, body}).WriteTo(conn); err != nil {
		return 0, err
	}
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

// quantile returns the time from when a push was due to its ack, in ms.
func (l *load) quantile(q float64) float64 {
	slices.Sort(l.waits)
	return float64(l.waits[int(q*float64(len(l.waits)-1))].Microseconds()) / 1000
}

// watched is a server whose process is looked at from outside.
type watched struct {
	t    testing.TB
	srv  *server
	end  context.CancelFunc
	done chan struct{}
	lag  time.Duration // the largest seen of the age of the oldest segment; valid after stop
}

func watchServer(t testing.TB, srv *server) *watched {
	ctx, cancel := context.WithCancel(t.Context())
	w := &watched{t: t, srv: srv, end: cancel, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		tick := time.NewTicker(2 * time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				w.lag = max(w.lag, time.Duration(metric(srv, "sonde_store_compaction_lag_seconds")*float64(time.Second)))
			}
		}
	}()
	return w
}

func (w *watched) stop() {
	w.end()
	<-w.done
}

// segments returns how many segments wait to be compacted.
func (w *watched) segments() int { return int(metric(w.srv, `sonde_store_live_blobs{kind="segment"}`)) }

// metric returns the value of a metric, 0 if it cannot be had.
func metric(srv *server, name string) float64 {
	resp, err := http.Get(srv.url + "/metrics")
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	for sc := bufio.NewScanner(resp.Body); sc.Scan(); {
		if text, ok := strings.CutPrefix(sc.Text(), name+" "); ok {
			v, _ := strconv.ParseFloat(text, 64)
			return v
		}
	}
	return 0
}

// cpu returns the CPU time of the server's process so far.
func (w *watched) cpu() time.Duration {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", w.srv.cmd.Process.Pid))
	if err != nil {
		w.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), ") ")
	fields := strings.Fields(rest) // from field 3
	user, err1 := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	if err := errors.Join(err1, err2); err != nil {
		w.t.Fatal(err)
	}
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every Linux that Go runs on
	return time.Duration(user+system) * tick
}

// peak returns the largest resident size of the server's process so far in MB.
func (w *watched) peak() float64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.srv.cmd.Process.Pid))
	if err != nil {
		w.t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if text, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.Atoi(strings.Fields(text)[0])
			if err != nil {
				w.t.Fatal(err)
			}
			return float64(kb) * 1024 / 1e6
		}
	}
	w.t.Fatal("no VmHWM in /proc")
	return 0
}
