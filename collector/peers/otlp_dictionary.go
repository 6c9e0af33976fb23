package peers

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pprofile"

	"github.com/sonde-io/sonde/collector/reply"
	"github.com/sonde-io/sonde/profiles"
	"github.com/sonde-io/sonde/symbols/build"
)

// use says what an attribute of a sample is for.
type use uint8

const (
	ofSample  use = iota // it is a label of the sample
	ofProcess            // it says whose sample it is
	ofNobody             // it is left out
)

// attribute is an entry of the dictionary's table of attributes.
type attribute struct {
	use   use
	key   string // as sent: k8s.pod.name
	text  string
	label profiles.SampleLabel
}

// dictionary is a request's dictionary, every index of which has been checked.
type dictionary struct {
	d          pprofile.ProfilesDictionary
	strings    pcommon.StringSlice
	texts      []string // the same, as a profile may have them
	attributes []attribute
	builds     []string // of each mapping
	links      [][]profiles.SampleLabel
}

// processPrefixes are the names of attributes that describe a process, wherever they are found.
var processPrefixes = []string{"service.", "process.", "container.", "k8s.", "host.", "deployment.", "cloud.", "os."}

// useOf says what an attribute of a sample is for. Numbers of threads and processors are left out: each makes a stack of its own of what is the same to a Go program.
func useOf(key string) use {
	switch key {
	case "thread.id", "cpu.logical_number", "profile.frame.type", "process.parent_pid":
		return ofNobody
	}
	for _, p := range processPrefixes {
		if strings.HasPrefix(key, p) {
			return ofProcess
		}
	}
	return ofSample
}

// newDictionary checks d: every reference of its tables to another.
func newDictionary(d pprofile.ProfilesDictionary) (*dictionary, error) {
	x := &dictionary{d: d, strings: d.StringTable()}
	for _, check := range []func() error{x.checkAttributes, x.checkMappings, x.checkFunctions, x.checkLocations, x.checkStacks} {
		if err := check(); err != nil {
			return nil, err
		}
	}
	x.readLinks()
	x.texts = make([]string, x.strings.Len())
	for i := range x.texts {
		x.texts[i] = strings.ToValidUTF8(cut(x.strings.At(i), maxText), "�")
	}
	return x, nil
}

// place is an entry of a table, or what is named, in errors.
type place struct {
	what string
	at   int // -1: what is all
}

func (p place) String() string {
	if p.at < 0 {
		return p.what
	}
	return p.what + " " + strconv.Itoa(p.at)
}

// within checks that index i of a table of n entries is in it. Index 0 means none where the table is empty.
func within(i int32, n int, where place, table string) error {
	if i < 0 || int(i) >= n && i != 0 {
		return reply.Errorf(http.StatusBadRequest, "OTLP request: %v refers to %s %d, there are %d", where, table, i, n)
	}
	return nil
}

// text returns string i, "" where there is none.
func (x *dictionary) text(i int32, where place) (string, error) {
	if err := within(i, x.strings.Len(), where, "string"); err != nil || int(i) >= x.strings.Len() {
		return "", err
	}
	return x.strings.At(int(i)), nil
}

func (x *dictionary) checkAttributes() error {
	t := x.d.AttributeTable()
	x.attributes = make([]attribute, t.Len())
	for i := range x.attributes {
		in, where := t.At(i), place{"attribute", i}
		key, err := x.text(in.KeyStrindex(), where)
		if err != nil {
			return err
		}
		unit, err := x.text(in.UnitStrindex(), where)
		if err != nil {
			return err
		}
		a := attribute{use: useOf(key), key: key, label: profiles.SampleLabel{Key: strings.ToValidUTF8(key, "�")}}
		switch v := in.Value(); v.Type() {
		case pcommon.ValueTypeInt:
			a.label.Num, a.label.Numeric, a.label.Unit = v.Int(), true, unit
			a.text = strconv.FormatInt(v.Int(), 10)
		default:
			a.text = strings.ToValidUTF8(v.AsString(), "�")
			a.label.Str = a.text
		}
		if key == "" || a.use == ofSample && (len(key) > maxSampleLabel || len(a.text) > maxSampleLabel || len(unit) > maxSampleLabel) {
			a.use = ofNobody
		}
		x.attributes[i] = a
	}
	return nil
}

