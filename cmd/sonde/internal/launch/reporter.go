package launch

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/godebug"
	"github.com/sonde-io/sonde/collector/series"
	"github.com/sonde-io/sonde/collector/wire"
)

// The bounds of what waits to be sent.
const (
	maxQueued      = 8 << 20 // bytes
	maxBatch       = 4 << 20
	maxRecordBytes = 700 << 10 // of series, before they are compressed: less than wire.MaxMetricsBytes
	seenEvery      = time.Minute
)

// ReporterConfig configures a Reporter. Client, URL and Labels are required.
type ReporterConfig struct {
	Client *http.Client
	URL    string // of the collector
	Token  string // "": none
	Agent  string // the User-Agent
	Every  time.Duration

	// Labels are the process's, service_name and service_instance_id among them.
	Labels labels.Labels
	// Lookup is asked for the labels under which the program's own agent reports it, until it knows. nil: there is no agent.
	Lookup func(ctx context.Context) (labels.Labels, bool)
	// Seen tells the collector of a process that nothing in it reports, nil: its agent does.
	Seen *wire.Seen
	// Build is the id of the program's build, for the event of its end.
	Build string
	Log   *slog.Logger
}

// lookupFor is how long Lookup is asked, once per flush, before Labels have to do: an agent's first window has gone by then.
const lookupFor = 45 * time.Second

// Reporter gathers what was taken out of a program's standard error and sends it. Line is called by one goroutine, the rest is safe for concurrent use.
type Reporter struct {
	cfg     ReporterConfig
	started time.Time

	mu      sync.Mutex
	rec     godebug.Recorder
	waiting []godebug.Taken // full before the labels were known, or before their turn

	queue   [][]byte // records
	queued  int      // bytes
	dropped int      // lines
	counts  []int    // lines of each record of queue

	labels labels.Labels // nil labels: not known yet
	known  bool
	until  time.Time // Lookup is asked
	seen   time.Time
	number int
	torn   int
	end    *Ended // that is to be told of; nil: it runs, or that was done
	closed bool
}

