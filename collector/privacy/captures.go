package privacy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/sonde-io/sonde/collector/capture"
	"github.com/sonde-io/sonde/profiles"
)

// Executor returns an executor that hands on what may leave of each capture that next takes; next itself where all may.
func (f *Filter) Executor(next capture.Executor) capture.Executor {
	if f == nil {
		return next
	}
	return &executor{f: f, Executor: next}
}

type executor struct {
	capture.Executor
	f *Filter
}

// errTrace is why an execution trace does not leave: it is binary, and what the program logged into it stands anywhere.
var errTrace = errors.New("an execution trace may hold what the program logged, which cannot be redacted (setting privacy: redact)")

// maxCapture bounds a capture that is read to be redacted, in bytes, where its task does not.
const maxCapture = 256 << 20

// Capture implements capture.Executor.
func (e *executor) Capture(ctx context.Context, t capture.Task) (string, io.ReadCloser, error) {
	if e.f.redact != nil && (t.Kind == capture.Trace || t.Kind == capture.Flight) {
		return "", nil, errTrace
	}
	contentType, body, err := e.Executor.Capture(ctx, t)
	if err != nil || t.Kind == capture.Trace || t.Kind == capture.Flight {
		return contentType, body, err
	}
	data, err := readCapture(body, t.MaxBytes)
	if err == nil && capture.IsProfile(t.Kind) {
		data, err = e.f.pprof(data)
	} else if err == nil && e.f.redact != nil {
		data = e.f.redact.ReplaceAllLiteral(data, []byte(Redacted))
	}
	if err != nil {
		return "", nil, fmt.Errorf("redact capture: %w", err)
	}
	return contentType, io.NopCloser(bytes.NewReader(data)), nil
}

func readCapture(body io.ReadCloser, limit int64) ([]byte, error) {
	defer body.Close()
	if limit <= 0 || limit > maxCapture {
		limit = maxCapture
	}
	data, err := io.ReadAll(io.LimitReader(body, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("it is longer than %d bytes", limit)
	}
	return data, err
}

// pprof returns a pprof profile as it may leave, gzipped.
func (f *Filter) pprof(data []byte) ([]byte, error) {
	p, err := profiles.Parse(data, capture.Limits)
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	if err := profiles.WriteProfile(&buf, f.profile(p, &scratch{values: map[string]string{}})); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}