func (x *dictionary) checkMappings() error {
	t := x.d.MappingTable()
	x.builds = make([]string, t.Len())
	for i := range x.builds {
		m, where := t.At(i), place{"mapping", i}
		if _, err := x.text(m.FilenameStrindex(), where); err != nil {
			return err
		}
		ids := map[string]string{}
		for _, k := range m.AttributeIndices().All() {
			if err := within(k, len(x.attributes), where, "attribute"); err != nil {
				return err
			}
			if int(k) < len(x.attributes) {
				ids[x.attributes[k].key] = x.attributes[k].text
			}
		}
		switch {
		case ids["process.executable.build_id.gnu"] != "":
			x.builds[i] = ids["process.executable.build_id.gnu"]
		case ids["process.executable.build_id.go"] != "":
			x.builds[i] = build.Key("", ids["process.executable.build_id.go"])
		default:
			x.builds[i] = ids["process.executable.build_id.htlhash"]
		}
		x.builds[i] = cut(x.builds[i], maxBuildID)
	}
	return nil
}

func (x *dictionary) checkFunctions() error {
	t := x.d.FunctionTable()
	for i := range t.Len() {
		f := t.At(i)
		for _, s := range []int32{f.NameStrindex(), f.SystemNameStrindex(), f.FilenameStrindex()} {
			if err := within(s, x.strings.Len(), place{"function", i}, "string"); err != nil {
				return err
			}
		}
	}
	return nil
}

func (x *dictionary) checkLocations() error {
	t, functions, mappings := x.d.LocationTable(), x.d.FunctionTable().Len(), x.d.MappingTable().Len()
	for i := range t.Len() {
		l := t.At(i)
		if err := within(l.MappingIndex(), mappings, place{"location", i}, "mapping"); err != nil {
			return err
		}
		for k := range l.Lines().Len() {
			if err := within(l.Lines().At(k).FunctionIndex(), functions, place{"location", i}, "function"); err != nil {
				return err
			}
		}
		for _, a := range l.AttributeIndices().All() {
			if err := within(a, len(x.attributes), place{"location", i}, "attribute"); err != nil {
				return err
			}
		}
	}
	return nil
}

func (x *dictionary) checkStacks() error {
	t, locations := x.d.StackTable(), x.d.LocationTable().Len()
	for i := range t.Len() {
		ids := t.At(i).LocationIndices()
		if n := ids.Len(); n > maxDepth {
			return &reply.Error{Status: http.StatusUnprocessableEntity, Message: fmt.Sprintf("OTLP request: stack %d has too many frames", i), Limit: profiles.LimitStack, Max: maxDepth, Got: int64(n)}
		}
		for _, id := range ids.All() {
			if err := within(id, locations, place{"stack", i}, "location"); err != nil {
				return err
			}
		}
	}
	return nil
}

// readLinks makes the labels of links to spans.
func (x *dictionary) readLinks() {
	t := x.d.LinkTable()
	x.links = make([][]profiles.SampleLabel, t.Len())
	for i := range x.links {
		if id := t.At(i).SpanID(); !id.IsEmpty() {
			x.links[i] = append(x.links[i], profiles.SampleLabel{Key: "span_id", Str: id.String()})
		}
		if id := t.At(i).TraceID(); !id.IsEmpty() {
			x.links[i] = append(x.links[i], profiles.SampleLabel{Key: "trace_id", Str: id.String()})
		}
	}
}

// The bounds of one label of a sample, of a stack, of a build id and of any name; those of a pprof profile are the same.
const (
	maxSampleLabel  = 1024
	maxSampleLabels = 64
	maxDepth        = 1024
	maxBuildID      = 128
	maxText         = 64 << 10 // of any name
)

// clampMs turns ns since 1970, or a length, into ms.
func clampMs(ns uint64) int64 { return int64(ns / 1e6) }
