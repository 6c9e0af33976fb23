package bench

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"mime/multipart"
	"net/textproto"
	"testing"
)

// Boundary separates the parts of a push.
const Boundary = "sonde-bench-boundary"

// ContentType is that of a push.
const ContentType = "multipart/form-data; boundary=" + Boundary

// Sender is one instance of a service, as its agent describes it.
type Sender struct {
	Instance string
	process  json.RawMessage
	hash     string
}

// NewSender makes a sender with the labels that an agent in a cluster has.
func NewSender(t testing.TB, service, instance string, number int) *Sender {
	t.Helper()
	process, err := json.Marshal(map[string]any{
		"labels": map[string]string{"service_name": service, "service_version": "v1", "host_name": fmt.Sprintf("node%d", number%5), "process_pid": fmt.Sprint(1000 + number),
			"k8s_pod_name": fmt.Sprintf("%s-%d", service, number)},
		"go_version": "go1.26.8", "go_build_id": service + "/build", "pid": 1000 + number, "started": Epoch, "agent": "0.0.1",
		"build_info": "go\tgo1.26.8\npath\texample.com/" + service + "\nmod\texample.com/" + service + "\tv1.2.0\t\n",
	})
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(process)
	return &Sender{Instance: instance, process: process, hash: hex.EncodeToString(sum[:8])}
}

// Body appends the body of a push to buf[:0] and returns it: the number'th window, from 1, whose profiles all cover [start, end). The first one says what
// the process is; those that follow name it by its hash.
func (s *Sender) Body(t testing.TB, buf []byte, number uint64, start, end int64, entries []Entry) []byte {
	t.Helper()
	type profile struct {
		Part  string `json:"part"`
		Type  string `json:"type"`
		Start int64  `json:"start"`
		End   int64  `json:"end"`
	}
	list := make([]profile, len(entries))
	for i, e := range entries {
		list[i] = profile{e.Type, e.Type, start, end}
	}
	meta := map[string]any{"v": 1, "instance": s.Instance, "window": number, "part": 0, "start": start, "end": end, "process_hash": s.hash, "profiles": list,
		"stats": map[string]any{"capture_cpu_ms": 4}}
	if number == 1 {
		meta["process"] = s.process
	}
	raw, err := json.Marshal(meta)
	if err != nil {
		t.Fatal(err)
	}
	out := bytes.NewBuffer(buf[:0])
	mw := multipart.NewWriter(out)
	if err := mw.SetBoundary(Boundary); err != nil {
		t.Fatal(err)
	}
	part := func(name, contentType string, data []byte) {
		w, err := mw.CreatePart(textproto.MIMEHeader{"Content-Disposition": {`form-data; name="` + name + `"`}, "Content-Type": {contentType}})
		if err == nil {
			_, err = w.Write(data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	part("meta", "application/json", raw)
	for _, e := range entries {
		part(e.Type, "application/octet-stream", e.Data)
	}
	if err := mw.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
