package discover

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/internal/cgroup"
)

// BuildSettings are the settings of what is told of builds.
type BuildSettings struct {
	// Env names the variables of a process's environment, besides the Go runtime's own, whose change is told as an event: NAME, or PREFIX_*. Their values are stored. Empty: none.
	Env []string `yaml:"env"`
}

// The limits of Conditions.
const (
	maxNamedEnv  = 64   // names in BuildSettings.Env
	maxCondition = 2048 // bytes of a value
	maxEnvTold   = 64   // variables of one process
)

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*\*?$`)

// Validate reports the first name that names no variable.
func (b BuildSettings) Validate() error {
	if len(b.Env) > maxNamedEnv {
		return fmt.Errorf("env: %d names, at most %d", len(b.Env), maxNamedEnv)
	}
	for _, name := range b.Env {
		if !variableName.MatchString(name) {
			return fmt.Errorf("env: %q is neither NAME nor PREFIX_*", name)
		}
	}
	return nil
}

// runtimeEnv are the variables that change how any Go program runs.
var runtimeEnv = []string{"GOGC", "GOMEMLIMIT", "GOMAXPROCS", "GODEBUG", "GOTRACEBACK", "GOEXPERIMENT"}

// conditions returns what a process was started with besides its build, as catalog.Process.Conditions has it.
func (s *Scanner) conditions(pid int, cmdline, environ, cgroups []byte) map[string]string {
	out := map[string]string{}
	if args := argsOf(cmdline); args != "" {
		out["args"] = args
	}
	s.addEnv(out, environ)
	cpus, memory := cgroup.Mounts{Proc: s.fs.root, Cgroup: "/sys/fs/cgroup"}.Limits(pid, cgroup.ParsePaths(cgroups))
	if cpus > 0 {
		out["cgroup_cpu"] = strconv.FormatFloat(cpus, 'f', -1, 64)
	}
	if memory > 0 {
		out["cgroup_memory"] = strconv.FormatInt(memory, 10)
	}
	if s.nodeKind != "" {
		out["node_kind"] = s.nodeKind
	}
	return out
}

func (s *Scanner) addEnv(out map[string]string, environ []byte) {
	n := 0
	for kv := range bytes.SplitSeq(environ, []byte{0}) {
		name, value, ok := strings.Cut(string(kv), "=")
		if !ok || n >= maxEnvTold || !slices.Contains(runtimeEnv, name) && !slices.ContainsFunc(s.cfg.Env, func(p string) bool { return matchesName(p, name) }) {
			continue
		}
		if secret(name) {
			value = hashed(value)
		}
		out["env_"+name] = shorten(withoutPassword(value))
		n++
	}
}

func matchesName(pattern, name string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(name, prefix)
	}
	return pattern == name
}

// argsOf returns the arguments of a command line, of which what may be secret is replaced by a hash.
func argsOf(cmdline []byte) string {
	words := strings.Split(strings.TrimRight(string(cmdline), "\x00"), "\x00")[1:]
	for i, w := range words {
		name, value, joined := strings.Cut(w, "=")
		switch {
		case strings.HasPrefix(w, "-") && secret(name) && joined:
			words[i] = name + "=" + hashed(value)
		case strings.HasPrefix(w, "-") && secret(name) && i+1 < len(words) && !strings.HasPrefix(words[i+1], "-"):
			words[i+1] = hashed(words[i+1])
		default:
			words[i] = withoutPassword(w)
		}
	}
	return shorten(catalog.JoinArgs(words))
}

// secret reports whether a flag or a variable may hold one, by its name.
func secret(name string) bool {
	name = strings.ToLower(name)
	return slices.ContainsFunc([]string{"token", "secret", "password", "passwd", "key", "auth", "credential", "dsn"}, func(s string) bool { return strings.Contains(name, s) })
}

var urlUser = regexp.MustCompile(`://([^/@\s]+)@`)

// withoutPassword hashes who a URL is to be asked as.
func withoutPassword(s string) string {
	if !strings.Contains(s, "://") {
		return s
	}
	return urlUser.ReplaceAllStringFunc(s, func(m string) string { return "://" + hashed(m) + "@" })
}

// hashed stands for a value that is not told, so that its change is seen all the same.
func hashed(s string) string {
	sum := sha256.Sum256([]byte(s))
	return "sha256:" + hex.EncodeToString(sum[:4])
}

// shorten cuts a value that is too long, and has its end show by a hash.
func shorten(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= maxCondition {
		return s
	}
	return strings.ToValidUTF8(s[:maxCondition-32], "") + " " + hashed(s)
}

// nodeKind says what kind of machine this is: its product's name, which clouds set to the type of the instance, the model of its CPUs and how many there are.
func nodeKind(procRoot, sysRoot string) string {
	var parts []string
	if b, err := os.ReadFile(filepath.Join(sysRoot, "class/dmi/id/product_name")); err == nil {
		if name := strings.TrimSpace(string(b)); name != "" {
			parts = append(parts, name)
		}
	}
	b, err := os.ReadFile(filepath.Join(procRoot, "cpuinfo"))
	if err != nil {
		return strings.Join(parts, ", ")
	}
	model, cpus := cpuModel(b)
	if model != "" {
		parts = append(parts, model)
	}
	if cpus > 0 {
		parts = append(parts, strconv.Itoa(cpus)+" CPUs")
	}
	return shorten(strings.Join(parts, ", "))
}

// cpuModel reads /proc/cpuinfo. On ARM the implementer and the part stand for the model.
func cpuModel(cpuinfo []byte) (model string, cpus int) {
	var implementer, part string
	for line := range strings.Lines(string(cpuinfo)) {
		key, value, _ := strings.Cut(line, ":")
		value = strings.Join(strings.Fields(value), " ")
		switch strings.TrimSpace(key) {
		case "processor":
			cpus++
		case "model name":
			model = value
		case "CPU implementer":
			implementer = value
		case "CPU part":
			part = value
		}
	}
	if model == "" && implementer != "" {
		model = runtime.GOARCH + " " + implementer + "/" + part
	}
	return model, cpus
}
