package peers

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/sonde-io/sonde/collector/receive"
	"github.com/sonde-io/sonde/collector/reply"
	"github.com/sonde-io/sonde/profiles"
	"github.com/sonde-io/sonde/profiles/store"
)

// source says whose senders a request is from: what their pushes are keyed by, and who gathered.
type source struct{ name, gatherer string }

var (
	pyroscope  = source{"pyroscope", "sdk"}
	otlpSource = source{"otlp", "otlp"}
)

// item is one profile of one process, as it was sent.
type item struct {
	origin     *origin
	what       string // in errors
	typ        string
	start, end int64 // Unix ms; 0: as data says
	data       *profiles.Profile
	cumulative bool   // its values count from the process's start
	build      string // id of the binary, "" where it is not known
}

// appendTime bounds the wait for a segment. It does not end with the request: whether a request was stored has to be known when it is repeated.
const appendTime = time.Minute

// attempted reads and stores a request that has not been stored yet.
func (h *Handler) attempted(p *receive.Peer, c content, do func(a *attempt) (partial, error)) (partial, error) {
	a, duplicate, err := h.once.begin(contextOf(p), c, p.Now())
	if err != nil {
		return partial{}, &reply.Error{Status: http.StatusServiceUnavailable, Message: "the request was given up", RetryAfter: 1, Cause: err}
	}
	if duplicate {
		h.metrics.duplicates.Inc()
		return partial{}, nil
	}
	done := false
	defer func() { h.once.end(a, done) }()
	left, err := do(a)
	done = err == nil
	return left, err
}

// keep stores items: one push for each process. What is wrong with one item does not cost the others; where nothing is left of a request it is refused.
func (h *Handler) keep(p *receive.Peer, s source, a *attempt, items []item) (left partial, err error) {
	k := keeping{h: h, p: p, source: s, attempt: a, remote: remoteHost(p.Request()), pushes: map[string]*store.Push{}, items: map[string]int{}}
	stored := []bool(nil)
	defer func() {
		if err == nil {
			return
		}
		// What was subtracted and is not stored is a gap.
		for i, name := range k.names {
			switch {
			case i >= len(stored) || !stored[i]:
				h.sessions.lost(k.pushes[name].Process.Instance)
			case a != nil:
				if a.stored == nil {
					a.stored = map[string]bool{}
				}
				a.stored[name] = true
			}
		}
	}()
	var first error
	for i := range items {
		if err := k.add(&items[i]); err != nil {
			if e, ok := err.(*reply.Error); !ok || e.RetryAfter > 0 {
				return left, err
			}
			if left.rejected++; first == nil {
				first = err
			}
		}
	}
	if first != nil {
		if left.why = words(first.(*reply.Error)); int(left.rejected) == len(items) {
			return left, first
		}
		h.metrics.rejected.Add(float64(left.rejected))
	}
	if len(k.names) == 0 {
		return left, nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(contextOf(p)), appendTime)
	defer cancel()
	pushes := make([]store.Push, len(k.names))
	for i, name := range k.names {
		pushes[i] = *k.pushes[name]
	}
	stored, err = p.Append(ctx, pushes)
	return left, err
}

// keeping is a request on its way into the store.
type keeping struct {
	h       *Handler
	p       *receive.Peer
	source  source
	attempt *attempt
	remote  string
	items   map[string]int         // by instance, those that were stored before too
	pushes  map[string]*store.Push // by instance and how manieth push of it
	names   []string               // of pushes in their order
}

// maxPushProfiles is the most profiles that a push has on its way to another collector.
const maxPushProfiles = 64

