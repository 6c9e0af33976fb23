package agent

import (
	"context"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync/atomic"
	"unicode/utf8"

	"github.com/sonde-io/sonde/agent/internal/pprofmerge"
)

// The limits of labels, of the process and of samples alike. A label over them is taken out, counted in the window's stats and
// marked with the label sonde_stripped; it does not cost the window.
const (
	MaxLabels     = 32   // of one process, without the agent's own; of one sample
	MaxLabelName  = 64   // bytes
	MaxLabelValue = 1024 // bytes
)

var labelLimits = pprofmerge.Limits{Labels: MaxLabels, Key: MaxLabelName, Value: MaxLabelValue}

// strippedInDo counts labels that Labels took out, for all agents of the program.
var strippedInDo atomic.Uint64

// LabelSet is a set of labels made by Labels.
type LabelSet struct{ set pprof.LabelSet }

// Labels makes a set of pprof labels from name, value, name, value, …. What is over MaxLabels, MaxLabelName or MaxLabelValue is left out, counted and marked;
// a name without a value gets the empty value. It never panics.
func Labels(args ...string) LabelSet {
	kept := make([]string, 0, len(args)+3)
	stripped := 0
	for i := 0; i < len(args); i += 2 {
		name, value := args[i], ""
		if i+1 < len(args) {
			value = args[i+1]
		}
		if len(kept)/2 >= MaxLabels || !fits(name, value) {
			stripped++
			continue
		}
		kept = append(kept, name, value)
	}
	if stripped > 0 {
		strippedInDo.Add(uint64(stripped))
		kept = append(kept, pprofmerge.Mark, "true")
	}
	return LabelSet{pprof.Labels(kept...)}
}

// Do calls fn with labels added to those of ctx, and to the goroutine for the time of the call: CPU and goroutine profiles show them.
func Do(ctx context.Context, labels LabelSet, fn func(context.Context)) {
	pprof.Do(ctx, labels.set, fn)
}

func fits(name, value string) bool {
	return name != "" && len(name) <= MaxLabelName && len(value) <= MaxLabelValue && utf8.ValidString(name) && utf8.ValidString(value)
}

// labelName turns an OpenTelemetry or other name into a label's: letters, digits and underscores.
func labelName(s string) string {
	clean := func(c rune) rune {
		if c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' {
			return c
		}
		return '_'
	}
	s = strings.Map(clean, s)
	if s != "" && s[0] >= '0' && s[0] <= '9' {
		s = "_" + s
	}
	return s
}

// labelMap gathers the process's labels within the limits.
type labelMap struct {
	labels   map[string]string
	stripped int
}

// set sets a label that the agent itself found. An empty value sets nothing; one too long is cut.
func (m *labelMap) set(name, value string) {
	value = strings.ToValidUTF8(value, "\uFFFD")
	if len(value) > MaxLabelValue {
		value = strings.ToValidUTF8(value[:MaxLabelValue], "")
	}
	if value != "" {
		m.labels[name] = value
	}
}

// ownLabels is more than the agent finds itself. Together with MaxLabels it stays below the collector's default of 64.
const ownLabels = 16

// add sets the user's labels, in the order of names, as far as they fit.
func (m *labelMap) add(pairs map[string]string, names []string) {
	added := 0
	for _, name := range names {
		value := pairs[name]
		clean := labelName(name)
		if _, replaced := m.labels[clean]; !replaced && (added >= MaxLabels || len(m.labels) >= MaxLabels+ownLabels) {
			m.stripped++
			continue
		}
		if !fits(clean, value) || strings.HasPrefix(clean, "__") || clean == "service_instance_id" {
			m.stripped++
			continue
		}
		m.labels[clean] = value
		added++
	}
}

// mark says in the labels how many are missing.
func (m *labelMap) mark() {
	if m.stripped > 0 {
		m.labels[pprofmerge.Mark] = strconv.Itoa(m.stripped)
	}
}
