package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sonde-io/sonde/cmd/sonde/internal/client"
	"github.com/sonde-io/sonde/profiles"
)

// maxFile bounds a local profile, in bytes. The collector's own limit of a body is lower by default.
const maxFile = 256 << 20

type pushFlags struct {
	service, typ, instance, key string
	labels                      map[string]string
	start, end                  string
}

// pushed is one line of what `sonde push` prints.
type pushed struct {
	File    string `json:"file"`
	Status  string `json:"status"` // ok or duplicate
	Samples int    `json:"samples"`
}

func (a *app) pushCommand() *cobra.Command {
	var f pushFlags
	cmd := &cobra.Command{
		Use:   "push FILE...",
		Short: "Store profiles from files",
		Long: `Store pprof profiles from files (- is standard input), gzipped or not, each as one profile of the service.

The values are stored as they are: what the runtime counts up from its start (allocs, mutex, block) is the sender's to
subtract. Without --start and --end the profile's own time and duration count. The same file with the same parameters is
stored once, however often it is pushed.`,
		Example: `  sonde push --service batch --type cpu cpu.pb.gz
  sonde push --service batch --type heap --label host_name=n1 heap-*.pb.gz
  go test -cpuprofile cpu.out ./... && sonde push --service mytests --type cpu cpu.out`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("name at least one FILE; - is standard input")
			}
			return nil
		},
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVarP(&f.service, "service", "s", "", "the service's name (required)")
	fs.StringVarP(&f.typ, "type", "t", "", "type of profile: cpu, heap, goroutine, mutex, block, … (required)")
	fs.StringToStringVarP(&f.labels, "label", "l", nil, "label of the process, NAME=VALUE; may be repeated")
	fs.StringVar(&f.instance, "instance", "", "id of the process, 32 hex digits")
	fs.StringVar(&f.start, "start", "", "start of the profile: now-1h, RFC 3339 or Unix (default: the profile's own)")
	fs.StringVar(&f.end, "end", "", "end of the profile (default: the profile's own)")
	fs.StringVar(&f.key, "idempotency-key", "", "what names this push for ever (default: a hash of file and parameters)")
	out := outputFlag(cmd, "table", "json")
	a.clientFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		params, err := f.params(cmd, a)
		if err != nil {
			return err
		}
		if f.key != "" && len(args) > 1 {
			return usage(cmd, "--idempotency-key names one push, and there are %d files", len(args))
		}
		done, err := a.push(cmd, args, params, f.key)
		if out.value == "json" {
			if werr := writeJSON(a.stdout, done); werr != nil {
				return werr
			}
			return err
		}
		for _, p := range done {
			if _, werr := fmt.Fprintf(a.stdout, "%s: %s, %s\n", clean(p.File), p.Status, plural(int64(p.Samples), "sample")); werr != nil {
				return werr
			}
		}
		return err
	}
	return cmd
}

func (f *pushFlags) params(cmd *cobra.Command, a *app) (url.Values, error) {
	if f.service == "" || f.typ == "" {
		return nil, usage(cmd, "--service and --type are required")
	}
	if !profiles.ValidName(f.typ) {
		return nil, usage(cmd, "read --type: %q cannot name a type of profile", f.typ)
	}
	v := url.Values{"service": {f.service}, "type": {f.typ}}
	if f.instance != "" {
		v.Set("instance", f.instance)
	}
	for name, value := range f.labels {
		v.Set("label."+name, value)
	}
	now := a.now()
	for _, t := range []struct{ name, value string }{{"start", f.start}, {"end", f.end}} {
		if t.value == "" {
			continue
		}
		at, err := parseTime(cmd, "--"+t.name, t.value, now, 0)
		if err != nil {
			return nil, err
		}
		v.Set(t.name, unixMs(at))
	}
	return v, nil
}

// push stores the files in order and returns what was stored up to the first error.
func (a *app) push(cmd *cobra.Command, files []string, params url.Values, key string) ([]pushed, error) {
	c, err := a.client()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	done := []pushed{}
	for _, file := range files {
		answer, err := a.pushFile(cmd, c, file, params, key)
		if err != nil {
			return done, fmt.Errorf("push %s: %w", file, err)
		}
		done = append(done, pushed{File: file, Status: answer.Status, Samples: answer.Samples})
	}
	return done, nil
}

func (a *app) pushFile(cmd *cobra.Command, c *client.Client, file string, params url.Values, key string) (client.PushAnswer, error) {
	data, err := a.readFile(file)
	if err != nil {
		return client.PushAnswer{}, err
	}
	if key == "" {
		key = pushKey(params, data)
	}
	ctx, cancel := a.within(cmd.Context())
	defer cancel()
	return c.Push(ctx, params, key, data)
}

// pushKey names a push by all that it says, so that repeating a command stores nothing twice.
func pushKey(params url.Values, data []byte) string {
	h := sha256.New()
	_, _ = io.Copy(h, strings.NewReader(params.Encode()+"\x00"))
	_, _ = h.Write(data)
	return "sonde-" + hex.EncodeToString(h.Sum(nil))
}

// readFile reads a FILE argument; - is standard input.
func (a *app) readFile(name string) ([]byte, error) {
	r := a.stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		r = f
	}
	data, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("read %s: more than %d bytes", name, maxFile)
	}
	return data, nil
}