// NewReporter returns a Reporter for a process that started at the given time.
func NewReporter(cfg ReporterConfig, started time.Time) *Reporter {
	if cfg.Every <= 0 {
		cfg.Every = 5 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	r := &Reporter{cfg: cfg, started: started, labels: cfg.Labels, known: cfg.Lookup == nil, until: time.Now().Add(lookupFor)}
	r.rec.Source = "stderr"
	r.rec.Sampler.Started = started.UnixMilli()
	return r
}

// Line takes a line. It does not wait for anybody.
func (r *Reporter) Line(text []byte, l *godebug.Line, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rec.Add(text, l, at.UnixMilli())
	if !r.rec.Full() {
		return
	}
	const most = 16 // some 200,000 samples
	if len(r.waiting) == most {
		r.dropped += lineCount(r.waiting[0])
		r.waiting = slices.Delete(r.waiting, 0, 1)
	}
	r.waiting = append(r.waiting, r.rec.Take(false))
}

func lineCount(t godebug.Taken) int {
	if t.Lines == nil {
		return 0
	}
	return t.Lines.Count
}

// Run sends what was gathered until ctx is done.
func (r *Reporter) Run(ctx context.Context) {
	t := time.NewTicker(r.cfg.Every)
	defer t.Stop()
	failed := false
	for {
		if err := r.flush(ctx, false); err != nil && ctx.Err() == nil {
			if !failed {
				r.cfg.Log.Warn("cannot send what the program printed; it is tried again", "error", err)
			}
			failed = true
		} else if failed && err == nil {
			r.cfg.Log.Info("the collector answers again")
			failed = false
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// Close sends what is left, and how the program ended. It may take as long as ctx.
func (r *Reporter) Close(ctx context.Context, end *Ended) error {
	r.mu.Lock()
	r.torn = end.Torn
	if !r.closed {
		r.closed, r.end = true, end
	}
	if s := r.cfg.Seen; s != nil {
		s.State, s.Reason = "exited", end.Error()
		r.seen = time.Time{}
	}
	r.mu.Unlock()
	return r.flush(ctx, true)
}

func (r *Reporter) flush(ctx context.Context, last bool) error {
	if !r.known {
		if ls, ok := r.cfg.Lookup(ctx); ok {
			r.labels, r.known = ls, true
		} else if last || time.Now().After(r.until) {
			r.known = true
		}
	}
	if r.known {
		r.pack(time.Now(), last)
	}
	refused, err := r.sendAll(ctx)
	if err == nil && last && refused > 0 { // what was counted before does not tell of it
		r.pack(time.Now(), true)
		_, err = r.sendAll(ctx)
	}
	return err
}

// sendAll sends what is queued, and returns how many lines the collector refused for good.
func (r *Reporter) sendAll(ctx context.Context) (refused int, err error) {
	for {
		body, n := r.batch()
		if n == 0 {
			return refused, nil
		}
		taken, no, err := r.post(ctx, body, n)
		if err != nil {
			return refused, err
		}
		refused += r.sent(taken, no)
	}
}

// pack makes records of what was gathered.
func (r *Reporter) pack(now time.Time, last bool) {
	r.mu.Lock()
	taken := r.waiting
	r.waiting = nil
	if !r.rec.Empty() || last {
		taken = append(taken, r.rec.Take(true))
	}
	if len(taken) > 0 {
		n := len(taken) - 1
		taken[n].Samples = append(taken[n].Samples, r.rec.Counters(now, r.torn, r.dropped)...)
	}
	r.mu.Unlock()
	if s := r.cfg.Seen; s != nil && now.Sub(r.seen) >= seenEvery {
		r.seen = now
		s.LastSeen = now.UnixMilli()
		r.number++
		r.enqueue(wire.Meta{Idempotency: "run:" + s.Instance + ":" + strconv.Itoa(r.number), Seen: []wire.Seen{*s}}, nil, 0)
	}
	for _, t := range taken {
		r.packOne(t)
	}
	if r.end != nil {
		e := r.exit(r.end)
		r.enqueue(wire.Meta{Idempotency: "run:" + e.Attrs["instance"] + ":end", Events: []wire.Event{e}}, nil, 0)
		r.end = nil
	}
}

// exit is the event of the program's end. Who only watches processes sees that one is gone a while later, and not how: this is the better word.
func (r *Reporter) exit(end *Ended) wire.Event {
	at := end.At
	if at.IsZero() {
		at = time.Now()
	}
	ran := max(at.Sub(r.started), 0)
	service := r.labels.Get("service_name")
	e := wire.Event{Time: at.UnixMilli(), Kind: "exit", Service: service, Attrs: map[string]string{
		"instance": r.labels.Get("service_instance_id"), "pid": r.labels.Get("process_pid"), "host": r.labels.Get("host_name"), "build": r.cfg.Build,
		"version": r.labels.Get("service_version"), "gatherer": "run", "ran_ms": strconv.FormatInt(ran.Milliseconds(), 10)}}
	if end.Signal != 0 {
		e.Text = fmt.Sprintf("%s was killed by %s after %v", service, signalName(end.Signal), brief(ran))
		e.Attrs["signal"] = signalName(end.Signal)
		return e
	}
	e.Text = fmt.Sprintf("%s ended after %v, exit status %d", service, brief(ran), end.Code)
	e.Attrs["exit_code"] = strconv.Itoa(end.Code)
	return e
}

// brief rounds how long a program ran to what is read of it.
func brief(d time.Duration) time.Duration {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond)
	case d < time.Minute:
		return d.Round(100 * time.Millisecond)
	}
	return d.Round(time.Second)
}

// packOne makes records of one Taken: the series first, since they bound a record.
func (r *Reporter) packOne(t godebug.Taken) {
	// Samples of one series stand together: its labels are written once.
	slices.SortStableFunc(t.Samples, func(a, b series.Sample) int { return labels.Compare(a.Labels, b.Labels) })
	for first := true; first || len(t.Samples) > 0; first = false {
		var m wire.Meta
		var parts [][]byte
		n := fits(t.Samples, len(r.labels.String()))
		if n > 0 {
			b := series.Batch{Process: series.WithTarget(r.labels), Samples: t.Samples[:n]}
			msg, err := series.Encode(&b, true)
			if err != nil {
				r.cfg.Log.Error("cannot encode samples", "error", err)
				return
			}
			m.Metrics, parts = "metrics", append(parts, zip(msg))
			t.Samples = t.Samples[n:]
		}
		count := 0
		if first && t.Lines != nil {
			count = t.Lines.Count
			m.Lines = []wire.Lines{{Part: "lines", Source: t.Lines.Source, From: t.Lines.From, To: t.Lines.To, Count: count, Labels: r.labels.Map()}}
			parts = append(parts, t.Lines.Gzip)
		}
		if len(parts) == 0 {
			return
		}
		r.enqueue(m, parts, count)
	}
}

// fits returns how many samples a record may have whose process's labels are that long.
func fits(samples []series.Sample, labelBytes int) int {
	size := 0
	for i := range samples {
		size += 24
		if i == 0 || !labels.Equal(samples[i].Labels, samples[i-1].Labels) {
			size += labelBytes + 200
		}
		if size > maxRecordBytes || i == wire.MaxMetricSamples {
			return max(i, 1)
		}
	}
	return len(samples)
}

func zip(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = w.Write(b) // to memory
	_ = w.Close()
	return out.Bytes()
}

// enqueue adds a record of which a number of lines is, and makes room by dropping the oldest.
func (r *Reporter) enqueue(m wire.Meta, parts [][]byte, lines int) {
	now := time.Now().UnixMilli()
	m.V, m.Start, m.End, m.Profiles = wire.Version, now-1, now, []wire.Entry{}
	meta, err := json.Marshal(m)
	if err != nil {
		r.cfg.Log.Error("cannot encode a record", "error", err)
		return
	}
	var sections []byte
	for _, p := range parts {
		sections = wire.AppendSection(sections, p)
	}
	record := append(wire.RecordHead(meta, nil, len(sections)), sections...)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.queue, r.counts, r.queued = append(r.queue, record), append(r.counts, lines), r.queued+len(record)
	for r.queued > maxQueued {
		r.queued -= len(r.queue[0])
		r.dropped += r.counts[0]
		r.queue, r.counts = slices.Delete(r.queue, 0, 1), slices.Delete(r.counts, 0, 1)
	}
}

// batch returns the first records that fit into one, and how many they are.
func (r *Reporter) batch() (body []byte, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	body = []byte(wire.Magic)
	for _, record := range r.queue {
		if n > 0 && len(body)+len(record) > maxBatch {
			break
		}
		body = append(body, record...)
		n++
	}
	return body, n
}

// sent takes the first n records out of the queue, and counts the lines of those that were refused (by their place) as dropped, which it returns.
func (r *Reporter) sent(n int, refused []int) (lines int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, i := range refused {
		lines += r.counts[i]
	}
	r.dropped += lines
	for _, record := range r.queue[:n] {
		r.queued -= len(record)
	}
	r.queue, r.counts = slices.Delete(r.queue, 0, n), slices.Delete(r.counts, 0, n)
	return lines
}

// post sends a batch of n records, and returns how many of them are done with, and the places of those among them that are refused for good. An error says that all are to be sent again.
func (r *Reporter) post(ctx context.Context, body []byte, n int) (taken int, refused []int, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.cfg.URL+"/api/v1/batch", bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", wire.ContentType)
	req.Header.Set("User-Agent", r.cfg.Agent)
	if r.cfg.Token != "" {
		req.Header.Set("Authorization", "Bearer "+r.cfg.Token)
	}
	resp, err := r.cfg.Client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	switch {
	case resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode >= 500 || resp.StatusCode == http.StatusUnauthorized:
		return 0, nil, fmt.Errorf("the collector answered %d: %.300s", resp.StatusCode, bytes.TrimSpace(raw))
	case resp.StatusCode != http.StatusOK:
		r.cfg.Log.Error("the collector refused what the program printed", "status", resp.StatusCode, "answer", string(bytes.TrimSpace(raw[:min(len(raw), 300)])))
		for i := range n {
			refused = append(refused, i)
		}
		return n, refused, nil
	case err != nil:
		return 0, nil, err
	}
	var answer wire.BatchAnswer
	if err := json.Unmarshal(raw, &answer); err != nil {
		return 0, nil, fmt.Errorf("read the collector's answer: %w", err)
	}
	taken = min(len(answer.Results), n)
	if taken == 0 {
		return 0, nil, fmt.Errorf("the collector took nothing: %.300s", answer.Error)
	}
	for i, res := range answer.Results[:taken] {
		if res.Retry { // all of it again: what was taken is known, or changes nothing
			return 0, nil, fmt.Errorf("the collector cannot take it now: %.300s", res.Error)
		}
		if res.Status == wire.StatusRefused {
			r.cfg.Log.Error("the collector refused a record", "answer", string(res.Error))
			refused = append(refused, i)
		}
	}
	return taken, refused, nil
}
