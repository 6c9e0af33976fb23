package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sonde-io/sonde/cmd/sonde/internal/client"
	"github.com/sonde-io/sonde/collector"
	"github.com/sonde-io/sonde/internal/demo"
	"github.com/sonde-io/sonde/profiles"
)

// stopGrace is how long a service may take to end: cart's agent sends its last window meanwhile.
const stopGrace = 5 * time.Second

// run starts everything, tells the story, and ends everything in order: load, services, collector. The collector outlives the
// services, so that it takes the agent's last window.
func (d *demoRun) run(ctx context.Context) error {
	collecting, stopCollector := context.WithCancel(context.WithoutCancel(ctx))
	defer stopCollector()
	collected := make(chan error, 1)
	ready := make(chan string, 1)
	go func() {
		collected <- collector.Run(collecting, d.config(), collector.Options{Version: currentVersion().Version, Stderr: d.log,
			Ready: func(addr string) { ready <- addr }})
	}()

	story, endStory := context.WithCancelCause(ctx)
	defer endStory(nil)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case err := <-collected:
			collected <- err
			endStory(fmt.Errorf("the collector ended: %w", orEnded(err)))
		case <-story.Done():
		}
	}()
	err := d.tell(story, ready)
	if cause := context.Cause(story); cause != nil && errors.Is(err, context.Canceled) {
		err = cause
	}
	d.stopServices()
	endStory(nil)
	<-watched
	stopCollector()
	return errors.Join(err, <-collected)
}

func orEnded(err error) error {
	if err == nil {
		return errors.New("without an error")
	}
	return err
}

// tell is the demo's story. It returns when ctx is done or something fails.
func (d *demoRun) tell(ctx context.Context, ready <-chan string) (err error) {
	select {
	case addr := <-ready:
		d.url = "http://" + addr
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if d.client, err = client.New(client.Config{URL: d.url}); err != nil {
		return err
	}
	defer d.client.Close()
	if err := d.startServices(ctx); err != nil {
		return err
	}
	d.introduce()
	g, ctx := errgroup.WithContext(ctx)
	for name, load := range map[string]*demo.Load{"cart": demo.CartLoad(), "checkout": demo.CheckoutLoad(), "billing": demo.BillingLoad()} {
		g.Go(func() error {
			load.Run(ctx, func() string { return d.addr(name) })
			return nil
		})
	}
	g.Go(func() error { return d.announceFlame(ctx) })
	g.Go(func() error { return d.explainBilling(ctx) })
	g.Go(func() error { return d.changeCheckout(ctx) })
	for _, name := range []string{"cart", "billing"} { // checkout is watched by who replaces it
		g.Go(func() error { return d.watch(ctx, name) })
	}
	g.Go(func() error {
		<-ctx.Done()
		return context.Cause(ctx)
	})
	return g.Wait()
}

// until calls ok every period until it says yes or ctx is done. An error of ok ends it too.
func (d *demoRun) until(ctx context.Context, period time.Duration, ok func(context.Context) (bool, error)) error {
	t := time.NewTicker(period)
	defer t.Stop()
	for {
		done, err := ok(ctx)
		if done || (err != nil && ctx.Err() == nil) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-t.C:
		}
	}
}

// startServices starts the three at once.
func (d *demoRun) startServices(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for name := range demoServices {
		g.Go(func() error {
			spec := demo.Spec{Name: name, Version: "v1", Exe: d.exe, Args: []string{"demo-service", name, "127.0.0.1:0"}, Log: d.log,
				Env: agentEnv(name, d.url)}
			return d.start(ctx, spec)
		})
	}
	return g.Wait()
}

func (d *demoRun) start(ctx context.Context, spec demo.Spec) error {
	p, err := demo.Start(ctx, spec)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.services[spec.Name] = p
	return nil
}

func (d *demoRun) service(name string) *demo.Process {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.services[name]
}

// addr returns where a service listens, "" while it is replaced.
func (d *demoRun) addr(name string) string {
	if p := d.service(name); p != nil {
		return p.Addr
	}
	return ""
}

// watch returns an error when a service ends by itself.
func (d *demoRun) watch(ctx context.Context, name string) error {
	p := d.service(name)
	select {
	case <-ctx.Done():
		return nil
	case <-p.Done():
		return fmt.Errorf("service %s (pid %d) ended", name, p.PID())
	}
}

