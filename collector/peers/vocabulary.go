package peers

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/sonde-io/sonde/collector/receive"
	"github.com/sonde-io/sonde/internal/catalog"
)

// renamed says what other systems' labels are called here, after their dots have become underscores.
var renamed = map[string]string{
	"hostname": "host_name", "host": "host_name", "nodename": "k8s_node_name", "node": "k8s_node_name", "namespace": "k8s_namespace_name", "pod": "k8s_pod_name",
	"container": "k8s_container_name", "version": "service_version", "env": "deployment_environment_name", "environment": "deployment_environment_name",
	"deployment_environment": "deployment_environment_name", "service_repository": "vcs_repository_url_full", "service_git_ref": "vcs_ref_head_revision",
	"instance_id": "service_instance_id",
}

// dropped are labels that describe the sender's software, or what is kept elsewhere: they would make two series of one.
var dropped = map[string]bool{
	"otel_scope_name": true, "otel_scope_version": true, "process_runtime_name": true, "process_runtime_description": true, "telemetry_sdk_name": true,
	"telemetry_sdk_language": true, "telemetry_sdk_version": true, "pyroscope_spy": true, "service_name": false,
}

// private says which attributes of a process are not taken although they are sent: its arguments and its environment may hold secrets.
func private(name string) bool {
	return strings.HasPrefix(name, "process_environment_variable") || name == "process_command_args" || name == "process_command_line" || name == "process_command"
}

// origin is a process as its sender describes it.
type origin struct {
	labels   map[string]string // in our vocabulary, service_name among them
	instance string            // the sender's own id of the process, "" where it has none
	session  string            // an id that is not unique alone
	name     string            // __name__: the metric, which says which type of profile it is
	delta    string            // __delta__: "false" where values are an interval's already
	build    string            // id of the binary
	row      catalog.Process   // what labels do not say
	stripped int               // labels left out
}

// newOrigin translates labels. Those that end up with the same name are the same thing said twice; the one that has our name already wins.
func newOrigin(in map[string]string) *origin {
	o := &origin{labels: make(map[string]string, len(in))}
	for _, raw := range slices.Sorted(maps.Keys(in)) {
		value := in[raw]
		switch raw {
		case "__name__":
			o.name = value
			continue
		case "__delta__":
			o.delta = value
			continue
		case "__session_id__":
			o.session = value
			continue
		}
		name := labelName(raw)
		if private(name) || name == "" || strings.HasPrefix(name, "__") {
			o.stripped++
			continue
		}
		if to, ok := renamed[name]; ok {
			if _, both := in[to]; !both && o.labels[to] == "" {
				name = to
			}
		}
		o.take(name, strings.ToValidUTF8(value, "�"))
	}
	o.row.Version, o.row.Host = o.labels["service_version"], o.labels["host_name"]
	return o
}

// take puts a label where it belongs.
func (o *origin) take(name, value string) {
	switch {
	case dropped[name]:
	case name == "service_instance_id":
		if len(value) > 128 {
			o.session = value
		} else {
			o.instance = value
		}
	case strings.HasPrefix(name, "process_executable_build_id_"):
		if name == "process_executable_build_id_gnu" {
			o.build = value
		}
	case name == "process_runtime_version":
		if strings.HasPrefix(value, "go") {
			o.row.GoVersion = value
		}
	default:
		switch name {
		case "process_executable_path":
			o.row.Exe = value
		case "process_pid":
			for _, c := range []byte(value) {
				if c < '0' || c > '9' || o.row.PID > 1<<30 {
					o.row.PID = 0
					break
				}
				o.row.PID = o.row.PID*10 + int(c-'0')
			}
		}
		o.labels[name] = value
	}
}

// labelName writes a label's name with the letters that ours have: k8s.pod.name is k8s_pod_name.
func labelName(s string) string {
	ok := s != ""
	for i, c := range []byte(s) {
		ok = ok && letter(c, i)
	}
	if ok {
		return s
	}
	b := []byte(s)
	for i, c := range b {
		if !letter(c, 1) {
			b[i] = '_'
		}
	}
	if len(b) > 0 && b[0] >= '0' && b[0] <= '9' {
		b = append([]byte("_"), b...)
	}
	return string(b)
}

// letter reports whether c may be at place i of a label's name.
func letter(c byte, i int) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || i > 0 && c >= '0' && c <= '9'
}

// first are the labels that are kept where there are too many.
var first = []string{"service_name", "service_version", "service_namespace", "host_name", "k8s_namespace_name", "k8s_pod_name", "k8s_container_name", "k8s_node_name", "process_pid",
	"container_id", "deployment_environment_name"}

// fit strips labels until the rest is within the limits: senders do not know these, and a profile is worth more than its twentieth label.
func (o *origin) fit(l receive.Limits) {
	names := slices.Collect(maps.Keys(o.labels))
	slices.SortFunc(names, func(a, b string) int {
		rank := func(s string) int {
			if i := slices.Index(first, s); i >= 0 {
				return i
			}
			return len(first)
		}
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b))
	})
	kept := 1 // service_instance_id
	for _, name := range names {
		value := o.labels[name]
		switch {
		case value == "":
			delete(o.labels, name)
		case name == "service_name":
			o.labels[name] = cut(value, l.LabelValueBytes)
			kept++
		case kept >= l.Labels || len(name) > l.LabelNameBytes || len(value) > l.LabelValueBytes:
			delete(o.labels, name)
			o.stripped++
		default:
			kept++
		}
	}
}

// cut shortens s to at most n bytes of whole characters.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// id returns what the process is called: what its sender calls it, else a hash of its labels and of the sender's session (Pyroscope's SDK makes it from the host's name, so it
// says which host, and not which process), or where there is none of the address that the sender has.
func (o *origin) id(remote string) string {
	if o.instance != "" && utf8.ValidString(o.instance) {
		return o.instance
	}
	h := sha256.New()
	add := func(s string) {
		h.Write([]byte(s))
		h.Write([]byte{0})
	}
	for _, name := range slices.Sorted(maps.Keys(o.labels)) {
		add(name)
		add(o.labels[name])
	}
	if o.session != "" {
		add("session")
		add(o.session)
	} else {
		add("address")
		add(remote)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}
