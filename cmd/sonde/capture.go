package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sonde-io/sonde/cmd/sonde/internal/client"
	"github.com/sonde-io/sonde/collector/capture"
	"github.com/sonde-io/sonde/profiles"
)

// taken is a capture as the collector answers it.
type taken struct {
	ID       string `json:"id"`
	Request  string `json:"request"`
	Kind     string `json:"kind"`
	Service  string `json:"service"`
	Instance string `json:"instance"`
	Host     string `json:"host"`
	Trigger  string `json:"trigger"`
	Reason   string `json:"reason"`
	State    string `json:"state"`
	Error    string `json:"error"`
	Attempt  int    `json:"attempt"`
	Created  int64  `json:"created"` // Unix ms
	Duration int64  `json:"duration"`
	Size     int64  `json:"size"`
	File     string `json:"file"`
}

func (c taken) ended() bool { return c.State != "asked" && c.State != "running" }

const captureLong = `Take something of running processes now: a profile, the stacks of all goroutines, an execution trace.

The collector asks the process's agent, or the gatherer that reaches it, and keeps what comes apart from the profiles that are gathered all the time. Of a
service with many processes one is chosen at random; with --all every one is captured, as many at once as the limits allow, in turns. A process is asked for one
thing at a time. Kinds: cpu, heap, allocs, goroutine, mutex, block, threadcreate, wall, offcpu (pprof); goroutines (every goroutine's stack as text: it stops the process for
as long as it takes); trace (execution trace); flight (the flight recorder's window of the agent).`

func (a *app) captureCommand() *cobra.Command {
	var f captureFlags
	cmd := &cobra.Command{
		Use:   "capture KIND",
		Short: "Take a profile, all goroutines or an execution trace of running processes now",
		Long:  captureLong,
		Example: `  sonde capture cpu --service cart --duration 30s
  sonde capture trace --service cart --duration 5s -o cart.trace && go tool trace cart.trace
  sonde capture goroutines --instance 9f86d081884c7d659a2feaa0c55ad015
  sonde capture heap --service cart --all
  sonde capture list --service cart
  sonde capture get 01kb2q4y7sgh6t8w9x3v5n1m -o cart.pb.gz`,
		Args:      cobra.MaximumNArgs(1),
		ValidArgs: capture.Kinds,
	}
	f.register(cmd)
	a.serverFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return withHint(usage(cmd, "name the kind of capture"), "one of %s; `sonde capture list` lists those that are there", strings.Join(capture.Kinds, ", "))
		}
		return a.capture(cmd, args[0], &f)
	}
	cmd.AddCommand(a.captureListCommand(), a.captureGetCommand())
	return cmd
}

type captureFlags struct {
	service, query, instance, duration, file, note string
	one, all, shadow, detach                       bool
}

func (f *captureFlags) register(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVarP(&f.service, "service", "s", "", "the service's name")
	fs.StringVarP(&f.query, "query", "q", "", `selector of processes, such as {service_name="cart",service_version="v2"}`)
	fs.StringVar(&f.instance, "instance", "", "one process, by its instance id")
	fs.StringVarP(&f.duration, "duration", "d", "", "how long: 30s (default 30s, of a trace 5s; of other kinds a moment, with a duration the difference over it)")
	fs.BoolVar(&f.one, "one", false, "one process of those selected, at random (the default)")
	fs.BoolVar(&f.all, "all", false, "every process that is selected")
	fs.StringVarP(&f.file, "output", "o", "", "file to write; with --all a directory; - for standard output (default a file named after the capture)")
	fs.StringVar(&f.note, "note", "", "why: it is shown in the list")
	fs.BoolVar(&f.shadow, "shadow", false, "only say what would be captured")
	fs.BoolVar(&f.detach, "detach", false, "print the ids and do not wait")
}

