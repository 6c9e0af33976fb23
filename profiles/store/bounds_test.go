package store

import (
	"fmt"
	"testing"
)

// TestDictionariesAreBounded has many services that each send next to nothing: their empty tables count too.
func TestDictionariesAreBounded(t *testing.T) {
	d := newDictionaries()
	most := 0
	for i := range 3 * maxDictionaries / emptyDictionary {
		d.get(fmt.Sprint("service-", i))
		most = max(most, d.weight())
	}
	if limit := maxDictionaries + 2*emptyDictionary; most > limit {
		t.Errorf("dictionaries weigh up to %d nodes, want at most %d", most, limit)
	}
}

// TestLimiterForgetsServices: a service that sends nothing for the window takes no memory, and is learnt again when it comes back.
func TestLimiterForgetsServices(t *testing.T) {
	l := &seriesLimiter{max: 10}
	now := int64(1_800_000_000_000)
	for i := range 100 {
		must(t, l.allow(now, map[string][]seriesRef{fmt.Sprint("service-", i): {{key: "a"}}}))
	}
	now += seriesWindow.Milliseconds() + 1
	must(t, l.allow(now, map[string][]seriesRef{"alive": {{key: "a"}}}))
	if len(l.services) != 1 || l.knows("service-7") || !l.knows("alive") {
		t.Errorf("%d services are remembered, want only the one that still sends", len(l.services))
	}
}
