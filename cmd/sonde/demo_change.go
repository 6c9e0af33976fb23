package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"time"

	"github.com/sonde-io/sonde/cmd/sonde/internal/client"
	"github.com/sonde-io/sonde/internal/demo"
)

// changeCheckout replaces checkout's first version by the second when its time has come, and says so once there is something to compare.
func (d *demoRun) changeCheckout(ctx context.Context) error {
	type built struct {
		exe string
		err error
	}
	build := make(chan built, 1) // always received below: the go command is gone before the demo is
	go func() {
		if err := os.MkdirAll(d.buildDir(), 0o700); err != nil {
			build <- built{err: err}
			return
		}
		exe, err := demo.BuildCheckout(ctx, d.buildDir())
		build <- built{exe, err}
	}()

	v1 := d.service("checkout")
	change := time.NewTimer(d.flags.changeAfter)
	defer change.Stop()
	select {
	case <-change.C:
	case <-v1.Done():
	case <-ctx.Done():
	}
	v2 := <-build
	switch {
	case ctx.Err() != nil:
		return nil
	case errors.Is(v2.err, demo.ErrNoGo):
		fmt.Fprintln(d.out, "checkout's change to v2 is skipped: no go command")
	case v2.err != nil:
		fmt.Fprintf(d.out, "checkout's change to v2 is skipped: %v\n", v2.err)
	}
	if v2.err != nil {
		return d.watch(ctx, "checkout")
	}
	select {
	case <-v1.Done():
		return fmt.Errorf("service checkout (pid %d) ended", v1.PID())
	default:
	}
	if err := d.replaceCheckout(ctx, v1, v2.exe); err != nil {
		return err
	}
	if err := d.announceChange(ctx); err != nil {
		return err
	}
	return d.watch(ctx, "checkout")
}

// replaceCheckout stops v1 and starts exe on the same port.
func (d *demoRun) replaceCheckout(ctx context.Context, v1 *demo.Process, exe string) error {
	d.mu.Lock()
	delete(d.services, "checkout") // the load pauses
	d.mu.Unlock()
	v1.Stop(stopGrace)
	return d.start(ctx, demo.Spec{Name: "checkout", Version: "v2", Exe: exe, Args: []string{v1.Addr}, Log: d.log, Env: agentEnv("checkout", d.url)})
}

// announceChange waits for the collector's own event and for the new version's first CPU profile, and links to the comparison.
func (d *demoRun) announceChange(ctx context.Context) error {
	var deploy client.Event
	err := d.until(ctx, 500*time.Millisecond, func(ctx context.Context) (bool, error) {
		var es client.Events
		if err := d.client.GetJSON(ctx, "/api/v1/events", url.Values{"service": {"checkout"}, "kind": {"deploy"},
			"from": {unixMs(d.started.UnixMilli())}}, &es); err != nil {
			return false, nil // asked again
		}
		for _, e := range es.Events {
			if e.Attrs["to_version"] == "v2" {
				deploy = e
				return true, nil
			}
		}
		return false, nil
	})
	if err != nil {
		return notIfDone(ctx, err)
	}
	err = d.until(ctx, 500*time.Millisecond, func(ctx context.Context) (bool, error) {
		found, err := d.hasCPU(ctx, version("v2"))
		return found && err == nil, nil
	})
	if err != nil {
		return notIfDone(ctx, err)
	}
	fmt.Fprintf(d.out, "%s at %s: %s\n", clean(deploy.Text), time.UnixMilli(deploy.Time).Format("15:04:05"), d.diffURL(deploy.Time))
	return nil
}

// diffURL links to the comparison of the minute after the change with the minute before it. It is by share of the total: what the
// second version does more of stands out then, where by time nearly all of it is more.
func (d *demoRun) diffURL(change int64) string {
	minute := time.Minute.Milliseconds()
	return d.client.URL("/", url.Values{"type": {"cpu:cpu"}, "normalize": {"share"},
		"query": {version("v2")}, "from": {unixMs(change)}, "to": {unixMs(change + minute)},
		"base_query": {version("v1")}, "base_from": {unixMs(change - minute)}, "base_to": {unixMs(change)}})
}

func version(v string) string { return fmt.Sprintf(`{service_name="checkout",service_version=%q}`, v) }
