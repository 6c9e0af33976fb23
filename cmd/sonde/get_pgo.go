package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/sonde-io/sonde/cmd/sonde/internal/client"
	"github.com/sonde-io/sonde/collector/api"
)

// fewSamples is how few samples make a profile from which the compiler learns the very hottest calls only.
const fewSamples = 1000

// reportPGO says on standard error whose profile was written, and how much of it is about the code of now. A profile without its report is one too.
func (a *app) reportPGO(ctx context.Context, params url.Values) {
	q := url.Values{}
	for name, v := range params {
		if name != "format" {
			q[name] = v
		}
	}
	var r api.PGOReport
	err := a.ask(ctx, "/api/v1/pgo", q, &r)
	if e, ok := errors.AsType[*client.Error](err); ok && e.Status == http.StatusNotFound {
		return // a collector from before it
	}
	if err != nil {
		fmt.Fprintf(a.stderr, "the profile is written; whose it is cannot be told: %v\n", err)
		return
	}
	if err := a.writePGO(&r); err != nil {
		fmt.Fprintf(a.stderr, "%v\n", err)
	}
}

func (a *app) writePGO(r *api.PGOReport) error {
	samples := ""
	if r.Samples > 0 {
		samples = plural(r.Samples, "sample") + ", "
	}
	fmt.Fprintf(a.stderr, "PGO profile%s: %s%s of CPU in %s of %s\n", between(r.From, r.To), samples, formatValue(r.Total, r.Type.Unit), plural(int64(r.Profiles), "profile"), processes(r.Processes))
	tab := a.newTable(">SHARE", ">PROCESSES", "BUILD", "VERSION", "GO", "FIRST SEEN", ">AGE")
	for _, b := range r.Builds {
		first, age := "-", "-"
		if b.FirstSeen > 0 {
			first, age = stamp(b.FirstSeen), dash(span(a.now().UnixMilli()-b.FirstSeen))
		}
		tab.add(fmt.Sprintf("%.1f%%", 100*b.Share), group(int64(b.Processes)), dash(shortBuild(b.ID)), dash(b.Version), dash(b.GoVersion), first, age)
	}
	if err := tab.write(a.stderr); err != nil {
		return err
	}
	a.writeNewest(r)
	if r.Samples > 0 && r.Samples < fewSamples {
		fmt.Fprintf(a.stderr, "that is few: a longer --since makes more of the hot calls known to the compiler\n")
	}
	return nil
}

// writeNewest says how much of the hot code is still there.
func (a *app) writeNewest(r *api.PGOReport) {
	if len(r.Newest) == 0 || r.Source == "none" {
		return
	}
	var names []string
	for _, b := range r.Newest {
		name := clean(shortBuild(b.ID))
		if b.Version != "" {
			name = clean(b.Version) + " (" + name + ")"
		}
		names = append(names, name)
	}
	by := "by its binary"
	if r.Source == "profiles" {
		by = "by what it was seen running, so at least"
	}
	fmt.Fprintf(a.stderr, "%.1f%% of the hot code is in the newest build, %s, %s\n", 100*r.Exists, strings.Join(names, ", "), by)
	for _, f := range r.Missing {
		fmt.Fprintf(a.stderr, "  not there: %s (%.1f%%)\n", clean(f.Function), 100*f.Share)
	}
}
