package agent

import (
	"bytes"
	"errors"
	"maps"
	"path"
	"regexp"
	"strings"
)

// redacted stands where something was that a pattern of Config.Redact matches.
const redacted = "[redacted]"

// privacy is what may leave the process: the lists of Config, checked.
type privacy struct {
	keep, drop []string
	redact     []*regexp.Regexp
	all        bool // a pattern is wrong: nothing that it might have meant leaves
}

// newPrivacy checks the lists of c and returns what is wrong with them.
func newPrivacy(c *Config) (p *privacy, problems []string) {
	p = &privacy{keep: c.KeepLabels, drop: c.DropLabels}
	for _, list := range []*[]string{&p.keep, &p.drop} {
		for _, pattern := range *list {
			if _, err := path.Match(pattern, ""); err != nil {
				problems = append(problems, "label pattern "+pattern+": want one of path.Match; no label of a sample is sent")
				p.keep, p.drop = nil, []string{"*"}
			}
		}
	}
	for _, s := range c.Redact {
		re, err := regexp.Compile(s)
		if err == nil && re.MatchString("") {
			err = errors.New("matches the empty text, and so everywhere")
		}
		if err != nil {
			problems = append(problems, "redact pattern "+s+": "+err.Error()+"; everything is redacted")
			p.all = true
			continue
		}
		p.redact = append(p.redact, re)
	}
	return p, problems
}

// matches reports whether one of the patterns matches name. They were checked.
func matches(patterns []string, name string) bool {
	for _, p := range patterns {
		if ok, err := path.Match(p, name); ok && err == nil || p == "*" {
			return true
		}
	}
	return false
}

// redacts reports whether texts are changed at all.
func (p *privacy) redacts() bool { return p.all || len(p.redact) > 0 }

// filter is what becomes of a sample's labels; nil where they stay as they are.
func (p *privacy) filter() func(key, value string) (string, bool) {
	if len(p.keep) == 0 && len(p.drop) == 0 && !p.redacts() {
		return nil
	}
	return func(key, value string) (string, bool) {
		if len(p.keep) > 0 && !matches(p.keep, key) || matches(p.drop, key) {
			return "", false
		}
		return p.text(value), true
	}
}

// text returns s with what the patterns match replaced.
func (p *privacy) text(s string) string {
	if s == "" {
		return s
	}
	if p.all {
		return redacted
	}
	for _, re := range p.redact {
		s = re.ReplaceAllLiteralString(s, redacted)
	}
	return s
}

// lines redacts a long text line by line, so that no pattern has to be held against all of it.
func (p *privacy) lines(text []byte) []byte {
	if !p.redacts() {
		return text
	}
	var out bytes.Buffer
	for len(text) > 0 {
		line, rest, ended := bytes.Cut(text, []byte("\n"))
		out.WriteString(p.text(string(line)))
		if ended {
			out.WriteByte('\n')
		}
		text = rest
	}
	return out.Bytes()
}

// process redacts what is sent of the process.
func (p *privacy) process(info *processInfo) {
	if !p.redacts() {
		return
	}
	info.Labels = p.labels(info.Labels)
	info.BuildInfo = string(p.lines([]byte(info.BuildInfo)))
	info.Exe = p.text(info.Exe)
	info.Conditions = p.values(info.Conditions)
}

// labels redacts the values. The service's name stays: it is what the process is known by.
func (p *privacy) labels(labels map[string]string) map[string]string {
	out := p.values(labels)
	if name, ok := labels["service_name"]; ok {
		out["service_name"] = name
	}
	return out
}

// values redacts all values.
func (p *privacy) values(texts map[string]string) map[string]string {
	out := maps.Clone(texts)
	for name, value := range out {
		out[name] = p.text(value)
	}
	return out
}

// listed returns the labels that SendArgs and SendEnv ask for: the flags as they were given, and variables.
func listed(c *Config, args, environ []string) map[string]string {
	labels := map[string]string{}
	if flags := listedFlags(c.SendArgs, args); len(flags) > 0 {
		labels["process_command_args"] = strings.Join(flags, " ")
	}
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		if len(c.SendEnv) > 0 && matches(c.SendEnv, name) {
			labels[labelName("process_environment_variable_"+name)] = value
		}
	}
	return labels
}

// listedFlags returns the flags of args whose names match, with the values that follow them: -name=value, or -name value where the value is no flag.
func listedFlags(patterns, args []string) (out []string) {
	for i := 0; i < len(args); i++ {
		if args[i] == "--" {
			break
		}
		name, dashed := strings.CutPrefix(args[i], "-")
		name, _, joined := strings.Cut(strings.TrimPrefix(name, "-"), "=")
		if !dashed || name == "" || len(patterns) == 0 || !matches(patterns, name) {
			continue
		}
		out = append(out, args[i])
		if !joined && i+1 < len(args) && !strings.HasPrefix(args[i+1], "-") {
			i++
			out = append(out, args[i])
		}
	}
	return out
}