// add adds an item to its process's push. Its error is a *reply.Error.
func (k *keeping) add(it *item) error {
	id, push, err := k.process(it)
	if err != nil || push == nil {
		return err
	}
	if it.data.Columns() == 0 {
		return reply.Errorf(http.StatusUnprocessableEntity, "%s: it has no sample types", it.what)
	}
	settleColumns(it.typ, it.data)
	sampleLabels(it.data)
	if z := k.h.symbols; z != nil {
		k.h.metrics.named.Add(float64(it.data.Symbolize(z)))
	}
	k.interval(id, it)
	if err := k.p.CheckInterval(it.what, it.start, it.end); err != nil {
		return err
	}
	data := it.data
	if it.cumulative {
		if data, err = k.h.sessions.subtract(k.source.name, id, it.typ, it.data); err != nil {
			return reply.Errorf(http.StatusUnprocessableEntity, "%s: %v", it.what, err)
		}
		if data == nil {
			return nil
		}
	}
	if push.Process.BuildID == "" {
		push.Process.BuildID = cut(cmp.Or(it.origin.build, it.build), 128)
	}
	push.Profiles = append(push.Profiles, store.Profile{Labels: push.Process.Labels, Type: it.typ, Start: it.start, End: it.end, Data: data})
	return nil
}

// process returns the push of an item's process, nil where it was stored by an earlier attempt.
func (k *keeping) process(it *item) (id string, push *store.Push, err error) {
	o := it.origin
	if o.row.Instance == "" {
		o.fit(k.p.Limits())
		k.h.metrics.stripped.WithLabelValues("process").Add(float64(o.stripped))
		o.stripped = 0
		o.row.Instance = o.id(k.remote)
	}
	id = o.row.Instance
	// The same items make the same pushes when the request is repeated.
	name := id + "#" + strconv.Itoa(k.items[id]/maxPushProfiles)
	k.items[id]++
	if k.attempt != nil && k.attempt.stored[name] {
		return id, nil, nil
	}
	if push := k.pushes[name]; push != nil {
		return id, push, nil
	}
	ls, err := k.p.Labels(o.labels, id)
	if err != nil {
		return id, nil, err
	}
	now := k.p.Now().UnixMilli()
	row := o.row
	row.Service, row.Labels, row.Gatherer, row.State, row.FirstSeen, row.LastSeen = ls.Get("service_name"), ls, k.source.gatherer, "running", now, now
	row.GoVersion, row.Exe = cut(row.GoVersion, 256), cut(row.Exe, 4096)
	push = &store.Push{Key: k.h.sessions.key(k.source.name, id), Process: &row}
	k.pushes[name] = push
	k.names = append(k.names, name)
	return id, push, nil
}

// interval settles what time an item stands for: what the request says, else what the profile says, else the time since the one before.
func (k *keeping) interval(id string, it *item) {
	d := it.data
	start, end := it.start, it.end
	if d.TimeNanos > 0 && (start == 0 || end == 0 || end <= start) {
		at := d.TimeNanos / int64(time.Millisecond)
		if d.DurationNanos > 0 && !it.cumulative {
			start, end = at, at+max(d.DurationNanos/int64(time.Millisecond), 1)
		} else {
			start, end = 0, at
		}
	}
	if end == 0 {
		if end = k.p.Now().UnixMilli(); start != 0 && start < end {
			it.start, it.end = start, end
			return
		}
	}
	if since := k.h.sessions.since(k.source.name, id, it.typ, end); start == 0 || it.cumulative {
		start = since
	}
	if end <= start {
		end = start + 1 // a sender that was flushed at once: the time it stands for is short
	}
	it.start, it.end = start, end
}

// service returns the labels' service_name, or what stands for it where a sender does not name one.
func service(labels map[string]string) string {
	for _, name := range []string{"service_name", "service", "app", "app_kubernetes_io_name", "k8s_deployment_name", "job", "process_executable_name"} {
		if v := labels[name]; v != "" {
			return v
		}
	}
	return "unknown_service"
}

// mainBuild returns the build id of the binary that a pprof profile is of: by convention its first mapping.
func mainBuild(p *profiles.Profile) string {
	if len(p.Mappings) == 0 {
		return ""
	}
	return p.Mappings[0].BuildID
}

// ownBuild is the build id of a process whose executable is called name, in a profile of many binaries.
func ownBuild(p *profiles.Profile, names ...string) string {
	for i := range p.Mappings {
		if m := &p.Mappings[i]; m.BuildID != "" && m.File != "" && slices.Contains(names, m.File) {
			return m.BuildID
		}
	}
	return ""
}

// missing says that a request lacks something.
func missing(format string, args ...any) error {
	return &reply.Error{Status: http.StatusBadRequest, Message: fmt.Sprintf(format, args...)}
}
