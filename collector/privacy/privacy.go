package privacy

import (
	"fmt"
	"path"
	"regexp"
	"sync"
	"sync/atomic"
	"unicode/utf8"

	"github.com/prometheus/prometheus/model/labels"
)

// Redacted stands where a pattern matched.
const Redacted = "[redacted]"

// The limits of a Config and of the caches.
const (
	maxPatterns = 100
	maxPattern  = 4096 // bytes of one
	maxCached   = 4096 // keys of labels, label sets and builds each; what is more is worked out every time
	maxText     = 4 << 20
)

// Config says what leaves. The zero value lets everything through.
type Config struct {
	KeepLabels []string // path.Match patterns on the keys of samples' labels; empty: all are kept
	DropLabels []string // those that are left out, also where KeepLabels has them
	Redact     []string // RE2; what they match in texts and label values becomes Redacted
}

// Filter applies a Config. Make one with New; nil lets everything through.
type Filter struct {
	keep, drop []string
	redact     *regexp.Regexp // all patterns in one; nil: none
	leftOut    atomic.Int64   // samples of series

	mu     sync.RWMutex
	keys   map[string]bool
	sets   map[uint64]labelSet // by hash
	builds map[buildKey]string // info
}

// labelSet is a process's labels before and after.
type labelSet struct{ from, to labels.Labels }

// New returns the filter of cfg, nil for one that lets everything through.
func New(cfg Config) (*Filter, error) {
	f := &Filter{keep: cfg.KeepLabels, drop: cfg.DropLabels, keys: map[string]bool{}, sets: map[uint64]labelSet{}, builds: map[buildKey]string{}}
	for name, patterns := range map[string][]string{"keep_labels": cfg.KeepLabels, "drop_labels": cfg.DropLabels, "redact": cfg.Redact} {
		if len(patterns) > maxPatterns {
			return nil, fmt.Errorf("%s: %d patterns, at most %d are accepted", name, len(patterns), maxPatterns)
		}
		for _, p := range patterns {
			if p == "" || len(p) > maxPattern {
				return nil, fmt.Errorf("%s: a pattern of %d bytes, want 1 to %d", name, len(p), maxPattern)
			}
			if _, err := path.Match(p, ""); err != nil && name != "redact" {
				return nil, fmt.Errorf("%s: %q: %w (want a pattern as path.Match reads it, such as user_*)", name, p, err)
			}
		}
	}
	all := ""
	for i, p := range cfg.Redact {
		re, err := regexp.Compile(p)
		if err != nil {
			return nil, fmt.Errorf("redact: %w", err)
		}
		if re.MatchString("") {
			return nil, fmt.Errorf("redact: %q matches the empty text, and so everywhere", p)
		}
		if i > 0 {
			all += "|"
		}
		all += "(?:" + p + ")"
	}
	if all != "" {
		re, err := regexp.Compile(all)
		if err != nil {
			return nil, fmt.Errorf("redact: the patterns together: %w", err)
		}
		f.redact = re
	}
	if len(f.keep) == 0 && len(f.drop) == 0 && f.redact == nil {
		return nil, nil
	}
	return f, nil
}

// Keeps reports whether samples' labels with this key leave.
func (f *Filter) Keeps(key string) bool {
	if f == nil || len(f.keep)+len(f.drop) == 0 {
		return true
	}
	f.mu.RLock()
	keep, ok := f.keys[key]
	f.mu.RUnlock()
	if ok {
		return keep
	}
	keep = (len(f.keep) == 0 || matches(f.keep, key)) && !matches(f.drop, key)
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.keys) < maxCached {
		f.keys[string([]byte(key))] = keep // its bytes may lie in a buffer that is used again
	}
	return keep
}

func matches(patterns []string, s string) bool {
	for _, p := range patterns {
		if ok, _ := path.Match(p, s); ok { // checked by New
			return true
		}
	}
	return false
}

// value returns s without what a pattern matches.
func (f *Filter) value(s string) string {
	if f == nil || f.redact == nil || s == "" || !f.redact.MatchString(s) {
		return s
	}
	return f.redact.ReplaceAllLiteralString(s, Redacted)
}

// Text returns s without what a pattern matches: the text of a crash, a reason, a note. Of more than 4 MiB only the beginning is returned, cut at a whole rune, and
// complete is false: what nobody looked through does not leave.
func (f *Filter) Text(s string) (text string, complete bool) {
	if f == nil || f.redact == nil {
		return s, true
	}
	if len(s) <= maxText {
		return f.value(s), true
	}
	cut := maxText
	for cut > maxText-utf8.UTFMax && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return f.value(s[:cut]), false
}

// identity are the labels that a process is known by.
func identity(name string) bool { return name == "service_name" || name == "service_instance_id" }

// Labels returns a process's labels, their values without what a pattern matches. Those that the process is known by stay.
func (f *Filter) Labels(ls labels.Labels) labels.Labels {
	if f == nil || f.redact == nil || ls.IsEmpty() {
		return ls
	}
	hash := ls.Hash()
	f.mu.RLock()
	known, ok := f.sets[hash]
	f.mu.RUnlock()
	if ok && labels.Equal(known.from, ls) {
		return known.to
	}
	to, changed := labels.NewBuilder(ls), false
	ls.Range(func(l labels.Label) {
		if v := f.value(l.Value); v != l.Value && !identity(l.Name) {
			to.Set(l.Name, v)
			changed = true
		}
	})
	out := ls
	if changed {
		out = to.Labels()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.sets) >= maxCached {
		clear(f.sets)
	}
	f.sets[hash] = labelSet{ls.Copy(), out.Copy()}
	return out
}