// stopServices ends all services at once and waits for them.
func (d *demoRun) stopServices() {
	d.mu.Lock()
	defer d.mu.Unlock()
	var wg sync.WaitGroup
	for _, p := range d.services {
		wg.Go(func() { p.Stop(stopGrace) })
	}
	wg.Wait()
}

func (d *demoRun) introduce() {
	fmt.Fprintf(d.out, "Sonde is at %s/\n", d.url)
	if d.flags.moved {
		fmt.Fprintln(d.out, "  (another port than usual: that one is taken)")
	}
	for _, s := range []struct{ name, what string }{
		{"cart", "carries the agent; it leaks goroutines"},
		{"checkout", "serves plain net/http/pprof; v1 until v2 takes its place in " + d.flags.changeAfter.String()},
		{"billing", "has neither"},
	} {
		fmt.Fprintf(d.out, "  %-8s  pid %-7d  %s\n", s.name, d.service(s.name).PID(), s.what)
	}
	server := ""
	if d.url != defaultServer {
		server = " --server " + d.url
	}
	fmt.Fprintf(d.out, "ask it from another terminal: %s ps%s\n", d.command(), server)
	fmt.Fprintf(d.out, "cart's goroutines, as they leak: %s\n", d.client.URL("/", url.Values{"query": {"cart"}, "type": {"goroutine:goroutine"}, "live": {"1"}}))
	fmt.Fprintf(d.out, "its runtime on one time line: %s\n", d.client.URL("/runtime", url.Values{"query": {"cart"}, "from": {"now-15m"}, "live": {"1"}}))
}

// command is how a person runs this binary again: go run leaves it in a directory that nobody wants to type.
func (d *demoRun) command() string {
	if strings.Contains(d.exe, string(filepath.Separator)+"go-build") {
		return "go run ./cmd/sonde"
	}
	return "sonde"
}

// announceFlame says when the first CPU profile can be looked at.
func (d *demoRun) announceFlame(ctx context.Context) error {
	err := d.until(ctx, 250*time.Millisecond, func(ctx context.Context) (bool, error) {
		for _, name := range []string{"cart", "checkout"} {
			sel := fmt.Sprintf(`{service_name=%q}`, name)
			if found, err := d.hasCPU(ctx, sel); !found || err != nil {
				continue // an answer that fails now is asked for again
			}
			fmt.Fprintf(d.out, "first flame graph, of %s, after %.0f s: %s\n", name, time.Since(d.started).Seconds(),
				d.client.URL("/", url.Values{"query": {name}, "type": {"cpu:cpu"}}))
			return true, nil
		}
		return false, nil
	})
	return notIfDone(ctx, err)
}

// hasCPU reports whether there is CPU time in what a selector selects, since the demo's start.
func (d *demoRun) hasCPU(ctx context.Context, selector string) (bool, error) {
	var top profiles.Top
	err := d.client.GetJSON(ctx, "/api/v1/top", url.Values{"query": {selector}, "type": {"cpu"}, "limit": {"1"},
		"from": {unixMs(d.started.UnixMilli())}}, &top)
	return top.Total > 0, err
}

// explainBilling says how billing is profiled all the same, or why it is not, in the collector's words.
func (d *demoRun) explainBilling(ctx context.Context) error {
	pid := d.service("billing").PID()
	_, port, err := net.SplitHostPort(d.service("billing").Addr)
	if err != nil {
		return fmt.Errorf("read address of billing: %w", err)
	}
	err = d.until(ctx, 500*time.Millisecond, func(ctx context.Context) (bool, error) {
		var ps client.Processes
		if err := d.client.GetJSON(ctx, "/api/v1/processes", nil, &ps); err != nil {
			return false, nil // asked again
		}
		for _, p := range ps.Processes {
			switch {
			case p.PID != pid:
			case p.Gatherer != "":
				ok, err := d.hasCPU(ctx, "billing")
				if ok && err == nil {
					fmt.Fprintf(d.out, "billing, which has neither, is profiled from outside: %s\n", d.client.URL("/", url.Values{"query": {"billing"}, "type": {"cpu:cpu"}}))
				}
				return ok && err == nil, nil
			// Looked at in the instant of its start it listened nowhere: that is not the reason that stays.
			case strings.Contains(p.Reason, port):
				fmt.Fprintf(d.out, "billing is seen but not profiled: %s\n", clean(p.Reason))
				return true, nil
			}
		}
		return false, nil
	})
	return notIfDone(ctx, err)
}

// notIfDone drops the error of a step that was cut short by the demo's end.
func notIfDone(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}
