package scrape

import (
	"errors"
	"testing"
	"time"

	"github.com/sonde-io/sonde/profiles"
)

// TestCapturesShareTheirBytes: what one look at a target brings is bounded in all, however many types it serves.
func TestCapturesShareTheirBytes(t *testing.T) {
	body := goroutineProfile(t)
	raw := body
	if profiles.IsGzip(body) {
		var err error
		if raw, err = profiles.Gunzip(nil, body, 1<<20); err != nil {
			t.Fatal(err)
		}
	}
	m, err := New(quick(newMemory()))
	if err != nil {
		t.Fatal(err)
	}
	target := Target{Service: "cart", URL: "http://127.0.0.1:1"}
	if err := target.normalize("n1"); err != nil {
		t.Fatal(err)
	}
	l := newLoop(m, target, true)
	now := time.Now()
	look := &capture{ty: "goroutine", start: now.Add(-time.Second), end: now, body: body}
	left := len(raw) + len(raw)/2
	var dec profiles.Decoder
	if p, err := l.interval(&dec, look, &left); err != nil || len(p.Samples) == 0 || left != len(raw)/2 {
		t.Errorf("the first: %v, %d bytes left, want %d", err, left, len(raw)/2)
	}
	_, err = l.interval(&dec, look, &left)
	if le, ok := errors.AsType[*profiles.LimitError](err); !ok || le.Limit != profiles.LimitBytes {
		t.Errorf("the second: %v, want it to be too large", err)
	}
}
