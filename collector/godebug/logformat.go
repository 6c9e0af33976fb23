package godebug

import (
	"bytes"
	"encoding/json"
	"path"
	"regexp"
	"strings"
	"time"
)

// entry is one entry of a log.
type entry struct {
	at     int64 // Unix ms; 0: the log does not tell
	stream string
	text   []byte // with a line break where the program wrote one
}

// decoders read one line of a log, which has no line break any more; false: it is none of the format.
var decoders = map[string]func(line []byte) (entry, bool){FormatPlain: readPlain, FormatCRI: readCRI, FormatDocker: readDocker}

func readPlain(line []byte) (entry, bool) {
	return entry{text: append(bytes.Clone(line), '\n')}, true
}

// readCRI reads TIME STREAM TAG TEXT as Kubernetes' container runtimes write it; the tag P says that the line goes on.
func readCRI(line []byte) (entry, bool) {
	fields := bytes.SplitN(line, []byte(" "), 4)
	if len(fields) != 4 {
		return entry{}, false
	}
	at, err := time.Parse(time.RFC3339Nano, string(fields[0]))
	stream := string(fields[1])
	if err != nil || stream != "stdout" && stream != "stderr" {
		return entry{}, false
	}
	e := entry{at: at.UnixMilli(), stream: stream, text: bytes.Clone(fields[3])}
	switch tag, _, _ := bytes.Cut(fields[2], []byte(":")); string(tag) {
	case "F":
		e.text = append(e.text, '\n')
	case "P":
	default:
		return entry{}, false
	}
	return e, true
}

// readDocker reads {"log":"TEXT\n","stream":"stderr","time":"…"}; without a line break the text goes on.
func readDocker(line []byte) (entry, bool) {
	if len(line) == 0 || line[0] != '{' {
		return entry{}, false
	}
	var v struct {
		Log    *string
		Stream string
		Time   time.Time
	}
	if json.Unmarshal(line, &v) != nil || v.Log == nil || v.Time.IsZero() {
		return entry{}, false
	}
	return entry{at: v.Time.UnixMilli(), stream: v.Stream, text: []byte(*v.Log)}, true
}

// guess names the format of a log by a line of it.
func guess(line []byte) string {
	for _, f := range []string{FormatCRI, FormatDocker} {
		if _, ok := decoders[f](line); ok {
			return f
		}
	}
	return FormatPlain
}

// The places where the id of a container stands in the names of logs: of Kubernetes' /var/log/containers/POD_NAMESPACE_CONTAINER-ID.log, of Docker's ID/ID-json.log.
var containerID = regexp.MustCompile(`(?:^|[-/])([0-9a-f]{64})(?:-json)?\.log$`)

// podLog is /var/log/pods/NAMESPACE_POD_UID/CONTAINER/N.log.
var podLog = regexp.MustCompile(`/([a-z0-9.-]+)_([a-z0-9.-]+)_([0-9a-f-]{32,36})/([a-z0-9.-]+)/[0-9]+\.log$`)

// origin is what the name of a log tells of who wrote it.
type origin struct {
	container string // 64 hex digits; "": not told
	podUID    string
	name      string // of the container, or of the file
}

func originOf(file string) (o origin) {
	if m := containerID.FindStringSubmatch(file); m != nil {
		o.container = m[1]
	}
	base := path.Base(file)
	if m := podLog.FindStringSubmatch(file); m != nil {
		o.podUID, o.name = m[3], m[4]
		return o
	}
	o.name = strings.TrimSuffix(base, path.Ext(base))
	if o.container != "" { // POD_NAMESPACE_CONTAINER-ID
		o.name = strings.TrimSuffix(o.name, "-"+o.container)
		if i := strings.LastIndexByte(o.name, '_'); i >= 0 {
			o.name = o.name[i+1:]
		}
	}
	return o
}
