package rungroup_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sonde-io/sonde/internal/rungroup"
)

// log is what actors did, in order.
type log struct {
	mu    sync.Mutex
	lines []string
}

func (l *log) add(s string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, s)
}

// waits is an actor that takes a while to stop.
func (l *log) waits(name string, stopping time.Duration, err error) func(context.Context) error {
	return func(ctx context.Context) error {
		<-ctx.Done()
		l.add("stop " + name)
		time.Sleep(stopping)
		l.add(name + " gone")
		return err
	}
}

func TestFirstToReturnStopsTheOthersInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g rungroup.Group
		var l log
		boom := errors.New("boom")
		g.Add("listener", l.waits("listener", 3*time.Second, nil))
		g.Add("scraper", func(ctx context.Context) error { time.Sleep(time.Minute); return boom })
		g.Add("compactor", l.waits("compactor", time.Second, context.Canceled))
		g.Add("store", l.waits("store", 0, nil))
		err := g.Run(t.Context())
		if !errors.Is(err, boom) || err.Error() != "scraper: boom" {
			t.Errorf("Run = %v, want scraper: boom", err)
		}
		want := []string{"stop listener", "listener gone", "stop compactor", "compactor gone", "stop store", "store gone"}
		if !slices.Equal(l.lines, want) {
			t.Errorf("stopped as %q, want %q", l.lines, want)
		}
	})
}

func TestEndOfContextIsNoError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g rungroup.Group
		var l log
		for i := range 3 {
			g.Add(fmt.Sprint(i), l.waits(fmt.Sprint(i), time.Duration(3-i)*time.Second, nil))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := g.Run(ctx); err != nil {
			t.Errorf("Run = %v", err)
		}
		if want := []string{"stop 0", "0 gone", "stop 1", "1 gone", "stop 2", "2 gone"}; !slices.Equal(l.lines, want) {
			t.Errorf("stopped as %q, want %q", l.lines, want)
		}
	})
}

func TestAllErrorsAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g rungroup.Group
		var l log
		full := errors.New("disk full")
		g.Add("flush", l.waits("flush", 0, full))
		g.Add("bad", func(context.Context) error { panic("ouch") })
		g.Add("late", l.waits("late", 0, fmt.Errorf("wait: %w", context.Canceled)))
		err := g.Run(t.Context())
		p, ok := errors.AsType[*rungroup.PanicError](err)
		if !errors.Is(err, full) || !ok || p.Value != "ouch" || !strings.Contains(string(p.Stack), "rungroup_test") || strings.Contains(err.Error(), "late") {
			t.Errorf("Run = %v, want the panic of bad with its stack and the error of flush, nothing of late", err)
		}
	})
}

func TestNilEndsTheGroup(t *testing.T) {
	var g rungroup.Group
	var l log
	g.Add("wait", l.waits("wait", 0, nil))
	g.Add("done", func(context.Context) error { return nil })
	if err := g.Run(t.Context()); err != nil || len(l.lines) != 2 {
		t.Errorf("Run = %v, %q", err, l.lines)
	}
	var empty rungroup.Group
	if err := empty.Run(t.Context()); err != nil {
		t.Errorf("Run of nothing = %v", err)
	}
}

// TestAnActorThatDiesDuringTheStop returns while an earlier one is still being waited for.
func TestAnActorThatDiesDuringTheStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g rungroup.Group
		var l log
		g.Add("slow", l.waits("slow", time.Minute, nil))
		g.Add("end", func(context.Context) error { return nil })
		g.Add("dies", func(context.Context) error { time.Sleep(time.Second); return errors.New("died") })
		if err := g.Run(t.Context()); err == nil || err.Error() != "dies: died" {
			t.Errorf("Run = %v, want dies: died", err)
		}
	})
}
