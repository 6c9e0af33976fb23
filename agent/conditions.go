package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"math"
	"runtime"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"

	"github.com/sonde-io/sonde/agent/internal/cgroup"
)

// The conditions are what a process was started with besides its build: the collector shows a change of them as it shows a deploy. Of the command line only a hash leaves, and what
// SendArgs names; of the environment the runtime's own variables, and what SendEnv names.

// runtimeVariables are the variables that change how any Go program runs.
var runtimeVariables = []string{"GOGC", "GOMEMLIMIT", "GOMAXPROCS", "GODEBUG", "GOTRACEBACK", "GOEXPERIMENT"}

const maxConditions = 64

// conditions returns what this process was started with.
func conditions(c *Config, args, environ []string) map[string]string {
	out := map[string]string{}
	if s := knownArgs(c.SendArgs, args); s != "" {
		out["args"] = short(s)
	}
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		if len(out) >= maxConditions || name == "" || len(name) > MaxLabelName || !slices.Contains(runtimeVariables, name) && (len(c.SendEnv) == 0 || !matches(c.SendEnv, name)) {
			continue
		}
		if secret(name) {
			value = hashed(value)
		}
		out["env_"+labelName(name)] = short(value)
	}
	runtimeConditions(out)
	return out
}

// runtimeConditions adds what is in force now, whether the environment said so or the program.
func runtimeConditions(out map[string]string) {
	samples := []metrics.Sample{{Name: "/gc/gogc:percent"}, {Name: "/gc/gomemlimit:bytes"}}
	metrics.Read(samples)
	if v := samples[0].Value; v.Kind() == metrics.KindUint64 {
		out["gogc"] = strconv.FormatUint(v.Uint64(), 10)
		if v.Uint64() > math.MaxInt32 { // -1, as the runtime gives it
			out["gogc"] = "off"
		}
	}
	if v := samples[1].Value; v.Kind() == metrics.KindUint64 && v.Uint64() < math.MaxInt64 {
		out["gomemlimit"] = strconv.FormatUint(v.Uint64(), 10)
	}
	out["gomaxprocs"] = strconv.Itoa(runtime.GOMAXPROCS(0))
	g := cgroup.Self()
	defer g.Close()
	if cores := g.Cores(); !math.IsInf(cores, 1) {
		out["cgroup_cpu"] = strconv.FormatFloat(cores, 'f', -1, 64)
	}
	if limit := g.MemoryLimit(); !math.IsInf(limit, 1) {
		out["cgroup_memory"] = strconv.FormatFloat(limit, 'f', -1, 64)
	}
}

// knownArgs returns the flags that may be known, and a hash of all arguments where others are among them. Words that a space would not tell apart are quoted as in Go.
func knownArgs(patterns, args []string) string {
	listed := listedFlags(patterns, args)
	all := len(listed) == len(args)
	for i := range listed {
		name, value, joined := strings.Cut(listed[i], "=")
		switch {
		case !secret(name) || !strings.HasPrefix(name, "-"):
		case joined:
			listed[i] = name + "=" + hashed(value)
		case i+1 < len(listed) && !strings.HasPrefix(listed[i+1], "-"):
			listed[i+1] = hashed(listed[i+1])
		}
	}
	if !all {
		listed = append(listed, hashed(strings.Join(args, "\x00")))
	}
	for i, word := range listed {
		if word == "" || strings.ContainsAny(word, " \"") || strconv.Quote(word) != `"`+word+`"` {
			listed[i] = strconv.Quote(word)
		}
	}
	return strings.Join(listed, " ")
}

// secret reports whether a flag or a variable may hold one, by its name.
func secret(name string) bool {
	name = strings.ToLower(name)
	return slices.ContainsFunc([]string{"token", "secret", "password", "passwd", "key", "auth", "credential", "dsn"}, func(s string) bool { return strings.Contains(name, s) })
}

// hashed stands for a value that is not sent, so that its change is seen all the same.
func hashed(s string) string {
	sum := sha256.Sum256([]byte(s))
	return "sha256:" + hex.EncodeToString(sum[:4])
}

// short cuts a value that is too long, and has its end show by a hash.
func short(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= MaxLabelValue {
		return s
	}
	return strings.ToValidUTF8(s[:MaxLabelValue-32], "") + " " + hashed(s)
}
