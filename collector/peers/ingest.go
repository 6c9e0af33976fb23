package peers

import (
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/sonde-io/sonde/collector/receive"
	"github.com/sonde-io/sonde/collector/reply"
	"github.com/sonde-io/sonde/profiles"
)

// The bounds of what surrounds a profile in POST /ingest.
const (
	maxIngestParts  = 8
	maxConfigBytes  = 64 << 10 // of sample_type_config
	maxNameBytes    = 16 << 10
	maxNameLabels   = 128
	ingestFormatErr = "send pprof (the SDKs for Go do), or folded stacks with format=folded"
)

// columnConfig is what sample_type_config says of one column.
type columnConfig struct {
	DisplayName string `json:"display-name"`
	Cumulative  bool   `json:"cumulative"`
}

// ingestion is a request of POST /ingest once it is read.
type ingestion struct {
	query         url.Values
	profile, prev []byte
	columns       map[string]columnConfig
	format        string // pprof, groups or lines
}

// ingest answers POST /ingest, the first protocol of Pyroscope, which its SDKs speak.
func (h *Handler) ingest(p *receive.Peer) (any, error) {
	q, err := url.ParseQuery(p.Request().URL.RawQuery)
	if err != nil {
		return nil, missing("read parameters: %v", err)
	}
	o, app, err := nameOf(q)
	if err != nil {
		return nil, err
	}
	in, err := readIngestion(p, q)
	if err != nil {
		return nil, err
	}
	start, end, err := ingestTimes(q, p.Now())
	if err != nil {
		return nil, err
	}
	do := func(a *attempt) (partial, error) {
		if err := p.StartWork(); err != nil {
			return partial{}, err
		}
		it := item{origin: o, what: "profile", start: start, end: end}
		if in.format != "pprof" {
			if it.data, it.typ, err = foldedProfile(p, in, app); err != nil {
				return partial{}, err
			}
			if o.labels["service_name"] == app {
				o.labels["service_name"], _ = splitSuffix(app)
			}
		} else if err := in.decode(p, &it); err != nil {
			return partial{}, err
		}
		it.build = mainBuild(it.data)
		return h.keep(p, pyroscope, a, []item{it})
	}
	if in.format != "pprof" && start == 0 {
		return do(nil) // nothing in it tells a repeat from the next that is equal
	}
	return h.attempted(p, contentOf(p.Request(), in.profile, in.prev), do)
}

// decode decodes the profile, and subtracts the one before where it was sent too: SDKs that count from the start send both, and say cumulative.
func (in *ingestion) decode(p *receive.Peer, it *item) error {
	data, err := p.Decode("profile", in.profile)
	if err != nil {
		return err
	}
	it.typ = typeOf(data, it.origin.name, func(column string) string { return in.columns[column].DisplayName })
	cumulative := false
	for _, c := range in.columns {
		cumulative = cumulative || c.Cumulative
	}
	if in.prev == nil || !cumulative && in.columns != nil {
		it.data, it.cumulative = data, cumulative && in.prev == nil
		return nil
	}
	prev, err := p.Decode("prev_profile", in.prev)
	if err != nil {
		return err
	}
	d := profiles.NewDelta(it.typ)
	if _, err := d.Next(prev); err != nil {
		return reply.Errorf(http.StatusUnprocessableEntity, "prev_profile: %v", err)
	}
	if it.data, err = d.Next(data); err != nil {
		return reply.Errorf(http.StatusUnprocessableEntity, "profile: it does not continue prev_profile: %v", err)
	}
	return nil
}

// readIngestion reads the body.
func readIngestion(p *receive.Peer, q url.Values) (*ingestion, error) {
	in := &ingestion{query: q}
	r := p.Request()
	mt, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		mt = ""
	}
	format := q.Get("format")
	if f, ok := strings.CutPrefix(mt, "binary/octet-stream+"); ok && format == "" {
		format = f
	}
	switch format {
	case "", "pprof", "folded", "groups", "lines":
	default:
		return nil, &reply.Error{Status: http.StatusUnsupportedMediaType, Message: fmt.Sprintf("format %.32q is not read here", format), Hint: ingestFormatErr}
	}
	if mt == "multipart/form-data" {
		in.format = "pprof"
		return in, in.readParts(p, params["boundary"])
	}
	if in.profile, err = readUnary(p); err != nil {
		return nil, err
	}
	switch {
	case format == "" && len(in.profile) > 0 && (profiles.IsGzip(in.profile) || in.profile[0] == 0x0a):
		in.format = "pprof"
	case format == "" || format == "folded":
		in.format = "groups"
	default:
		in.format = format
	}
	return in, nil
}