func (f *captureFlags) params(cmd *cobra.Command, kind string) (url.Values, error) {
	switch {
	case !capture.ValidKind(kind):
		return nil, withHint(usage(cmd, "%q is no kind of capture", kind), "it is one of %s", strings.Join(capture.Kinds, ", "))
	case f.service == "" && f.query == "" && f.instance == "":
		return nil, withHint(usage(cmd, "say of which processes: --service, --query or --instance"), "`sonde ps` lists them")
	case f.one && f.all:
		return nil, usage(cmd, "--one and --all exclude each other")
	case f.all && f.file == "-":
		return nil, usage(cmd, "several captures cannot go to standard output: name a directory with -o")
	}
	v := url.Values{"kind": {kind}}
	for name, value := range map[string]string{"service": f.service, "query": f.query, "instance": f.instance, "note": f.note, "duration": f.duration} {
		if value != "" {
			v.Set(name, value)
		}
	}
	if f.duration != "" {
		if d, err := profiles.ParseDuration(f.duration); err != nil || d < time.Second {
			return nil, usage(cmd, "read --duration: want a time of a second or more, such as 30s")
		}
	}
	if f.all {
		v.Set("spread", "all")
	}
	if f.shadow {
		v.Set("shadow", "true")
	}
	return v, nil
}

// askedFor is the answer to a request for captures.
type askedFor struct {
	Request  string  `json:"request"`
	Known    int     `json:"known"`
	Reached  int     `json:"reached"`
	Captures []taken `json:"captures"`
}

func (a *app) capture(cmd *cobra.Command, kind string, f *captureFlags) error {
	v, err := f.params(cmd, kind)
	if err != nil {
		return err
	}
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	ctx := cmd.Context()
	var answer askedFor
	if err := c.Change(ctx, http.MethodPost, "/api/v1/captures", v, &answer); err != nil {
		return err
	}
	first := answer.Captures[0]
	took := ""
	if first.Duration > 0 {
		took = " for " + (time.Duration(first.Duration) * time.Millisecond).String()
	}
	switch n := len(answer.Captures); {
	case f.shadow:
		_, err := fmt.Fprintf(a.stdout, "would capture %s of %s%s; %d of %s that are selected can be asked\n", kind, plural(int64(n), "process"), took, answer.Reached, plural(int64(answer.Known), "process"))
		return err
	case f.detach:
		for _, t := range answer.Captures {
			fmt.Fprintln(a.stdout, t.ID)
		}
		return nil
	case n == 1:
		fmt.Fprintf(a.stderr, "capturing %s of %s%s (process %s, 1 of %d)\n", kind, clean(first.Service), took, clean(first.Instance), answer.Known)
	default:
		fmt.Fprintf(a.stderr, "capturing %s of %s%s (%d are selected)\n", kind, plural(int64(n), "process"), took, answer.Known)
	}
	return a.await(ctx, c, answer.Request, f)
}

// captureEvery is how often the state of captures is asked for.
const captureEvery = 250 * time.Millisecond

// await waits until all captures of a request have ended, and saves each as it is done.
func (a *app) await(ctx context.Context, c *client.Client, request string, f *captureFlags) error {
	saved, said := map[string]bool{}, map[string]bool{}
	var failed []error
	for {
		var answer struct {
			Captures []taken `json:"captures"`
		}
		if err := c.GetJSON(ctx, "/api/v1/captures", url.Values{"request": {request}, "limit": {"20000"}}, &answer); err != nil {
			return err
		}
		slices.Reverse(answer.Captures) // the first asked first
		open := 0
		for _, t := range answer.Captures {
			switch {
			case !t.ended():
				open++
			case t.State == "done" && !saved[t.ID]:
				saved[t.ID] = true
				if err := a.save(ctx, c, t, f); err != nil {
					return err
				}
			case t.State != "done" && !said[t.ID]:
				said[t.ID] = true
				failed = append(failed, fmt.Errorf("capture %s of process %s %s: %s", t.ID, clean(t.Instance), t.State, clean(t.Error)))
				fmt.Fprintf(a.stderr, "process %s: %s: %s\n", clean(t.Instance), t.State, clean(t.Error))
			}
		}
		if open == 0 {
			if len(saved) == 0 && len(failed) > 0 {
				return failed[len(failed)-1]
			}
			if f.all && len(failed) > 0 {
				return fmt.Errorf("%d of %s were not taken", len(failed), plural(int64(len(answer.Captures)), "capture"))
			}
			return nil
		}
		select {
		case <-ctx.Done():
			return withHint(context.Cause(ctx), "what was asked for goes on: `sonde capture list` shows it")
		case <-time.After(captureEvery):
		}
	}
}

