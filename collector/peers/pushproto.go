package peers

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/sonde-io/sonde/collector/reply"
)

// The most series, labels of one series, and profiles that one push of Pyroscope's protocol may have: Alloy sends one profile a push.
const (
	maxPushSeries  = 4096
	maxPushLabels  = 128
	maxPushSamples = 4096
)

// rawSeries is a RawProfileSeries: pprof profiles of one process with its labels.
type rawSeries struct {
	labels   map[string]string
	profiles [][]byte
}

// tooMany says that a push passes one of its bounds.
func tooMany(limit, what string, most int) error {
	return &reply.Error{Status: http.StatusUnprocessableEntity, Message: "push: too many " + what, Limit: limit, Max: int64(most), Hint: "send several pushes"}
}

// decodePush reads a push.v1.PushRequest: series = 1 {labels = 1 {name = 1, value = 2}, samples = 2 {raw_profile = 1, ID = 2}}. The profiles lie in b.
func decodePush(b []byte) (out []rawSeries, err error) {
	profiles := 0
	err = each(b, func(f field) error {
		if f.number != 1 || f.wire != 2 {
			return nil
		}
		if len(out) == maxPushSeries {
			return tooMany("max_push_series", "series", maxPushSeries)
		}
		s := rawSeries{labels: map[string]string{}}
		if err := each(f.bytes, func(f field) error { return s.field(f) }); err != nil {
			return err
		}
		if profiles += len(s.profiles); profiles > maxPushSamples {
			return tooMany("max_push_profiles", "profiles", maxPushSamples)
		}
		out = append(out, s)
		return nil
	})
	if errors.Is(err, errWire) {
		return nil, reply.Errorf(http.StatusBadRequest, "push: %v", err)
	}
	return out, err
}

// field takes one field of a RawProfileSeries.
func (s *rawSeries) field(f field) error {
	switch {
	case f.number == 1 && f.wire == 2:
		var name, value string
		if err := each(f.bytes, func(f field) error {
			switch {
			case f.number == 1 && f.wire == 2:
				name = string(f.bytes)
			case f.number == 2 && f.wire == 2:
				value = string(f.bytes)
			}
			return nil
		}); err != nil {
			return err
		}
		return s.label(name, value)
	case f.number == 2 && f.wire == 2:
		var raw []byte
		if err := each(f.bytes, func(f field) error {
			if f.number == 1 && f.wire == 2 {
				raw = f.bytes
			}
			return nil
		}); err != nil {
			return err
		}
		return s.profile(raw)
	}
	return nil
}

// label adds a label.
func (s *rawSeries) label(name, value string) error {
	if len(s.labels) == maxPushLabels {
		return tooMany("max_push_labels", "labels of a series", maxPushLabels)
	}
	s.labels[name] = value
	return nil
}

// profile adds a profile.
func (s *rawSeries) profile(raw []byte) error {
	if len(s.profiles) == maxPushSamples {
		return tooMany("max_push_profiles", "profiles", maxPushSamples)
	}
	s.profiles = append(s.profiles, raw)
	return nil
}

// base64Bytes are bytes as protobuf's JSON has them: base64 of either alphabet, padded or not.
type base64Bytes []byte

// UnmarshalJSON implements json.Unmarshaler.
func (b *base64Bytes) UnmarshalJSON(in []byte) error {
	var s string
	if err := json.Unmarshal(in, &s); err != nil {
		return err
	}
	s = strings.TrimRight(s, "=")
	enc := base64.RawStdEncoding
	if strings.ContainsAny(s, "-_") {
		enc = base64.RawURLEncoding
	}
	out, err := enc.DecodeString(s)
	*b = out
	return err
}

// decodePushJSON reads a push.v1.PushRequest in protobuf's JSON.
func decodePushJSON(b []byte) (out []rawSeries, err error) {
	var m struct {
		Series []struct {
			Labels  []struct{ Name, Value string }
			Samples []struct {
				RawProfile base64Bytes `json:"rawProfile"`
				Original   base64Bytes `json:"raw_profile"` // as the message's definition has it, which readers of protobuf's JSON take too
			}
		}
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, reply.Errorf(http.StatusBadRequest, "push: %v", err)
	}
	if len(m.Series) > maxPushSeries {
		return nil, tooMany("max_push_series", "series", maxPushSeries)
	}
	profiles := 0
	for _, in := range m.Series {
		s := rawSeries{labels: map[string]string{}}
		for _, l := range in.Labels {
			if err := s.label(l.Name, l.Value); err != nil {
				return nil, err
			}
		}
		for _, x := range in.Samples {
			raw := x.RawProfile
			if raw == nil {
				raw = x.Original
			}
			if err := s.profile(raw); err != nil {
				return nil, err
			}
		}
		if profiles += len(s.profiles); profiles > maxPushSamples {
			return nil, tooMany("max_push_profiles", "profiles", maxPushSamples)
		}
		out = append(out, s)
	}
	return out, nil
}

// what names a profile of a push in errors.
func what(series, profile int) string { return fmt.Sprintf("series[%d].samples[%d]", series, profile) }
