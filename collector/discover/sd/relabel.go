package sd

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"

	"github.com/sonde-io/sonde/collector/discover"
	"github.com/sonde-io/sonde/collector/scrape"
	"github.com/sonde-io/sonde/profiles"
)

// Labels that say where a target is.
const (
	addressLabel = "__address__"
	schemeLabel  = "__scheme__"
	pathLabel    = "__profile_path__"
	metricsLabel = "__metrics_path__" // where a target's metrics are; without it: beside its profiles
	typesLabel   = "__profile_types__"
	serviceLabel = "service_name"
)

// set is what is known of one target.
type set = map[string]string

// errDropped says that relabeling dropped a target: that is no mistake.
var errDropped = errors.New("dropped by relabeling")

// relabeled applies rules to a set. keep is false where they drop it.
func relabeled(s set, rules []*relabel.Config) (out labels.Labels, keep bool) {
	b := labels.NewBuilder(labels.FromMap(s))
	if !relabel.ProcessBuilder(b, rules...) {
		return labels.EmptyLabels(), false
	}
	return b.Labels(), true
}

// makeTarget makes a target of a set: errDropped where the rules drop it, another error where what they leave is no target.
func makeTarget(s set, rules []*relabel.Config, http scrape.HTTPOptions, fallback string) (scrape.Target, error) {
	ls, keep := relabeled(s, rules)
	if !keep || ls.Get(addressLabel) == "" {
		return scrape.Target{}, errDropped
	}
	t := scrape.Target{HTTP: http, Labels: map[string]string{}}
	scheme := ls.Get(schemeLabel)
	if scheme != "http" && scheme != "https" {
		return t, fmt.Errorf("%s %.64q is neither http nor https", schemeLabel, scheme)
	}
	address, err := withPort(ls.Get(addressLabel), scheme)
	if err != nil {
		return t, err
	}
	path := ls.Get(pathLabel)
	if !strings.HasPrefix(path, "/") {
		return t, fmt.Errorf("%s %.128q does not start with /", pathLabel, path)
	}
	t.URL = (&url.URL{Scheme: scheme, Host: address, Path: strings.TrimRight(path, "/")}).String()
	if path := ls.Get(metricsLabel); path != "" {
		if !strings.HasPrefix(path, "/") {
			return t, fmt.Errorf("%s %.128q does not start with /", metricsLabel, path)
		}
		t.MetricsURL = (&url.URL{Scheme: scheme, Host: address, Path: path}).String()
	}
	for ty := range strings.SplitSeq(ls.Get(typesLabel), ",") {
		if ty = strings.TrimSpace(ty); ty == "" {
			continue
		}
		if !profiles.ValidName(ty) || len(t.Types) >= 16 {
			return t, fmt.Errorf("%s %.128q: %q cannot name a type of profile", typesLabel, ls.Get(typesLabel), ty)
		}
		t.Types = append(t.Types, ty)
	}
	var bad error
	ls.Range(func(l labels.Label) {
		switch {
		case strings.HasPrefix(l.Name, "__") || l.Name == "service_instance_id" || l.Value == "":
		case !model.LegacyValidation.IsValidLabelName(l.Name) || !model.LabelValue(l.Value).IsValid() || len(l.Value) > 1024:
			bad = fmt.Errorf("label %.64q=%.64q: not a label", l.Name, l.Value)
		default:
			t.Labels[strings.Clone(l.Name)] = strings.Clone(l.Value)
		}
	})
	if bad == nil && len(t.Labels) > maxLabels {
		bad = fmt.Errorf("%d labels are more than %d", len(t.Labels), maxLabels)
	}
	t.Service, t.Guessed = t.Labels[serviceLabel], false
	delete(t.Labels, serviceLabel)
	if t.Service == "" {
		t.Service, t.Guessed = fallback, true
	}
	return t, bad
}

// withPort adds the scheme's port where there is none.
func withPort(address, scheme string) (string, error) {
	if err := checkAddress(address); err != nil {
		return "", err
	}
	if _, _, err := net.SplitHostPort(address); err == nil {
		return address, nil
	}
	return net.JoinHostPort(strings.Trim(address, "[]"), map[string]string{"http": "80", "https": "443"}[scheme]), nil
}

// Relabel returns discover.Config.Relabel, nil where no rule is for processes. __address__ is not known then: a process that is dropped is not asked for its ports.
func (m *Manager) Relabel() func(p *discover.Process, at *discover.Placement) bool {
	rules := m.cfg.ProcessRelabel
	if len(rules) == 0 {
		return nil
	}
	return func(p *discover.Process, at *discover.Placement) bool {
		ls, keep := relabeled(processSet(p, at), rules)
		if !keep {
			return false
		}
		changed := map[string]string{}
		ls.Range(func(l labels.Label) {
			if !strings.HasPrefix(l.Name, "__") && model.LegacyValidation.IsValidLabelName(l.Name) && l.Value != "" && len(changed) < maxLabels {
				changed[strings.Clone(l.Name)] = strings.Clone(l.Value)
			}
		})
		p.Labels = changed
		return true
	}
}

// processSet is what rules may ask of a process.
func processSet(p *discover.Process, at *discover.Placement) set {
	const meta = "__meta_process_"
	s := maps.Clone(p.Labels)
	if s == nil {
		s = set{}
	}
	maps.Copy(s, set{meta + "pid": strconv.Itoa(p.PID), meta + "uid": strconv.Itoa(p.UID), meta + "exe": p.Exe, meta + "container_id": p.ContainerID, meta + "pod_uid": p.PodUID,
		meta + "cgroup": p.Cgroup, meta + "go_version": p.GoVersion, meta + "build_id": p.BuildID})
	if p.Build != nil && p.Build.Mod != nil {
		s[meta+"module"] = p.Build.Module()
	}
	if at != nil && at.Meta != nil {
		maps.Copy(s, at.Meta())
	}
	return s
}