// save downloads a capture and says how to open it.
func (a *app) save(ctx context.Context, c *client.Client, t taken, f *captureFlags) error {
	path := f.file
	switch {
	case path == "":
		path = t.File
	case f.all:
		if err := os.MkdirAll(path, 0o755); err != nil {
			return err
		}
		path = filepath.Join(path, t.File)
	}
	body, err := c.Get(ctx, "/api/v1/captures/"+url.PathEscape(t.ID)+"/result", nil)
	if err != nil {
		return err
	}
	defer body.Close()
	if path == "-" {
		_, err := io.Copy(a.stdout, body)
		return err
	}
	if filepath.Base(path) != path && f.file == "" || path == "" { // the name is the collector's
		return fmt.Errorf("save capture %s: %q is no name of a file", t.ID, t.File)
	}
	if err := writeFile(path, body); err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.stdout, "%s: %s of %s, capture %s\n%s\n", path, t.Kind, byteText(t.Size), t.ID, opener(t.Kind, path))
	return err
}

// opener is the command that shows a capture.
func opener(kind, path string) string {
	switch {
	case kind == capture.Trace || kind == capture.Flight:
		return "go tool trace " + path
	case kind == capture.Goroutines:
		return "less " + path
	}
	return "go tool pprof -http=: " + path
}

func byteText(n int64) string {
	switch {
	case n >= 10<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 10<<10:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return plural(n, "byte")
}

func (a *app) captureListCommand() *cobra.Command {
	var service, kind, trigger string
	var limit int
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List captures, the newest first",
		Long:  "List captures, the newest first: those that were asked for and those that triggers took, with their states. What is done can be fetched with sonde capture get.",
		Args:  cobra.NoArgs,
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVarP(&service, "service", "s", "", "only of this service")
	fs.StringVar(&kind, "kind", "", "only of this kind")
	fs.StringVar(&trigger, "trigger", "", "only those that this trigger took")
	fs.IntVar(&limit, "limit", 100, "at most so many")
	out := outputFlag(cmd, "table", "json")
	a.clientFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		a.started = true
		v := url.Values{"limit": {strconv.Itoa(limit)}}
		for name, value := range map[string]string{"service": service, "kind": kind, "trigger": trigger} {
			if value != "" {
				v.Set(name, value)
			}
		}
		var answer struct {
			Captures []taken `json:"captures"`
		}
		if err := a.ask(cmd.Context(), "/api/v1/captures", v, &answer); err != nil {
			return err
		}
		if out.value == "json" {
			return writeJSON(a.stdout, answer.Captures)
		}
		if len(answer.Captures) == 0 {
			_, err := fmt.Fprintln(a.stdout, "nothing was captured; sonde capture cpu --service NAME does it")
			return err
		}
		tab := a.newTable("ID", "TIME", "KIND", "SERVICE", "INSTANCE", "STATE", "SIZE", "WHY")
		for _, c := range answer.Captures {
			why := c.Reason
			if c.Error != "" {
				why = c.Error
			}
			size := ""
			if c.Size > 0 {
				size = byteText(c.Size)
			}
			tab.add(c.ID, stamp(c.Created), clean(c.Kind), clean(c.Service), clean(c.Instance), c.State, dash(size), dash(clean(why)))
		}
		return tab.write(a.stdout)
	}
	return cmd
}

func (a *app) captureGetCommand() *cobra.Command {
	var f captureFlags
	cmd := &cobra.Command{
		Use:   "get ID",
		Short: "Fetch a capture",
		Long:  "Fetch a capture into a file and print the command that opens it. The ids are those of sonde capture list, and of events: an OOM kill names the captures from before it.",
		Example: `  sonde capture get 01kb2q4y7sgh6t8w9x3v5n1m
  sonde capture get 01kb2q4y7sgh6t8w9x3v5n1m -o - | less`,
		Args: cobra.ExactArgs(1),
	}
	cmd.Flags().StringVarP(&f.file, "output", "o", "", "file to write; - for standard output (default one named after the capture)")
	a.clientFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		a.started = true
		c, err := a.client()
		if err != nil {
			return err
		}
		defer c.Close()
		ctx, cancel := a.within(cmd.Context())
		defer cancel()
		var t taken
		if err := c.GetJSON(ctx, "/api/v1/captures/"+url.PathEscape(args[0]), nil, &t); err != nil {
			if e, ok := errors.AsType[*client.Error](err); ok && e.Status == http.StatusNotFound {
				return withHint(fmt.Errorf("there is no capture %q", args[0]), "`sonde capture list` lists them")
			}
			return err
		}
		if t.State != "done" {
			return fmt.Errorf("capture %s is %s: %s", t.ID, t.State, dash(clean(t.Error)))
		}
		return a.save(ctx, c, t, &f)
	}
	return cmd
}
