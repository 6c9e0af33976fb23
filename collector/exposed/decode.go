package exposed

import (
	"bytes"
	"errors"
	"fmt"
	"mime"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// accept asks for what has native histograms first.
const accept = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7,application/openmetrics-text;version=1.0.0;q=0.3,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"

// form is how metrics are written.
type form int

const (
	formText form = iota
	formOpenMetrics
	formProtobuf
)

// errNoMetrics says that an answer is something else: a page for people, mostly.
var errNoMetrics = errors.New("no metrics")

// formOf reads a content type.
func formOf(contentType string) (form, error) {
	mt, params, err := mime.ParseMediaType(contentType)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%w: content type %.100q", errNoMetrics, contentType)
	case mt == "text/plain":
		return formText, nil
	case mt == "application/openmetrics-text":
		return formOpenMetrics, nil
	case mt == "application/vnd.google.protobuf" && params["proto"] == "io.prometheus.client.MetricFamily" && params["encoding"] == "delimited":
		return formProtobuf, nil
	}
	return 0, fmt.Errorf("%w: content type %.100q", errNoMetrics, contentType)
}

// decode reads the families whose name keep lets through. Others are not looked at: a program may have ten thousand of them.
func decode(body []byte, f form, keep func(name []byte) bool) ([]*dto.MetricFamily, error) {
	if f == formProtobuf {
		return decodeProtobuf(body, keep)
	}
	p := expfmt.NewTextParser(model.UTF8Validation)
	families, err := p.TextToMetricFamilies(bytes.NewReader(keptLines(body, f == formOpenMetrics, keep)))
	if err != nil {
		return nil, err
	}
	out := make([]*dto.MetricFamily, 0, len(families))
	for _, mf := range families {
		out = append(out, mf)
	}
	return out, nil
}

// keptLines returns the lines about names that keep lets through, in a form that the parser of the text format takes.
func keptLines(body []byte, openMetrics bool, keep func(name []byte) bool) []byte {
	out := make([]byte, 0, min(len(body), 64<<10))
	for line := range bytes.Lines(body) {
		line = bytes.TrimRight(line, "\r\n")
		if rest, ok := bytes.CutPrefix(line, []byte("# ")); ok {
			kind, rest, _ := bytes.Cut(rest, []byte{' '})
			name, text, _ := bytes.Cut(rest, []byte{' '})
			// In OpenMetrics a counter and a gauge may have one name, up to _total: only what is needed to read the samples is kept.
			wanted := string(kind) == "TYPE" && textType(text, openMetrics) || string(kind) == "HELP" && !openMetrics
			if !wanted || !keep(unquoted(name)) {
				continue
			}
		} else if len(line) == 0 || line[0] == '#' {
			continue
		} else {
			name := nameOf(line)
			if !keep(name) {
				continue
			}
			if openMetrics {
				if bytes.HasSuffix(name, []byte("_created")) {
					continue
				}
				line = withoutExtras(line)
			}
		}
		out = append(append(out, line...), '\n')
	}
	return out
}

// textType reports whether the text format has a type, and it matters. Series of others are read without one.
func textType(t []byte, openMetrics bool) bool {
	switch string(t) {
	case "histogram", "summary":
		return true
	case "counter", "gauge", "untyped":
		return !openMetrics
	}
	return false
}

func unquoted(name []byte) []byte { return bytes.Trim(name, `"`) }

// nameOf returns the name that a line of a sample begins with; since Prometheus 3 it may be quoted within the braces.
func nameOf(line []byte) []byte {
	if rest, ok := bytes.CutPrefix(line, []byte(`{"`)); ok {
		name, _, _ := bytes.Cut(rest, []byte{'"'})
		return name
	}
	if i := bytes.IndexAny(line, "{ \t"); i >= 0 {
		return line[:i]
	}
	return line
}

// withoutExtras cuts the exemplar and the time off a sample's line of OpenMetrics.
func withoutExtras(line []byte) []byte {
	from := 0
	if i := bytes.IndexByte(line, '{'); i >= 0 && i == len(nameOf(line)) || bytes.HasPrefix(line, []byte("{")) {
		quoted := false
		for from = i + 1; from < len(line); from++ {
			switch c := line[from]; {
			case quoted && c == '\\':
				from++
			case c == '"':
				quoted = !quoted
			case c == '}' && !quoted:
				goto closed
			}
		}
		return line // the parser says what is wrong with it
	}
closed:
	from = min(from, len(line))
	rest := line[from:]
	if i := bytes.Index(rest, []byte(" # ")); i >= 0 {
		rest = rest[:i]
	}
	f := bytes.Fields(rest)
	// The brace, or the name, then the value, and maybe the time.
	if len(f) > 2 {
		end := bytes.Index(rest, f[1])
		rest = rest[:end+len(f[1])]
	}
	return line[:from+len(rest)]
}

var errCut = errors.New("the message is cut short")

// decodeProtobuf reads families that each have their length before them.
func decodeProtobuf(body []byte, keep func(name []byte) bool) (out []*dto.MetricFamily, err error) {
	for len(body) > 0 {
		msg, n := protowire.ConsumeBytes(body)
		if n < 0 {
			return nil, errCut
		}
		body = body[n:]
		if !keep(familyName(msg)) {
			continue
		}
		mf := new(dto.MetricFamily)
		if err := proto.Unmarshal(msg, mf); err != nil {
			return nil, err
		}
		out = append(out, mf)
	}
	return out, nil
}

// familyName finds the name in a family's message, its first field.
func familyName(msg []byte) []byte {
	for len(msg) > 0 {
		num, ty, n := protowire.ConsumeTag(msg)
		if n < 0 {
			return nil
		}
		msg = msg[n:]
		if num == 1 && ty == protowire.BytesType {
			name, n := protowire.ConsumeBytes(msg)
			if n < 0 {
				return nil
			}
			return name
		}
		if n = protowire.ConsumeFieldValue(num, ty, msg); n < 0 {
			return nil
		}
		msg = msg[n:]
	}
	return nil
}