// readParts reads a multipart body: profile, prev_profile and sample_type_config; other parts are passed over.
func (in *ingestion) readParts(p *receive.Peer, boundary string) error {
	if boundary == "" || len(boundary) > 70 {
		return missing("multipart boundary of %d bytes, want 1 to 70", len(boundary))
	}
	mr := multipart.NewReader(p.Body(), boundary)
	for n := 0; ; n++ {
		part, err := mr.NextRawPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			return p.ReadError("multipart body", err)
		}
		if n == maxIngestParts {
			return &reply.Error{Status: http.StatusUnprocessableEntity, Message: "the body has too many parts", Limit: "max_ingest_parts", Max: maxIngestParts}
		}
		switch name := part.FormName(); name {
		case "profile":
			in.profile, err = p.ReadAll("profile", part, 1)
		case "prev_profile":
			in.prev, err = p.ReadAll("prev_profile", part, 1)
		case "sample_type_config":
			err = in.readConfig(p, part)
		case "jfr":
			err = &reply.Error{Status: http.StatusUnsupportedMediaType, Message: "a recording of the Java flight recorder is not read here", Hint: ingestFormatErr}
		}
		if err != nil {
			return err
		}
	}
	if in.profile == nil {
		return missing("the body has no part named profile")
	}
	if len(in.prev) == 0 {
		in.prev = nil
	}
	return nil
}

// readConfig reads sample_type_config.
func (in *ingestion) readConfig(p *receive.Peer, part io.Reader) error {
	b, err := p.ReadAll("sample_type_config", io.LimitReader(part, maxConfigBytes+1), maxIngestParts)
	if err != nil {
		return err
	}
	if len(b) > maxConfigBytes {
		return &reply.Error{Status: http.StatusRequestEntityTooLarge, Message: "sample_type_config is too large", Limit: "max_sample_type_config_bytes", Max: maxConfigBytes}
	}
	if err := json.Unmarshal(b, &in.columns); err != nil {
		return missing("read sample_type_config: %v", err)
	}
	return nil
}

// nameOf reads the parameter name, which holds the labels too, and returns the application's name as it stands there.
func nameOf(q url.Values) (*origin, string, error) {
	app, labels, err := parseName(q.Get("name"))
	if err != nil {
		return nil, "", &reply.Error{Status: http.StatusBadRequest, Message: "parameter name: " + err.Error(), Hint: "it is app{label=value,label=value}"}
	}
	o := newOrigin(labels)
	if o.labels["service_name"] == "" {
		o.labels["service_name"] = app
	}
	if o.labels["service_name"] == "" {
		return nil, "", missing("parameter name is missing")
	}
	return o, app, nil
}

// parseName reads app{label=value,label=value}: values end at a comma or at the last brace.
func parseName(s string) (app string, labels map[string]string, err error) {
	if len(s) > maxNameBytes {
		return "", nil, fmt.Errorf("%d bytes, at most %d", len(s), maxNameBytes)
	}
	labels = map[string]string{}
	app, rest, braced := strings.Cut(s, "{")
	app = strings.TrimSpace(app)
	if !braced {
		return app, labels, nil
	}
	rest, closed := strings.CutSuffix(strings.TrimSpace(rest), "}")
	if !closed {
		return "", nil, fmt.Errorf("%.64q has no closing brace", s)
	}
	for pair := range strings.SplitSeq(rest, ",") {
		if strings.TrimSpace(pair) == "" {
			continue
		}
		name, value, ok := strings.Cut(pair, "=")
		name = strings.TrimSpace(name)
		if !ok || name == "" {
			return "", nil, fmt.Errorf("%.64q is not label=value", pair)
		}
		if len(labels) == maxNameLabels {
			return "", nil, fmt.Errorf("more than %d labels", maxNameLabels)
		}
		labels[name] = strings.TrimSpace(value)
	}
	return app, labels, nil
}

// ingestTimes reads from and until, 0 where they are not given.
func ingestTimes(q url.Values, now time.Time) (start, end int64, err error) {
	for name, t := range map[string]*int64{"from": &start, "until": &end} {
		if text := q.Get(name); text != "" {
			if *t, err = ingestTime(text, now); err != nil {
				return 0, 0, missing("parameter %s: %v", name, err)
			}
		}
	}
	return start, end, nil
}

// ingestTime reads a time in any of the units that senders use, which its size tells: seconds, milliseconds, microseconds or nanoseconds; or as our API has it. The result is in Unix ms.
func ingestTime(text string, now time.Time) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	switch {
	case err != nil:
		return profiles.ParseTime(text, now)
	case n < 0:
		return 0, fmt.Errorf("%d is before 1970", n)
	case n < 1e11:
		return n * 1e3, nil
	case n < 1e14:
		return n, nil
	case n < 1e17:
		return n / 1e3, nil
	}
	return n / 1e6, nil
}
