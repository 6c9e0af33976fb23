package receive

import (
	"context"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/sonde-io/sonde/profiles/store"
)

// slowSink takes pushes over at once and answers when it is told to, as a store does that waits for its disk.
type slowSink struct {
	memory
	taken  chan struct{}
	answer chan struct{}
}

func (s *slowSink) Append(ctx context.Context, p store.Push) error {
	err := s.memory.Append(ctx, p)
	p.Taken()
	s.taken <- struct{}{}
	<-s.answer
	return err
}

// TestWaitingHoldsNothing lets many more pushes wait for the disk than there are slots: none holds a slot, a turn to decode or bytes while it waits.
func TestWaitingHoldsNothing(t *testing.T) {
	pushes := 4 * runtime.GOMAXPROCS(0) * testLimits.Concurrent
	sink := &slowSink{taken: make(chan struct{}, pushes), answer: make(chan struct{})}
	h, mux, _ := newTest(t, &sink.memory, func(c *Config) { c.Sink = sink })
	before := h.budget.left.Load()
	var wg sync.WaitGroup
	for i := range pushes {
		wg.Go(func() {
			if rec, a := do(t, mux, newWindow(t, i+1, true).request(t)); rec.Code != 200 {
				t.Errorf("push %d: %d %+v", i, rec.Code, a)
			}
		})
		select {
		case <-sink.taken:
		case <-time.After(10 * time.Second):
			t.Fatalf("push %d is not taken while those before it wait", i)
		}
	}
	if slots, working, left := len(h.slots), len(h.working), h.budget.left.Load(); slots != 0 || working != 0 || left != before {
		t.Errorf("waiting pushes hold %d slots, %d turns and %d bytes", slots, working, before-left)
	}
	close(sink.answer)
	wg.Wait()
}
