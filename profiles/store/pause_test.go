package store

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"
)

// TestGatherPause writes the first push at once and has those that follow closely wait for each other; closing the store waits for no pause.
func TestGatherPause(t *testing.T) {
	e := newEnv(t, func(c *Config) { c.GatherPause, c.GatherQuiet, c.GatherDelay = time.Hour, time.Hour, time.Hour })
	rng := rand.New(rand.NewPCG(8, 8))
	push := func(i int) Push {
		for {
			if p, _ := randomPush(rng, "cart", fmt.Sprint("i", i), 1, epoch, epoch+15_000); len(p.Profiles) > 0 {
				return p
			}
		}
	}
	must(t, e.store.Append(t.Context(), push(0)))
	errs := make(chan error, 3)
	for i := range 3 {
		go func(p Push) { errs <- e.store.Append(t.Context(), p) }(push(i + 1))
	}
	for e.store.gathered() < 3 {
		runtime.Gosched()
	}
	must(t, e.store.Close())
	for range 3 {
		must(t, <-errs)
	}
	e.reopen()
	u, err := e.store.Usage(t.Context())
	must(t, err)
	if u.Segments != 2 {
		t.Errorf("there are %d segments, want one of the first push and one of the three", u.Segments)
	}
	e.check()
}

// TestGatherQuiet has a sender that waits for each answer wait for nobody else: the pause of an hour ends where no push follows.
func TestGatherQuiet(t *testing.T) {
	e := newEnv(t, func(c *Config) { c.GatherPause, c.GatherQuiet, c.GatherDelay = time.Hour, time.Millisecond, time.Hour })
	rng := rand.New(rand.NewPCG(9, 9))
	for i := range 5 {
		p, _ := randomPush(rng, "cart", fmt.Sprint("i", i), 1, epoch, epoch+15_000)
		must(t, e.store.Append(t.Context(), p))
	}
	e.check()
}
