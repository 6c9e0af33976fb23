package peers

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/sonde-io/sonde/collector/receive"
	"github.com/sonde-io/sonde/collector/reply"
	"github.com/sonde-io/sonde/profiles"
)

// foldedCost is what a byte of folded stacks can become in memory: two bytes make a frame with a function of its own.
const foldedCost = 96

// foldedTypes says what the columns of senders that send one at a time are: by the end of the application's name, or by units.
var foldedTypes = map[string]struct{ typ, column, unit string }{
	"cpu": {"cpu", "samples", "count"}, "samples": {"cpu", "samples", "count"}, "alloc_objects": {"heap", "alloc_objects", "count"}, "alloc_space": {"heap", "alloc_space", "bytes"},
	"inuse_objects": {"heap", "inuse_objects", "count"}, "inuse_space": {"heap", "inuse_space", "bytes"}, "objects": {"heap", "alloc_objects", "count"},
	"bytes": {"heap", "alloc_space", "bytes"}, "goroutines": {"goroutine", "goroutine", "count"}, "mutex_count": {"mutex", "contentions", "count"},
	"mutex_duration": {"mutex", "delay", "nanoseconds"}, "block_count": {"block", "contentions", "count"}, "block_duration": {"block", "delay", "nanoseconds"},
	"lock_samples": {"mutex", "contentions", "count"}, "lock_nanoseconds": {"mutex", "delay", "nanoseconds"}, "wall": {"wall", "wall", "nanoseconds"},
}

// foldedProfile reads folded stacks, outermost frame first: "a;b;c 12" a line, or as format=lines a stack that was met once.
func foldedProfile(p *receive.Peer, in *ingestion, app string) (*profiles.Profile, string, error) {
	if err := p.HoldDecoded(foldedCost * int64(len(in.profile))); err != nil {
		return nil, "", err
	}
	_, suffix := splitSuffix(app)
	what, ok := foldedTypes[suffix]
	if !ok {
		if what, ok = foldedTypes[in.query.Get("units")]; !ok {
			what = foldedTypes["samples"]
		}
	}
	rate := uint64(100)
	if text := in.query.Get("sampleRate"); text != "" {
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return nil, "", missing("parameter sampleRate: %.32q is not a number", text)
		}
		if n > 0 {
			rate = n
		}
	}
	data := &profiles.Profile{SampleTypes: []profiles.ValueType{{Type: what.column, Unit: what.unit}}}
	if what.typ == "cpu" {
		data.PeriodType, data.Period = profiles.ValueType{Type: "cpu", Unit: "nanoseconds"}, int64(1e9/rate)
	}
	f := folder{p: data, limits: p.Limits(), functions: map[string]uint32{}}
	n := 0
	for line := range bytes.Lines(in.profile) {
		n++
		if err := f.line(string(bytes.TrimSpace(line)), in.format == "lines"); err != nil {
			if e, ok := errors.AsType[*reply.Error](err); ok {
				return nil, "", e
			}
			return nil, "", reply.Errorf(http.StatusUnprocessableEntity, "folded stacks: line %d: %v", n, err)
		}
	}
	return data, what.typ, nil
}

// splitSuffix cuts the column's name off an application's: cart.alloc_space is alloc_space of cart. suffix is "" where there is none.
func splitSuffix(app string) (name, suffix string) {
	if i := strings.LastIndexByte(app, '.'); i > 0 {
		if _, ok := foldedTypes[app[i+1:]]; ok {
			return app[:i], app[i+1:]
		}
	}
	return app, ""
}

// folder builds a profile of folded stacks.
type folder struct {
	p         *profiles.Profile
	limits    receive.Limits
	functions map[string]uint32
}

// line adds a line.
func (f *folder) line(s string, single bool) error {
	if s == "" {
		return nil
	}
	v := int64(1)
	if !single {
		i := strings.LastIndexByte(s, ' ')
		n, err := strconv.ParseInt(s[i+1:], 10, 64)
		if i < 0 || err != nil || n < 0 {
			return fmt.Errorf("want frames separated by ; and a number, have %.64q", s)
		}
		s, v = strings.TrimSpace(s[:i]), n
	}
	if len(f.p.Samples) == f.limits.Samples {
		return &reply.Error{Status: http.StatusUnprocessableEntity, Message: "too many samples", Limit: "max_samples", Max: int64(f.limits.Samples)}
	}
	lo := uint32(len(f.p.LocationIDs))
	for end := len(s); end >= 0; { // the innermost is last
		i := strings.LastIndexByte(s[:end], ';')
		if name := s[i+1 : end]; name != "" {
			f.p.LocationIDs = append(f.p.LocationIDs, f.function(strings.ToValidUTF8(name, "�")))
		}
		end = i
	}
	if depth := len(f.p.LocationIDs) - int(lo); depth > maxDepth {
		return &reply.Error{Status: http.StatusUnprocessableEntity, Message: "too many frames in a stack", Limit: profiles.LimitStack, Max: maxDepth, Got: int64(depth)}
	}
	f.p.Samples = append(f.p.Samples, profiles.Sample{Locations: profiles.Span{Lo: lo, Hi: uint32(len(f.p.LocationIDs))}})
	f.p.Values = append(f.p.Values, v)
	return nil
}

// function returns the location of a function.
func (f *folder) function(name string) uint32 {
	id, ok := f.functions[name]
	if !ok {
		id = uint32(len(f.p.Functions))
		f.functions[name] = id
		f.p.Functions = append(f.p.Functions, profiles.Function{Name: name, SystemName: name})
		f.p.Lines = append(f.p.Lines, profiles.Line{Function: id})
		f.p.Locations = append(f.p.Locations, profiles.Location{Lines: profiles.Span{Lo: id, Hi: id + 1}})
	}
	return id
}
