package agent

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/textproto"
	"slices"
	"strconv"
	"time"
)

// This file is the client's side of POST /api/v1/push as ARCHITECTURE.md describes it. testdata/push holds golden bytes that the collector's tests read too.

// Version is the agent's version, sent with the process object and the User-Agent.
const Version = "0.0.1"

// meta is the first part of a push.
type meta struct {
	V           int             `json:"v"`
	Instance    string          `json:"instance"`
	Window      uint64          `json:"window"`
	Part        int             `json:"part"`
	Start       int64           `json:"start"` // Unix milliseconds
	End         int64           `json:"end"`
	ProcessHash string          `json:"process_hash"`
	Process     json.RawMessage `json:"process,omitempty"`
	Profiles    []entry         `json:"profiles"`
	Events      []event         `json:"events,omitempty"`
	Metrics     Type            `json:"metrics,omitempty"` // the part with the metrics: a gzipped WriteRequest of Prometheus' remote-write 1.0, without the process's labels
	Stats       stats           `json:"stats"`
}

// entry names one profile of the window and the interval that it covers.
type entry struct {
	Part    string `json:"part"`
	Type    Type   `json:"type"`
	Start   int64  `json:"start"`
	End     int64  `json:"end"`
	Weight  int64  `json:"weight,omitempty"`  // of how many instances this one stands for; the collector multiplies the values; 0: 1
	Capture string `json:"capture,omitempty"` // id of the capture that it belongs to
}

// event is something that happened to the process.
type event struct {
	Time    int64             `json:"time"` // Unix milliseconds
	Kind    string            `json:"kind"`
	Service string            `json:"service"`
	Text    string            `json:"text"`
	Attrs   map[string]string `json:"attrs"`
}

// stats is the agent's account of itself. The counters are since the start; the CPU is what the agent used since the window before.
type stats struct {
	WindowsDropped uint64            `json:"windows_dropped"`
	WindowsFailed  uint64            `json:"windows_failed"`
	LabelsStripped uint64            `json:"labels_stripped"`
	CaptureCPUms   int64             `json:"capture_cpu_ms"`
	Skipped        map[string]string `json:"skipped,omitempty"` // type: why it is not in this window
}

// ended is the event with which an agent takes its leave in its last window. Whoever watches the process itself knows better when and how it ended: by says who tells.
func (p *processInfo) ended(instance string, at time.Time) event {
	ran := max(at.Sub(time.UnixMilli(p.Started)), 0)
	ms := strconv.FormatInt(ran.Milliseconds(), 10)
	service := p.Labels["service_name"]
	return event{Time: at.UnixMilli(), Kind: "exit", Service: service, Text: service + " closed its agent after " + ran.Round(time.Second).String(), Attrs: map[string]string{
		"instance": instance, "pid": strconv.Itoa(p.PID), "host": p.Labels["host_name"], "version": p.Labels["service_version"], "gatherer": "agent", "by": "agent", "ran_ms": ms, "ran_most_ms": ms}}
}

// processInfo is the process object.
type processInfo struct {
	Labels     map[string]string `json:"labels"`
	GoVersion  string            `json:"go_version"`
	BuildInfo  string            `json:"build_info,omitempty"`
	GoBuildID  string            `json:"go_build_id,omitempty"`
	GNUBuildID string            `json:"gnu_build_id,omitempty"`
	Exe        string            `json:"exe,omitempty"`
	PID        int               `json:"pid"`
	BootID     string            `json:"boot_id,omitempty"`
	PIDNS      uint64            `json:"pid_ns,omitempty"`
	StartTicks uint64            `json:"start_ticks,omitempty"`
	NSPIDs     []int             `json:"ns_pids,omitempty"`
	Started    int64             `json:"started"` // Unix milliseconds
	Conditions map[string]string `json:"conditions,omitempty"`
	Agent      string            `json:"agent"`
}

// encode returns the object's JSON and the hash that names it.
func (p *processInfo) encode() (raw json.RawMessage, hash string, err error) {
	raw, err = json.Marshal(p)
	if err != nil {
		return nil, "", fmt.Errorf("encode process: %w", err)
	}
	sum := sha256.Sum256(raw)
	return raw, hex.EncodeToString(sum[:8]), nil
}

// window is one push, encoded. rest never changes; head changes where the collector asks for the process (428), and once where
// a capture that the window belongs to was granted, before the first attempt.
type window struct {
	num      uint64
	boundary string
	meta     meta
	process  json.RawMessage // what to add on 428
	head     []byte          // the meta part
	rest     [][]byte        // the profiles and the metrics, what stands between them, and the closing boundary
	length   int             // of rest, in bytes
}

