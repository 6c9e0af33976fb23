package privacy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/sonde-io/sonde/collector/capture"
	"github.com/sonde-io/sonde/profiles"
)

// taken is an executor that has one answer.
type taken struct {
	data []byte
	err  error
}

func (taken) Instances() []string { return []string{"i1"} }

func (t taken) Capture(context.Context, capture.Task) (string, io.ReadCloser, error) {
	return capture.Binary, io.NopCloser(bytes.NewReader(t.data)), t.err
}

func TestCaptures(t *testing.T) {
	f, err := New(Config{DropLabels: []string{"user_id"}, Redact: []string{`[\w.]+@[\w.]+`}})
	if err != nil {
		t.Fatal(err)
	}
	var pprof bytes.Buffer
	if err := profiles.WriteProfile(&pprof, push().Profiles[0].Data); err != nil {
		t.Fatal(err)
	}
	get := func(data []byte, kind string, most int64) (string, error) {
		t.Helper()
		_, body, err := f.Executor(taken{data: data}).Capture(t.Context(), capture.Task{Kind: kind, MaxBytes: most})
		if err != nil {
			return "", err
		}
		out, err := io.ReadAll(body)
		if err != nil || body.Close() != nil {
			t.Fatal(err)
		}
		return string(out), nil
	}
	out, err := get(pprof.Bytes(), capture.CPU, 0)
	if err != nil {
		t.Fatal(err)
	}
	p, err := profiles.Parse([]byte(out), profiles.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	var values int64
	for i := range p.Samples {
		values += p.Row(i)[0]
	}
	for _, l := range p.Labels {
		if l.Key == "user_id" || strings.Contains(l.Str, "@") {
			t.Errorf("label %+v was let through", l)
		}
	}
	if values != 100 || len(p.Labels) == 0 || strings.Contains(strings.Join(p.Comments, ""), "@") {
		t.Errorf("values add up to %d, labels %v, comments %v", values, p.Labels, p.Comments)
	}
	if out, err := get([]byte("goroutine 1 [running]:\nmain.mail(ann@example.com)"), capture.Goroutines, 1000); err != nil || out != "goroutine 1 [running]:\nmain.mail([redacted])" {
		t.Errorf("%q, %v", out, err)
	}
	for kind, data := range map[string][]byte{capture.Trace: []byte("go 1.26 trace"), capture.Heap: []byte("no profile"), capture.Goroutines: make([]byte, 1001)} {
		if out, err := get(data, kind, 1000); err == nil {
			t.Errorf("a %s capture of %d bytes became %q", kind, len(data), out)
		}
	}
	labels, err := New(Config{KeepLabels: []string{"tenant"}})
	if err != nil {
		t.Fatal(err)
	}
	f = labels
	if out, err := get([]byte("go 1.26 trace"), capture.Trace, 0); err != nil || out != "go 1.26 trace" {
		t.Errorf("a trace where only labels are chosen: %q, %v", out, err)
	}
	gone := errors.New("gone")
	if _, _, err := f.Executor(taken{err: gone}).Capture(t.Context(), capture.Task{Kind: capture.Heap}); !errors.Is(err, gone) {
		t.Errorf("error %v", err)
	}
	if n := f.Executor(taken{}).Instances(); len(n) != 1 {
		t.Errorf("instances %v", n)
	}
	var none *Filter
	if _, wrapped := none.Executor(taken{}).(*executor); wrapped {
		t.Error("a filter of nothing wraps")
	}
}
