package scrape

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/discover"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles"
)

// restTypes are the types besides cpu, in the order in which they are asked for: the cheapest to lose last.
var restTypes = []string{"heap", "goroutine", "mutex", "block"}

// gopsTypes are what a gops agent gives without stopping the world: its stacks come as text of every goroutine.
var gopsTypes = []string{"cpu", "heap"}

// Discovered returns the target of a process that a scan found with an endpoint; ok is false for others. host is catalog.Process.Host.
func Discovered(p discover.Process, host string) (t Target, ok bool) {
	if p.State != discover.Profiling {
		return Target{}, false
	}
	t = targetOf(p, host)
	switch p.Gatherer {
	case "scrape":
		t.URL, t.Types = p.URL, served(p.Types)
	case "gops":
		t.GopsAddr = p.GopsAddr
	}
	return t, t.URL != "" || t.GopsAddr != ""
}

// targetOf returns what is known of a process as a target, without where its profiles are.
func targetOf(p discover.Process, host string) Target {
	cp := ProcessOf(p, host)
	return Target{Instance: p.Instance, Service: p.Service, Labels: p.Labels, Process: &cp, Build: BuildOf(p), MetricsURL: p.MetricsURL}
}

// served narrows the types to those that an endpoint's index lists. The index of net/http/pprof lists cpu as "profile", or leaves it out.
func served(index []string) []string {
	if len(index) == 0 {
		return nil
	}
	types := []string{"cpu"}
	for _, t := range restTypes {
		if slices.Contains(index, t) {
			types = append(types, t)
		}
	}
	return types
}

// ProcessOf returns the catalogue's row of a discovered process, without the times of seeing it.
func ProcessOf(p discover.Process, host string) catalog.Process {
	return catalog.Process{
		Instance: p.Instance, Service: p.Service, Labels: processLabels(p.Service, p.Instance, p.Labels),
		BuildID: p.BuildID, Version: p.Version, GoVersion: p.GoVersion, Exe: p.Exe, PID: p.PID,
		BootID: p.BootID, PIDNS: p.PIDNS, StartTicks: p.StartTicks, NSPIDs: p.PIDs, Host: host,
		Gatherer: p.Gatherer, State: "running", Reason: p.Reason, Started: p.Started.UnixMilli(), Conditions: p.Conditions,
	}
}

// BuildOf returns the catalogue's row of a discovered process's build, nil where its binary could not be read.
func BuildOf(p discover.Process) *catalog.Build {
	if p.Build == nil || p.BuildID == "" {
		return nil
	}
	return &catalog.Build{
		ID: p.BuildID, GoBuildID: p.Build.GoBuildID, GNUBuildID: p.Build.GNUBuildID, GoVersion: p.Build.GoVersion,
		Module: p.Build.Module(), Version: p.Build.Version(), Info: p.Build.Mod.String(), Size: p.Build.Size, Stripped: p.Build.Stripped,
	}
}

// processLabels are the labels of a process's series.
func processLabels(service, instance string, more map[string]string) labels.Labels {
	m := maps.Clone(more)
	if m == nil {
		m = map[string]string{}
	}
	m["service_name"], m["service_instance_id"] = service, instance
	return labels.FromMap(m)
}

// normalize checks t and fills in what may be left out.
func (t *Target) normalize(host string) error {
	if t.Service == "" {
		return errors.New("service is empty")
	}
	if (t.URL == "") == (t.GopsAddr == "") {
		return fmt.Errorf("target of %s: want either a URL or the address of a gops agent", t.Service)
	}
	if t.URL != "" {
		if !isURL(t.URL) {
			return fmt.Errorf("target of %s: the URL is not http://HOST:PORT/PATH", t.Service)
		}
		t.URL = strings.TrimRight(t.URL, "/")
	}
	if t.MetricsURL != "" && !isURL(t.MetricsURL) {
		return fmt.Errorf("target of %s: the URL of its metrics is not http://HOST:PORT/PATH", t.Service)
	}
	if err := t.HTTP.Validate(); err != nil {
		return fmt.Errorf("target of %s: %w", t.Service, err)
	}
	for _, ty := range t.Types {
		if !profiles.ValidName(ty) {
			return fmt.Errorf("target of %s: type %q cannot name a type of profile", t.Service, ty)
		}
	}
	if t.Instance == "" {
		sum := sha256.Sum256([]byte("sonde static target\x00" + t.Service + "\x00" + t.URL + t.GopsAddr))
		t.Instance = hex.EncodeToString(sum[:16])
	}
	if t.Process == nil {
		t.Process = &catalog.Process{
			Instance: t.Instance, Service: t.Service, Labels: processLabels(t.Service, t.Instance, t.Labels),
			Version: t.Labels["service_version"], Host: t.Labels["host_name"], Gatherer: t.gatherer(), State: "running",
		}
	}
	if t.Process.Host == "" && t.Process.PID != 0 {
		t.Process.Host = host
	}
	return nil
}

func isURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https")
}

func (t *Target) gatherer() string {
	if t.GopsAddr != "" {
		return "gops"
	}
	return "scrape"
}

// key is equal for two targets that need the same loop. Where the metrics are is not part of it: profiles go on when that gets known.
func (t *Target) key() string {
	return fmt.Sprintf("%s\x00%s\x00%s\x00%s\x00%v\x00%v\x00%+v", t.Instance, t.URL, t.GopsAddr, t.Service, t.Labels, t.Types, t.HTTP)
}

// wants reports whether type ty should be asked for.
func (t *Target) wants(ty string) bool {
	if t.GopsAddr != "" && !slices.Contains(gopsTypes, ty) {
		return false
	}
	return len(t.Types) == 0 || slices.Contains(t.Types, ty) ||
		ty == "heap" && (slices.Contains(t.Types, "allocs") || slices.Contains(t.Types, "inuse"))
}

// rest returns the types besides cpu that should be asked for: the usual ones, or what the configuration names.
func (t *Target) rest() []string {
	var types []string
	for _, ty := range restTypes {
		if t.wants(ty) {
			types = append(types, ty)
		}
	}
	if t.GopsAddr == "" {
		for _, ty := range t.Types {
			if ty == "goroutineleak" || ty == "threadcreate" { // costly or of little use: only by name
				types = append(types, ty)
			}
		}
	}
	return types
}

// redacted is where the target is, without a password.
func (t *Target) redacted() string {
	if t.GopsAddr != "" {
		return t.GopsAddr
	}
	return redactedURL(t.URL)
}

func redactedURL(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return "(not a URL)"
	}
	return u.Redacted()
}