// newWindow encodes a window. data[i] is the gzipped profile of m.Profiles[i]; what m.Metrics names is the last of data. Both become parts of the window.
func newWindow(m meta, process json.RawMessage, data [][]byte, boundary string) (*window, error) {
	w := &window{num: m.Window, boundary: boundary, meta: m, process: process}
	if err := w.encodeHead(); err != nil {
		return nil, err
	}
	var frame bytes.Buffer
	mw := multipart.NewWriter(&frame)
	if err := mw.SetBoundary(boundary); err != nil {
		return nil, fmt.Errorf("encode window: %w", err)
	}
	names := make([]string, 0, len(data))
	for _, e := range m.Profiles {
		names = append(names, e.Part)
	}
	if m.Metrics != "" {
		names = append(names, string(m.Metrics))
	}
	for i, name := range names {
		// A writer with no part yet starts without the line break that separates it from the meta part before.
		if i == 0 {
			frame.WriteString("\r\n")
		}
		if err := writePart(mw, name, "application/octet-stream", nil); err != nil {
			return nil, err
		}
		w.add(bytes.Clone(frame.Bytes()))
		w.add(data[i])
		frame.Reset()
	}
	if err := mw.Close(); err != nil {
		return nil, fmt.Errorf("encode window: %w", err)
	}
	w.add(frame.Bytes())
	return w, nil
}

// data returns the gzipped profile of meta.Profiles[i]. In rest, what stands between the profiles comes before each.
func (w *window) data(i int) []byte { return w.rest[2*i+1] }

func (w *window) add(p []byte) {
	w.rest = append(w.rest, p)
	w.length += len(p)
}

// encodeHead writes the meta part. The multipart writer is not closed: the profiles follow in rest.
func (w *window) encodeHead() error {
	raw, err := json.Marshal(&w.meta)
	if err != nil {
		return fmt.Errorf("encode window: %w", err)
	}
	var b bytes.Buffer
	mw := multipart.NewWriter(&b)
	if err := mw.SetBoundary(w.boundary); err != nil {
		return fmt.Errorf("encode window: %w", err)
	}
	if err := writePart(mw, "meta", "application/json", raw); err != nil {
		return err
	}
	w.head = b.Bytes()
	return nil
}

// addProcess puts the process object into the window, which the collector asked for.
func (w *window) addProcess() error {
	w.meta.Process = w.process
	return w.encodeHead()
}

// tell puts an event into the window.
func (w *window) tell(e event) error {
	w.meta.Events = append(w.meta.Events, e)
	return w.encodeHead()
}

// mark says of the profiles of the given types which capture they belong to.
func (w *window) mark(types []Type, capture string) error {
	entries := slices.Clone(w.meta.Profiles)
	for i := range entries {
		if slices.Contains(types, entries[i].Type) {
			entries[i].Capture = capture
		}
	}
	w.meta.Profiles = entries
	return w.encodeHead()
}

// windowBytes is about what a window costs beside its bytes.
const windowBytes = 1 << 10

// size is what the window costs in the queue, in bytes.
func (w *window) size() int { return w.bytes() + windowBytes }

// bytes is the length of the request's body.
func (w *window) bytes() int { return len(w.head) + w.length }

// body returns the request's body from its start.
func (w *window) body() io.Reader {
	parts := []io.Reader{bytes.NewReader(w.head)}
	for _, p := range w.rest {
		parts = append(parts, bytes.NewReader(p))
	}
	return io.MultiReader(parts...)
}

func writePart(mw *multipart.Writer, name, contentType string, data []byte) error {
	h := textproto.MIMEHeader{
		"Content-Disposition": {`form-data; name="` + name + `"`},
		"Content-Type":        {contentType},
	}
	p, err := mw.CreatePart(h)
	if err == nil {
		_, err = p.Write(data)
	}
	if err != nil {
		return fmt.Errorf("encode window: %w", err)
	}
	return nil
}

// answer is the collector's reply to a push.
type answer struct {
	Status   string    `json:"status"`
	Settings *settings `json:"settings"`
}

// settings are the collector's wishes. Fields that are absent leave the agent's own setting.
type settings struct {
	Rev      string `json:"rev"`
	Enabled  *bool  `json:"enabled"`
	Metrics  *bool  `json:"metrics"`
	Types    []Type `json:"types"`
	CPURate  *int   `json:"cpu_rate"`
	PeriodMS *int64 `json:"period_ms"`
	Until    int64  `json:"until"` // Unix milliseconds; 0: until told otherwise

	Rotate   *rotate          `json:"rotate"`
	Captures *captureSettings `json:"captures"`
	Triggers []rule           `json:"triggers"`
}

// rotate makes an instance take its turn: it is profiled for these types in one slot of as many as there are groups.
type rotate struct {
	Types  []Type `json:"types"`
	Groups int64  `json:"groups"`
	SlotMS int64  `json:"slot_ms"`
}

// captureSettings say whether the collector wants to be asked for captures.
type captureSettings struct {
	Poll bool `json:"poll"`
}
