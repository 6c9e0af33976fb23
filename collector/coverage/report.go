package coverage

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sonde-io/sonde/collector/discover"
)

// The limits of a report. What a node has beyond MaxItems is counted in More.
const (
	Version    = 1
	MaxItems   = 8192
	MaxEncoded = 1 << 20  // bytes, gzipped
	maxDecoded = 16 << 20 // bytes of JSON
	maxText    = 1024     // bytes of a name or a reason
	maxPartial = 8        // reasons why a watched process lacks something
)

// Report is what one node sees.
type Report struct {
	V          int      `json:"v"`
	Node       string   `json:"node"`           // who reports: the host's name, a pod's for a sidecar in a pod
	Name       string   `json:"name,omitempty"` // of the node as Kubernetes has it; "": Node
	Left       bool     `json:"left,omitempty"` // it was stopped on purpose: nothing is expected of it any more
	Time       int64    `json:"time"`           // Unix ms, by the node's clock
	Gatherer   string   `json:"gatherer"`
	Boot       string   `json:"boot,omitempty"`
	Namespaces []uint64 `json:"ns,omitempty"` // pid namespaces of which all is seen
	Items      []Item   `json:"items"`
	More       int      `json:"more,omitempty"`    // processes that are not in Items
	Unknown    int      `json:"unknown,omitempty"` // processes that may be Go programs, of which nothing can be read
}

// Item is one Go process that is expected to be watched.
type Item struct {
	Instance string   `json:"i"`
	Service  string   `json:"s,omitempty"`
	PID      int      `json:"p,omitempty"`  // as the node sees it
	Inner    int      `json:"pi,omitempty"` // as it sees itself, where that differs
	NS       uint64   `json:"ns,omitempty"` // inode of its pid namespace
	Ticks    uint64   `json:"t,omitempty"`  // field 22 of /proc/PID/stat
	Exe      string   `json:"e,omitempty"`
	Unit     string   `json:"u,omitempty"`    // systemd unit, such as etcd.service
	Pod      string   `json:"pod,omitempty"`  // NAMESPACE/NAME
	Gatherer string   `json:"g,omitempty"`    // "": it is not watched
	Reason   string   `json:"r,omitempty"`    // why it is not watched
	Partial  []string `json:"part,omitempty"` // what a watched process lacks, in words
}

// Watched reports whether the node gathers from it.
func (i *Item) Watched() bool { return i.Gatherer != "" }

// UnitOf returns the systemd unit that a cgroup's path belongs to, as it stands in /proc/PID/cgroup; "" for none. A container in the cgroup of its runtime's service is no part of that unit.
func UnitOf(cgroup string) string {
	unit := ""
	for part := range strings.SplitSeq(cgroup, "/") {
		if strings.HasSuffix(part, ".service") {
			unit = part
		}
		if strings.HasPrefix(part, "kubepods") || strings.HasSuffix(part, ".scope") {
			unit = "" // a container's, or a session's
		}
	}
	return unit
}

// settled is the age at which a process is expected to be watched: compilers and the like come and go.
const settled = 10 * time.Second

// from makes the items of a scan. partial says what a watched process lacks; it may be nil.
func from(r *discover.Report, node, gatherer string, partial func(instance string) []string) *Report {
	out := &Report{V: Version, Node: node, Time: r.Time.UnixMilli(), Gatherer: gatherer, Unknown: r.Unknown, Items: []Item{}}
	for i := range r.Processes {
		p := &r.Processes[i]
		if p.State == discover.SelfProcess {
			continue
		}
		if out.Boot == "" {
			out.Boot = p.BootID
		}
		if out.Name == "" {
			out.Name = clip(p.Labels["k8s_node_name"])
		}
		if p.PIDNS != 0 && !slices.Contains(out.Namespaces, p.PIDNS) {
			out.Namespaces = append(out.Namespaces, p.PIDNS)
		}
		if !p.Started.IsZero() && r.Time.Sub(p.Started) < settled && p.Gatherer == "" {
			continue
		}
		if len(out.Items) == MaxItems {
			out.More++
			continue
		}
		out.Items = append(out.Items, itemOf(p, partial))
	}
	slices.Sort(out.Namespaces)
	slices.SortFunc(out.Items, func(a, b Item) int { return strings.Compare(a.Instance, b.Instance) })
	return out
}

