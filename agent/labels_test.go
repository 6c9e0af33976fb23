package agent

import (
	"context"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestSetLabelsSendsTheProcessAgain(t *testing.T) {
	c := newCollector(t)
	a := quick(t, c, 50*time.Millisecond, Config{Types: []Type{Heap}})
	wait(t, "the first window", func() bool { return len(c.stored()) > 0 })
	a.SetLabels(map[string]string{"shard": "7", "service_name": "other"})
	wait(t, "a process with the label", func() bool {
		for _, p := range c.stored()[1:] {
			if p.process.Labels["shard"] == "7" && p.process.Labels["service_name"] == "test" {
				return true
			}
		}
		return false
	})
}

func TestDoLabelsArriveAndLongOnesAreStripped(t *testing.T) {
	c := newCollector(t)
	a := quick(t, c, time.Hour, Config{Types: []Type{CPU, Goroutine}})
	long := strings.Repeat("x", MaxLabelValue+1)
	stop, ready := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		Do(context.Background(), Labels("route", "/checkout", "body", long, "odd"), func(context.Context) {
			close(ready)
			<-stop
		})
	}()
	<-ready
	pprof.Do(context.Background(), pprof.Labels("query", long, "tier", "gold"), func(context.Context) {
		burn(time.Now().Add(300 * time.Millisecond))
	})
	before := strippedInDo.Load()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	close(stop)
	wg.Wait()
	if before == 0 {
		t.Error("Labels counted nothing")
	}
	p := c.stored()[0]
	if p.data[CPU] == nil || p.data[Goroutine] == nil {
		t.Fatalf("skipped: %v", p.meta.Stats.Skipped)
	}
	for typ, want := range map[Type][]string{Goroutine: {"route", "/checkout", "odd", "sonde_stripped"}, CPU: {"tier", "gold", "sonde_stripped"}} {
		for _, s := range want {
			if !hasString(p.data[typ], s) {
				t.Errorf("%s: no %q", typ, s)
			}
		}
		if hasString(p.data[typ], long) {
			t.Errorf("%s: the long value is still there", typ)
		}
	}
	if p.meta.Stats.LabelsStripped == 0 {
		t.Error("the window does not say that labels were stripped")
	}
}
