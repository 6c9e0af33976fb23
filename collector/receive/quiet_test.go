package receive

import (
	"fmt"
	"testing"
	"time"
)

func TestQuiet(t *testing.T) {
	var q quiet
	at := time.Unix(1000, 0)
	for i, tt := range []struct {
		words string
		after time.Duration
		want  bool
		n     int64
	}{
		{"full", 0, true, 0}, {"full", time.Second, false, 0}, {"other", time.Second, true, 0}, {"full", 59 * time.Second, false, 0}, {"full", time.Minute, true, 2}, {"full", 2 * time.Minute, true, 0},
	} {
		if ok, n := q.say(tt.words, at.Add(tt.after)); ok != tt.want || n != tt.n {
			t.Errorf("%d: %q after %v: %v, %d; want %v, %d", i, tt.words, tt.after, ok, n, tt.want, tt.n)
		}
	}
	for i := range 10 * maxQuiet {
		q.say(fmt.Sprint(i), at)
	}
	if len(q.said) > maxQuiet {
		t.Errorf("%d words are remembered, at most %d", len(q.said), maxQuiet)
	}
}
