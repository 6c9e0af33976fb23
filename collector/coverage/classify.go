package coverage

import (
	"regexp"
	"strings"
)

// Class is what a reason comes down to.
type Class struct {
	Reason string // the same for all processes with this gap
	Cure   string // what closes it; "" where nothing is to be done
	Chosen bool   // the program's own default: no gap
}

var (
	capability = regexp.MustCompile(`CAP_[A-Z_]+`)
	goVersion  = regexp.MustCompile(`go1(?:\.\d+)?`)
)

// OnlyRun is the reason of a process of which nobody knows but who started it.
const OnlyRun = "started by sonde run, which takes its traces only: no profiles"

const linkedOut = "use runtime.MemProfile or net/http/pprof somewhere in the program, or build the agent in: the linker then keeps the heap profile"

// known are the reasons by a part of their text, in lower case; the first that is found counts.
var known = []struct{ part, reason, cure string }{
	{"denied by uid rule", "denied by rule (uid)", "take the uid out of deny, or put it into allow"},
	{"denied by path rule", "denied by rule (path)", "take the path out of deny, or put it into allow"},
	{"denied by port rule", "denied by rule (port)", "take the port out of deny, or put it into allow"},
	{"denied by its environment", "denied by its environment (SONDE_DISABLED)", "start it without SONDE_DISABLED"},
	{"denied by its pod", "denied by its pod's annotations", "change the annotation sonde.io/… of the pod"},
	{"denied", "denied by rule", "change allow and deny, or the pod's annotations"},
	{"left memory profiling out", "memory profiling was linked out", linkedOut},
	{"linked out", "memory profiling was linked out", linkedOut},
	{"memprofilerate to 0", "memory profiling is off", "do not set runtime.MemProfileRate to 0"},
	{"seccomp", "a seccomp profile forbids it", "run the sidecar with seccompProfile Unconfined, or one that allows perf_event_open and process_vm_readv"},
	{"perf_event_paranoid", "kernel.perf_event_paranoid forbids it", "grant CAP_PERFMON to the sidecar, or lower kernel.perf_event_paranoid to 2 and run as the same user"},
	{"ptrace_scope", "kernel.yama.ptrace_scope forbids it", "grant CAP_SYS_PTRACE to the sidecar"},
	{"first push is awaited", "the agent's first push is awaited", "nothing: it is new. If it stays, SONDE_URL of the process does not lead here"},
	{"needs root", "its files in /proc may not be read", "run the sidecar as root or grant it CAP_SYS_PTRACE"},
	{"without root", "its files in /proc may not be read", "run the sidecar as root or grant it CAP_SYS_PTRACE"},
	{"other network", "it lives in another network namespace", "run the sidecar with hostPID and CAP_SYS_ADMIN, or turn perf on"},
	{"no endpoint", "it has no endpoint, and perf is not on", "turn perf on (setting gather), import net/http/pprof and listen on loopback, or build the agent in"},
	{"started by sonde run", "started by sonde run, and nothing profiles it", "run sonde serve or a sidecar on its machine with perf (setting gather), or build the agent in"},
	{"not probed", "it has not been probed", "nothing: the next scan does"},
}

// Classify returns what a reason comes down to. Reasons that it does not know stand for themselves, without what differs from process to process.
func Classify(reason string) Class {
	// Where sampling was tried too, its refusal is what can be cured: that there is no endpoint is why it was tried.
	for part := range strings.SplitSeq(reason, "; ") {
		if why, ok := strings.CutPrefix(part, "perf: "); ok && !strings.HasPrefix(reason, "denied") {
			if c, ok := classify(why); ok {
				return c
			}
			head, _, _ := strings.Cut(why, ": ")
			return Class{Reason: clip("perf cannot watch it: " + head), Cure: "an agent or an endpoint works where perf does not"}
		}
	}
	c, _ := classify(reason)
	return c
}

// classify returns the class of a reason, and whether it is one that is known.
func classify(reason string) (c Class, ok bool) {
	lower := strings.ToLower(reason)
	if strings.Contains(lower, "does not turn") { // mutex and block profiles, which Go has off
		return Class{Reason: "mutex or block profiles are not turned on", Cure: "call runtime.SetMutexProfileFraction or runtime.SetBlockProfileRate in the program", Chosen: true}, true
	}
	if cap := capability.FindAllString(reason, -1); len(cap) > 0 && !strings.HasPrefix(lower, "denied") {
		missing := strings.Join(unique(cap), " and ")
		return Class{Reason: "missing capability " + missing, Cure: "grant " + missing + " to the sidecar (securityContext.capabilities.add in Kubernetes, AmbientCapabilities in systemd)"}, true
	}
	if v := goVersion.FindString(lower); v != "" && (strings.Contains(lower, "not supported") || strings.Contains(lower, "unknown") || strings.Contains(lower, "not known") || strings.Contains(lower, "unsupported")) {
		return Class{Reason: "Go version not supported: " + v, Cure: "build it with Go 1.18 to 1.26, or bring Sonde up to date; an agent or endpoint works with any version"}, true
	}
	for _, k := range known {
		if strings.Contains(lower, k.part) {
			return Class{Reason: k.reason, Cure: k.cure}, true
		}
	}
	head, rest, _ := strings.Cut(reason, ": ")
	if !strings.Contains(head, " ") && rest != "" { // the type of profile that it is about
		second, _, _ := strings.Cut(rest, ": ")
		head += ": " + second
	}
	return Class{Reason: clip(head)}, false
}

func unique(list []string) []string {
	var out []string
	seen := map[string]bool{}
	for _, s := range list {
		if !seen[s] {
			seen[s] = true
			out = append(out, s)
		}
	}
	return out
}