func itemOf(p *discover.Process, partial func(instance string) []string) Item {
	it := Item{Instance: p.Instance, Service: clip(p.Service), PID: p.PID, NS: p.PIDNS, Ticks: p.StartTicks, Exe: clip(path.Base(p.Exe)), Gatherer: p.Gatherer, Reason: clip(p.Reason)}
	if n := len(p.PIDs); n > 0 && p.PIDs[n-1] != p.PID {
		it.Inner = p.PIDs[n-1]
	}
	if name := p.Labels["k8s_pod_name"]; name != "" {
		it.Pod = clip(p.Labels["k8s_namespace_name"] + "/" + name)
	} else if p.PodUID != "" {
		it.Pod = "uid/" + clip(p.PodUID)
	}
	if p.ContainerID == "" && it.Pod == "" {
		it.Unit = clip(UnitOf(p.Cgroup))
	}
	if !it.Watched() {
		if it.Reason == "" {
			it.Reason = "not watched: " + string(p.State)
		}
		return it
	}
	var lacks []string
	if partial != nil {
		lacks = partial(p.Instance)
	}
	if it.Reason != "" { // what its gatherer has to say
		lacks, it.Reason = append([]string{it.Reason}, lacks...), ""
	}
	for _, why := range lacks[:min(len(lacks), maxPartial)] {
		it.Partial = append(it.Partial, clip(why))
	}
	return it
}

// redact applies f to every reason.
func (r *Report) redact(f func(string) string) {
	for i := range r.Items {
		it := &r.Items[i]
		it.Reason = clip(f(it.Reason))
		for k := range it.Partial {
			it.Partial[k] = clip(f(it.Partial[k]))
		}
	}
}

func clip(s string) string {
	if len(s) <= maxText {
		return s
	}
	return strings.ToValidUTF8(s[:maxText], "")
}

// Encode returns r as it is stored and sent: gzipped JSON. Items that would make it longer than MaxEncoded are left out and counted.
func (r *Report) Encode() ([]byte, error) {
	c := *r
	for {
		b, err := encode(&c)
		if err != nil {
			return nil, fmt.Errorf("encode report of %s: %w", r.Node, err)
		}
		if len(b) <= MaxEncoded || len(c.Items) == 0 {
			return b, nil
		}
		half := len(c.Items) / 2
		c.More += len(c.Items) - half
		c.Items = c.Items[:half]
	}
}

func encode(r *Report) ([]byte, error) {
	var buf bytes.Buffer
	zw, err := gzip.NewWriterLevel(&buf, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	if err := json.NewEncoder(zw).Encode(r); err != nil {
		return nil, err
	}
	if err := zw.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

// ErrInvalid says that bytes are no report.
var ErrInvalid = errors.New("invalid report")

// Decode reads what Encode wrote, or plain JSON. It takes no more memory than 16 MiB of JSON do, whatever the bytes say.
func Decode(data []byte) (*Report, error) {
	if len(data) >= 2 && data[0] == 0x1f && data[1] == 0x8b {
		zr, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		if data, err = io.ReadAll(io.LimitReader(zr, maxDecoded+1)); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
	}
	if len(data) > maxDecoded {
		return nil, fmt.Errorf("%w: more than %d bytes of JSON", ErrInvalid, maxDecoded)
	}
	var r Report
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if err := r.validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return &r, nil
}

func (r *Report) validate() error {
	switch {
	case r.V != Version:
		return fmt.Errorf("version %d, want %d", r.V, Version)
	case r.Node == "" || len(r.Node) > 253 || strings.ContainsFunc(r.Node, func(c rune) bool { return c <= ' ' || c == 0x7f }):
		return fmt.Errorf("%.64q is no name of a node", r.Node)
	case len(r.Items) > MaxItems:
		return fmt.Errorf("%d items, at most %d are accepted", len(r.Items), MaxItems)
	case len(r.Namespaces) > MaxItems:
		return fmt.Errorf("%d namespaces, at most %d are accepted", len(r.Namespaces), MaxItems)
	case r.More < 0 || r.Unknown < 0 || r.Time < 0:
		return errors.New("a number is negative")
	case len(r.Boot) > 128 || len(r.Gatherer) > 64 || len(r.Name) > maxText:
		return errors.New("a name is too long")
	}
	for i := range r.Items {
		it := &r.Items[i]
		if it.Instance == "" || len(it.Instance) > 128 {
			return fmt.Errorf("item %d has no instance of 1 to 128 bytes", i)
		}
		if len(it.Partial) > maxPartial {
			return fmt.Errorf("item %d lacks %d things, at most %d are accepted", i, len(it.Partial), maxPartial)
		}
		for _, s := range append([]string{it.Service, it.Exe, it.Unit, it.Pod, it.Gatherer, it.Reason}, it.Partial...) {
			if len(s) > maxText {
				return fmt.Errorf("item %d has a text of %d bytes, at most %d are accepted", i, len(s), maxText)
			}
		}
	}
	return nil
}
