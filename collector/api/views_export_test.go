package api

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestSpeedscope(t *testing.T) {
	f := filled(t, nil)
	w := f.get(t, "profile", "query", "cart", "type", "cpu", "format", "speedscope")
	var got struct {
		Profiles []struct {
			Unit     string
			EndValue int64
		}
	}
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != 200 {
		t.Fatalf("%d %v", w.Code, err)
	}
	if len(got.Profiles) != 1 || got.Profiles[0].EndValue != 33e7 || got.Profiles[0].Unit != "nanoseconds" || !strings.Contains(w.Header().Get("Content-Disposition"), "cpu-cpu.speedscope.json") {
		t.Errorf("%+v %v", got, w.Header())
	}
}

// TestNoPGO asks for a build's profile where there is none: that is no fault of the collector.
func TestNoPGO(t *testing.T) {
	f := newFixture(t, nil)
	f.push(t, "cart", "v1", "i1", time.Minute)
	if w := f.get(t, "profile", "query", "cart", "type", "cpu", "format", "pgo"); w.Code != 422 || !strings.Contains(w.Body.String(), "there are no stacks") || !strings.Contains(w.Body.String(), "hint") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
