package trigger

import (
	"testing"
	"time"

	"github.com/sonde-io/sonde/internal/catalog"
)

// TestHowLongItRan: an end lies between the last look that saw the process and the first that did not.
func TestHowLongItRan(t *testing.T) {
	began := time.UnixMilli(1_700_000_000_000)
	at := func(d time.Duration) time.Time { return began.Add(d) }
	for _, tt := range []struct {
		name       string
		alive, now time.Time
		want       string
	}{
		{"seen now and then", at(10 * time.Second), at(15 * time.Second), "10s to 15s"},
		{"watched closely", at(9800 * time.Millisecond), at(10 * time.Second), "10s"},
		{"never seen alive", time.Time{}, at(15 * time.Second), "at most 15s"},
	} {
		w := &watch{t: Target{Process: catalog.Process{Started: began.UnixMilli()}}, alive: tt.alive}
		if got := span(w.ran(tt.now)); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}
