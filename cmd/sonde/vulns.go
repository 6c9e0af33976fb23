package main

import (
	"bytes"
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sonde-io/sonde/collector/audit"
	"github.com/sonde-io/sonde/profiles"
	"github.com/sonde-io/sonde/symbols/vulns"
)

func (a *app) vulnsCommand() *cobra.Command {
	var service, since, db, releases string
	cmd := &cobra.Command{
		Use:   "vulns [FILE…]",
		Short: "List known vulnerabilities of what runs, and which of them were seen running",
		Long: `List the known vulnerabilities of the builds that ran, by the versions of their modules, and the builds whose Go version is
out of support.

SEEN says what nobody else can: whether a profile shows that a vulnerable function ran, in which service, and when. Not
seen does not mean not run, since profiles are samples; seen is certain. BINARY says whether a vulnerable function is in
the binary at all: the linker leaves out what nothing calls. It is unknown where the collector has neither the binary
nor the list of its functions that a sidecar sends.

The collector looks things up in its own copy of the Go vulnerability database (setting builds.vulndb), or in the one that
--db names, which is sent along: a directory or a zip file such as https://vuln.go.dev/vulndb.zip. With FILEs, which are Go
binaries on this machine, no collector is asked. Nothing is asked of the internet.`,
		Example: `  sonde vulns
  sonde vulns --service cart --since 30d
  sonde vulns --db vulndb.zip -o sarif > sonde.sarif
  sonde vulns --db vulndb.zip /usr/local/bin/*`,
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVarP(&service, "service", "s", "", "the service's name; none: all services")
	fs.StringVar(&since, "since", "", "how far back from now: 1d, 7d (default 7d)")
	fs.StringVar(&db, "db", "", "the vulnerability database, a directory or a zip file (default: the collector's own)")
	fs.StringVar(&releases, "releases", "", "with FILEs: a table of Go releases in place of the built-in one")
	out := outputFlag(cmd, "table", "json", "sarif")
	a.clientFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var r audit.Report
		var err error
		if len(args) > 0 {
			if service != "" || since != "" {
				return usage(cmd, "--service and --since are for the collector, and FILEs are given")
			}
			r, err = a.vulnsOfFiles(cmd.Context(), args, db, releases)
		} else {
			if releases != "" {
				return withHint(usage(cmd, "--releases is for FILEs, and none is given"), "set builds.go_releases in the collector's configuration")
			}
			r, err = a.vulnsOfFleet(cmd, service, since, db)
		}
		if err != nil {
			return err
		}
		switch out.value {
		case "json":
			return writeJSON(a.stdout, r)
		case "sarif":
			return writeJSON(a.stdout, sarifOf(&r))
		}
		return a.writeVulns(&r)
	}
	return cmd
}

// vulnsOfFleet asks the collector, by its own database or by the one at db.
func (a *app) vulnsOfFleet(cmd *cobra.Command, service, since, db string) (r audit.Report, err error) {
	q := url.Values{}
	if service != "" {
		q.Set("service", service)
	}
	if since != "" {
		d, err := profiles.ParseDuration(since)
		if err != nil || d <= 0 {
			return r, usage(cmd, "read --since: %q is not a time back from now, such as 7d", since)
		}
		q.Set("since", unixMs(a.now().Add(-d).UnixMilli()))
	}
	if db == "" {
		return r, a.ask(cmd.Context(), "/api/v1/vulns", q, &r)
	}
	if err := a.checkDatabase(db); err != nil {
		return r, err
	}
	var packed bytes.Buffer
	if err := vulns.Zip(&packed, db); err != nil {
		return r, err
	}
	c, err := a.client()
	if err != nil {
		return r, err
	}
	defer c.Close()
	ctx, cancel := a.within(cmd.Context())
	defer cancel()
	return r, c.Upload(ctx, "/api/v1/vulns", q, "application/zip", packed.Bytes(), &r)
}

// checkDatabase opens the database at name, so that a mistake is found here.
func (a *app) checkDatabase(name string) error {
	d, err := vulns.Open(name)
	if err != nil {
		return withHint(err, "it is a directory or a zip file with index/modules.json and ID/*.json, as https://vuln.go.dev/vulndb.zip")
	}
	return d.Close()
}

func (a *app) writeVulns(r *audit.Report) error {
	if r.Note != "" {
		fmt.Fprintf(a.stderr, "vulnerabilities were not looked for: %s\n", clean(r.Note))
	}
	if r.More {
		fmt.Fprintln(a.stderr, "there are more processes than were looked at: --service narrows it down")
	}
	if err := a.writeFound(r); err != nil {
		return err
	}
	if len(r.Unsupported) > 0 {
		fmt.Fprintf(a.stdout, "\nGo out of support (by the releases until %s):\n", r.Releases)
		tab := a.newTable("GO", "SINCE", "BUILD", "VERSION", "SERVICES")
		for _, u := range r.Unsupported {
			tab.add(clean(u.Go), u.Since, clean(shortBuild(u.Build)), dash(u.Version), clean(strings.Join(u.Services, ", ")))
		}
		if err := tab.write(a.stdout); err != nil {
			return err
		}
	}
	for _, u := range r.Unknown {
		fmt.Fprintf(a.stderr, "build %s of %s cannot be judged fully: %s\n", clean(shortBuild(u.Build)), clean(strings.Join(u.Services, ", ")), clean(u.Why))
	}
	return nil
}

// writeFound prints the vulnerabilities, those that were seen running with where and when.
func (a *app) writeFound(r *audit.Report) error {
	if r.Database == nil {
		return nil
	}
	db := fmt.Sprintf("the database of %s (entries: %s)", r.Database.Modified.Format("2006-01-02"), group(int64(r.Database.Entries)))
	if len(r.Vulns) == 0 {
		_, err := fmt.Fprintf(a.stdout, "no known vulnerabilities by %s\n", db)
		return err
	}
	seen := 0
	for _, v := range r.Vulns {
		if len(v.Seen) > 0 {
			seen++
		}
	}
	fmt.Fprintf(a.stdout, "vulnerabilities of builds by %s: %s, of which %s were seen running\n", db, group(int64(len(r.Vulns))), group(int64(seen)))
	tab := a.newTable("SEEN", "BINARY", "ID", "MODULE", "FOUND", "FIXED", "BUILD", "SERVICES")
	for _, v := range r.Vulns {
		when := "-"
		for _, s := range v.Seen {
			when = max(when, stamp(s.Last))
		}
		tab.add(when, v.InBinary, v.ID, clean(v.Module), clean(v.Found), dash(v.Fixed), clean(shortBuild(v.Build)), clean(strings.Join(v.Services, ", ")))
	}
	if err := tab.write(a.stdout); err != nil {
		return err
	}
	for _, v := range r.Vulns {
		if len(v.Seen) == 0 {
			continue
		}
		fmt.Fprintf(a.stdout, "\n%s: %s\n  %s\n", v.ID, clean(v.Summary), v.URL)
		for _, s := range v.Seen {
			fmt.Fprintf(a.stdout, "  %s ran in %s of %s, from %s to %s (%s)\n", clean(s.Function), processes(s.Instances), clean(s.Service), stamp(s.First), stamp(s.Last), strings.Join(s.Types, ", "))
		}
	}
	return nil
}

func processes(n int) string {
	if n == 1 {
		return "1 process"
	}
	return group(int64(n)) + " processes"
}
