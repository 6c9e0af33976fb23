package peers

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sonde-io/sonde/collector/receive"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles"
	"github.com/sonde-io/sonde/profiles/store"
	"github.com/sonde-io/sonde/symbols/binaries"
)

// sink keeps what it is given.
type sink struct {
	mu     sync.Mutex
	pushes []store.Push
	fail   func(p *store.Push) error // nil: never
}

func (s *sink) Append(_ context.Context, p store.Push) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		if err := s.fail(&p); err != nil {
			return err
		}
	}
	p.Profiles = slices.Clone(p.Profiles)
	for i := range p.Profiles {
		p.Profiles[i].Data = copied(p.Profiles[i].Data)
	}
	taken := p.Taken
	p.Taken = nil
	s.pushes = append(s.pushes, p)
	if taken != nil {
		taken()
	}
	return nil
}

// copied copies a profile with its strings, which lie in a buffer that is used again.
func copied(p *profiles.Profile) *profiles.Profile {
	c, err := profiles.Parse(profiles.AppendProfile(nil, p), profiles.Limits{})
	if err != nil {
		panic(err)
	}
	return c
}

// noProcesses knows no process.
type noProcesses struct{}

func (noProcesses) Process(context.Context, string) (catalog.Process, error) {
	return catalog.Process{}, catalog.ErrNotFound
}

// server is a collector's endpoints for other systems' senders, over HTTP/1.1 and HTTP/2 without TLS.
type server struct {
	*httptest.Server
	sink *sink
	h    *Handler
	now  time.Time
}

func limits() receive.Limits {
	return receive.Limits{BodyBytes: 4 << 20, DecompressedBytes: 16 << 20, Samples: 20_000, Labels: 32, LabelNameBytes: 128, LabelValueBytes: 1024, Concurrent: 16}
}

func newServer(t testing.TB, l receive.Limits, b *binaries.Store) *server {
	t.Helper()
	s := &server{sink: &sink{}, now: time.Now()}
	rc := receive.New(receive.Config{Sink: s.sink, Processes: noProcesses{}, Limits: l, Now: func() time.Time { return s.now }})
	s.h = New(Config{Receive: rc, Binaries: b})
	mux := http.NewServeMux()
	s.h.Register(mux)
	s.Server = httptest.NewUnstartedServer(mux)
	s.Config.Protocols = &http.Protocols{}
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	return s
}

// stack is a stack of a test's profile, outermost function first.
type stack struct {
	functions string // a;b;c
	values    []int64
}

// pprofOf encodes a profile.
func pprofOf(types string, at time.Time, d time.Duration, stacks ...stack) []byte {
	p := &profiles.Profile{TimeNanos: at.UnixNano(), DurationNanos: int64(d), Period: 10_000_000, PeriodType: profiles.ValueType{Type: "cpu", Unit: "nanoseconds"},
		Mappings: []profiles.Mapping{{Start: 0x400000, Limit: 0x800000, File: "/app/cart", BuildID: "abcdef0123456789"}}}
	for t := range strings.SplitSeq(types, ",") {
		name, unit, _ := strings.Cut(t, "/")
		p.SampleTypes = append(p.SampleTypes, profiles.ValueType{Type: name, Unit: unit})
	}
	ids := map[string]uint32{}
	for _, s := range stacks {
		lo := uint32(len(p.LocationIDs))
		names := strings.Split(s.functions, ";")
		for _, name := range slices.Backward(names) {
			id, ok := ids[name]
			if !ok {
				id = uint32(len(p.Functions))
				ids[name] = id
				p.Functions = append(p.Functions, profiles.Function{Name: name, SystemName: name, File: "/src/" + name + ".go"})
				p.Lines = append(p.Lines, profiles.Line{Function: id, Line: 10})
				p.Locations = append(p.Locations, profiles.Location{Mapping: 1, Address: 0x400000 + 16*uint64(id), Lines: profiles.Span{Lo: id, Hi: id + 1}})
			}
			p.LocationIDs = append(p.LocationIDs, id)
		}
		p.Samples = append(p.Samples, profiles.Sample{Locations: profiles.Span{Lo: lo, Hi: uint32(len(p.LocationIDs))}})
		p.Values = append(p.Values, s.values...)
	}
	return profiles.AppendProfile(nil, p)
}

// summary says in lines what a sink was given: of each profile its service, type, columns and stacks.
func (s *sink) summary() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, p := range s.pushes {
		for _, pr := range p.Profiles {
			line := pr.Labels.Get("service_name") + " " + pr.Type + " " + fmt.Sprint(pr.End-pr.Start)
			for i, t := range pr.Data.SampleTypes {
				total := int64(0)
				for k := range pr.Data.Samples {
					total += pr.Data.Row(k)[i]
				}
				line += fmt.Sprintf(" %s/%s=%d", t.Type, t.Unit, total)
			}
			out = append(out, line)
		}
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

// folded returns the stacks of a profile as "a;b;c", with the value of a column and the labels.
func folded(p *profiles.Profile, column int) []string {
	var out []string
	for i, s := range p.Samples {
		var names []string
		for _, id := range slices.Backward(p.LocationIDs[s.Locations.Lo:s.Locations.Hi]) {
			l := p.Locations[id]
			if l.Lines.Len() == 0 {
				names = append(names, fmt.Sprintf("0x%x", l.Address))
			}
			for _, ln := range slices.Backward(p.Lines[l.Lines.Lo:l.Lines.Hi]) {
				names = append(names, p.Functions[ln.Function].Name)
			}
		}
		line := strings.Join(names, ";") + fmt.Sprint(" ", p.Row(i)[column])
		for _, l := range p.Labels[s.Labels.Lo:s.Labels.Hi] {
			if l.Numeric {
				line += fmt.Sprintf(" %s=%d%s", l.Key, l.Num, l.Unit)
			} else {
				line += " " + l.Key + "=" + l.Str
			}
		}
		out = append(out, line)
	}
	slices.Sort(out)
	return out
}
