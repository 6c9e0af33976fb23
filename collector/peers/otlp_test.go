package peers

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pprofile"

	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles/store"
)

// otlpRequest builds requests.
type otlpRequest struct {
	pd      pprofile.Profiles
	dict    pprofile.ProfilesDictionary
	strings map[string]int32
}

func newRequest() *otlpRequest {
	r := &otlpRequest{pd: pprofile.NewProfiles(), strings: map[string]int32{}}
	r.dict = r.pd.Dictionary()
	r.str("")
	r.dict.MappingTable().AppendEmpty()
	r.dict.LocationTable().AppendEmpty()
	r.dict.FunctionTable().AppendEmpty()
	r.dict.LinkTable().AppendEmpty()
	r.dict.AttributeTable().AppendEmpty()
	r.dict.StackTable().AppendEmpty()
	return r
}

func (r *otlpRequest) str(s string) int32 {
	i, ok := r.strings[s]
	if !ok {
		i = int32(r.dict.StringTable().Len())
		r.dict.StringTable().Append(s)
		r.strings[s] = i
	}
	return i
}

func (r *otlpRequest) attribute(key string, value any) int32 {
	a := r.dict.AttributeTable().AppendEmpty()
	a.SetKeyStrindex(r.str(key))
	switch v := value.(type) {
	case int:
		a.Value().SetInt(int64(v))
	case string:
		a.Value().SetStr(v)
	}
	return int32(r.dict.AttributeTable().Len() - 1)
}

// stack adds a stack of functions, outermost first.
func (r *otlpRequest) stack(functions string) int32 {
	s := r.dict.StackTable().AppendEmpty()
	names := strings.Split(functions, ";")
	for _, name := range slices.Backward(names) {
		f := r.dict.FunctionTable().AppendEmpty()
		f.SetNameStrindex(r.str(name))
		l := r.dict.LocationTable().AppendEmpty()
		l.Lines().AppendEmpty().SetFunctionIndex(int32(r.dict.FunctionTable().Len() - 1))
		s.LocationIndices().Append(int32(r.dict.LocationTable().Len() - 1))
	}
	return int32(r.dict.StackTable().Len() - 1)
}

// resource adds a ResourceProfiles with attributes "key", "value", ….
func (r *otlpRequest) resource(attributes ...string) pprofile.ScopeProfiles {
	rp := r.pd.ResourceProfiles().AppendEmpty()
	for i := 0; i < len(attributes); i += 2 {
		rp.Resource().Attributes().PutStr(attributes[i], attributes[i+1])
	}
	return rp.ScopeProfiles().AppendEmpty()
}

// profile adds a Profile of 10 s.
func (r *otlpRequest) profile(sp pprofile.ScopeProfiles, typ, unit string, at time.Time) pprofile.Profile {
	p := sp.Profiles().AppendEmpty()
	p.SampleType().SetTypeStrindex(r.str(typ))
	p.SampleType().SetUnitStrindex(r.str(unit))
	p.SetTime(pcommon.NewTimestampFromTime(at))
	p.SetDurationNano(uint64(10 * time.Second))
	return p
}

func (r *otlpRequest) sample(p pprofile.Profile, stack int32, value int64, attributes ...int32) pprofile.Sample {
	s := p.Samples().AppendEmpty()
	s.SetStackIndex(stack)
	s.Values().Append(value)
	s.AttributeIndices().Append(attributes...)
	return s
}

func (r *otlpRequest) proto(t testing.TB) []byte {
	t.Helper()
	b, err := (&pprofile.ProtoMarshaler{}).MarshalProfiles(r.pd)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (r *otlpRequest) json(t testing.TB) []byte {
	t.Helper()
	b, err := (&pprofile.JSONMarshaler{}).MarshalProfiles(r.pd)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// ebpfRequest is a request as the OpenTelemetry eBPF profiler makes it: on-CPU samples as times, off-CPU samples as nanoseconds, whose they are in attributes, native frames as
// addresses with the mapping's build ids.
func ebpfRequest(at time.Time) *otlpRequest {
	r := newRequest()
	m := r.dict.MappingTable().AppendEmpty()
	m.SetMemoryStart(0x400000)
	m.SetMemoryLimit(0x500000)
	m.SetFilenameStrindex(r.str("cart"))
	m.AttributeIndices().Append(r.attribute("process.executable.build_id.gnu", "beef"), r.attribute("process.executable.build_id.htlhash", "0123456789abcdef0123456789abcdef"))
	l := r.dict.LocationTable().AppendEmpty()
	l.SetMappingIndex(1)
	l.SetAddress(0x401000)
	native := int32(r.dict.LocationTable().Len() - 1)
	kernel := r.stack("entry_SYSCALL_64;do_epoll_wait")
	s := r.dict.StackTable().AppendEmpty()
	s.LocationIndices().Append(native)
	nativeStack := int32(r.dict.StackTable().Len() - 1)
	cart := []int32{r.attribute("process.executable.name", "cart"), r.attribute("process.executable.path", "/app/cart"), r.attribute("process.pid", 42)}
	nginx := []int32{r.attribute("process.executable.name", "nginx"), r.attribute("process.pid", 43)}
	thread := []int32{r.attribute("thread.name", "worker"), r.attribute("thread.id", 99)}

	sp := r.resource("container.id", "c1", "host.name", "n1")
	on := r.profile(sp, "samples", "count", at)
	on.PeriodType().SetTypeStrindex(r.str("cpu"))
	on.PeriodType().SetUnitStrindex(r.str("nanoseconds"))
	on.SetPeriod(50_000_000)
	x := on.Samples().AppendEmpty()
	x.SetStackIndex(nativeStack)
	x.TimestampsUnixNano().Append(uint64(at.UnixNano()), uint64(at.UnixNano()+1), uint64(at.UnixNano()+2))
	x.AttributeIndices().Append(append(slices.Clone(cart), thread...)...)
	x = on.Samples().AppendEmpty()
	x.SetStackIndex(kernel)
	x.TimestampsUnixNano().Append(uint64(at.UnixNano()))
	x.AttributeIndices().Append(append(slices.Clone(nginx), thread...)...)
	off := r.profile(sp, "events", "nanoseconds", at)
	x = r.sample(off, kernel, 0, append(slices.Clone(cart), thread...)...)
	x.Values().FromRaw([]int64{5, 6})
	x.TimestampsUnixNano().Append(uint64(at.UnixNano()), uint64(at.UnixNano()))
	return r
}

func TestOTLP(t *testing.T) {
	at := time.Now().Add(-time.Minute)
	body, inJSON := ebpfRequest(at).proto(t), ebpfRequest(at).json(t)
	want := "cart cpu 10000 samples/count=3 cpu/nanoseconds=150000000\ncart offcpu 10000 delay/nanoseconds=11\nnginx cpu 10000 samples/count=1 cpu/nanoseconds=50000000"
	for _, tt := range []struct {
		name string
		send func(s *server) string
	}{
		{"HTTP", func(s *server) string { return fmt.Sprint(s.post(t, otlpPath, "application/x-protobuf", body)) }},
		{"HTTP, gzip", func(s *server) string {
			return fmt.Sprint(s.post(t, otlpPath, "application/x-protobuf", gzipped(body), "Content-Encoding", "gzip"))
		}},
		{"HTTP, JSON", func(s *server) string {
			return strings.TrimSuffix(fmt.Sprint(s.post(t, otlpPath, "application/json", inJSON)), "{}")
		}},
		{"gRPC", func(s *server) string {
			return "200" + strings.Trim(s.grpc(t, exportPath, frame(0, body)).Get("Grpc-Status"), "0")
		}},
		{"gRPC, gzip", func(s *server) string {
			return "200" + strings.Trim(s.grpc(t, exportPath, frame(1, gzipped(body)), "Grpc-Encoding", "gzip").Get("Grpc-Status"), "0")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer(t, limits(), nil)
			for range 2 { // the second time it is a repeat
				if got := strings.TrimSpace(tt.send(s)); got != "200" {
					t.Fatal(got)
				}
			}
			if got := s.sink.summary(); got != want {
				t.Fatalf("stored\n%s\nwant\n%s", got, want)
			}
			i := slices.IndexFunc(s.sink.pushes, func(p store.Push) bool { return p.Process.Service == "cart" })
			p := s.sink.pushes[i]
			if p.Process.Gatherer != "otlp" || p.Process.PID != 42 || p.Process.Exe != "/app/cart" || p.Process.BuildID != "beef" || p.Process.Host != "n1" ||
				!strings.Contains(p.Process.Labels.String(), `container_id="c1", host_name="n1"`) {
				t.Errorf("process %+v", p.Process)
			}
			j := slices.IndexFunc(p.Profiles, func(p store.Profile) bool { return p.Type == "cpu" })
			if got, want := fmt.Sprint(folded(p.Profiles[j].Data, 0)), "[0x401000 3 thread.name=worker]"; got != want {
				t.Errorf("stacks %s, want %s", got, want)
			}
			if m := p.Profiles[j].Data.Mappings; len(m) != 1 || m[0].BuildID != "beef" || m[0].Start != 0x400000 {
				t.Errorf("mappings %+v", m)
			}
		})
	}
}

// A pprof profile comes as one Profile for each of its columns, and is one profile again.
func TestOTLPJoinsColumns(t *testing.T) {
	at := time.Now().Add(-time.Minute)
	r := newRequest()
	sp := r.resource("service.name", "cart", "service.instance.id", "i-1", "k8s.pod.name", "cart-1", "process.command_args", "--password=x")
	st := r.stack("main.main;main.alloc")
	for i, c := range []string{"alloc_objects/count", "alloc_space/bytes", "inuse_objects/count", "inuse_space/bytes"} {
		name, unit, _ := strings.Cut(c, "/")
		r.sample(r.profile(sp, name, unit, at), st, int64(i+1))
	}
	r.sample(r.profile(sp, "delay", "nanoseconds", at), r.stack("main.main;sync.(*Mutex).Unlock"), 7)
	link := r.dict.LinkTable().AppendEmpty()
	link.SetSpanID(pcommon.SpanID{1, 2, 3, 4, 5, 6, 7, 8})
	link.SetTraceID(pcommon.TraceID{1})
	cpu := r.profile(sp, "cpu", "nanoseconds", at)
	x := r.sample(cpu, st, 9, r.attribute("account", "A"), r.attribute("size", 64))
	x.SetLinkIndex(1)
	s := newServer(t, limits(), nil)
	if status, answer := s.post(t, otlpPath, "application/x-protobuf", r.proto(t)); status != 200 {
		t.Fatal(status, answer)
	}
	want := "cart cpu 10000 cpu/nanoseconds=9\ncart heap 10000 alloc_objects/count=1 alloc_space/bytes=2 inuse_objects/count=3 inuse_space/bytes=4\ncart mutex 10000 delay/nanoseconds=7"
	if got := s.sink.summary(); got != want {
		t.Fatalf("stored\n%s\nwant\n%s", got, want)
	}
	p := s.sink.pushes[0]
	if got, want := p.Process.Labels.String(), `{k8s_pod_name="cart-1", service_instance_id="i-1", service_name="cart"}`; got != want {
		t.Errorf("labels %s, want %s", got, want)
	}
	for _, pr := range p.Profiles {
		if pr.Type == "cpu" {
			if got, want := fmt.Sprint(folded(pr.Data, 0)), "[main.main;main.alloc 9 account=A size=64 span_id=0102030405060708 trace_id=01000000000000000000000000000000]"; got != want {
				t.Errorf("stacks %s, want %s", got, want)
			}
		}
	}
}

func TestOTLPRefuses(t *testing.T) {
	at := time.Now().Add(-time.Minute)
	with := func(change func(r *otlpRequest, p pprofile.Profile)) []byte {
		r := newRequest()
		p := r.profile(r.resource("service.name", "cart"), "cpu", "nanoseconds", at)
		r.sample(p, r.stack("main.main"), 5)
		change(r, p)
		return r.proto(t)
	}
	var nested []byte
	for range 2000 {
		nested = appendBytes(nil, 5, appendBytes(nil, 1, nested)) // an AnyValue that is a list with one value
	}
	deep := appendBytes(nil, 1, appendBytes(nil, 1, appendBytes(nil, 1, appendBytes(nil, 2, nested))))
	empty := appendBytes(nil, 1, appendBytes(nil, 2, appendBytes(nil, 2, nil)))
	for _, tt := range []struct {
		name   string
		body   []byte
		status int
		want   string
	}{
		{"no message", []byte{0x0f}, 400, "not a protobuf message"},
		{"a stack that is not there", with(func(r *otlpRequest, p pprofile.Profile) { p.Samples().At(0).SetStackIndex(9) }), 400, "stack 9, there are 2"},
		{"a negative stack", with(func(r *otlpRequest, p pprofile.Profile) { p.Samples().At(0).SetStackIndex(-1) }), 400, "stack -1"},
		{"a location that is not there", with(func(r *otlpRequest, p pprofile.Profile) { r.dict.StackTable().At(1).LocationIndices().Append(77) }), 400, "stack 1 refers to location 77"},
		{"a mapping that is not there", with(func(r *otlpRequest, p pprofile.Profile) { r.dict.LocationTable().At(1).SetMappingIndex(3) }), 400, "location 1 refers to mapping 3"},
		{"a function that is not there", with(func(r *otlpRequest, p pprofile.Profile) {
			r.dict.LocationTable().At(1).Lines().At(0).SetFunctionIndex(8)
		}), 400, "location 1 refers to function 8"},
		{"a string that is not there", with(func(r *otlpRequest, p pprofile.Profile) { r.dict.FunctionTable().At(1).SetNameStrindex(999) }), 400, "function 1 refers to string 999"},
		{"an attribute that is not there", with(func(r *otlpRequest, p pprofile.Profile) { p.Samples().At(0).AttributeIndices().Append(5) }), 400, "attribute 5"},
		{"a link that is not there", with(func(r *otlpRequest, p pprofile.Profile) { p.Samples().At(0).SetLinkIndex(5) }), 400, "link 5"},
		{"a type that is not there", with(func(r *otlpRequest, p pprofile.Profile) { p.SampleType().SetTypeStrindex(500) }), 400, "string 500"},
		{"values and times that differ", with(func(r *otlpRequest, p pprofile.Profile) { p.Samples().At(0).TimestampsUnixNano().Append(1, 2) }), 422, "1 values and 2 times"},
		{"values within values within values", deep, 422, "max_message_depth"},
		{"a time in the future", with(func(r *otlpRequest, p pprofile.Profile) {
			p.SetTime(pcommon.NewTimestampFromTime(at.Add(1000 * time.Hour)))
		}), 422, "in the future"},
		{"millions of empty samples", slices.Concat(appendBytes(nil, 1, appendBytes(nil, 2, appendBytes(nil, 2, slices.Repeat([]byte{0x12, 0}, 1<<20)))), empty), 413, "max_inflight_bytes"},
		{"too many samples", with(func(r *otlpRequest, p pprofile.Profile) {
			for range 20_000 {
				r.sample(p, 1, 1)
			}
		}), 422, "max_samples"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer(t, limits(), nil)
			status, answer := s.post(t, otlpPath, "application/x-protobuf", tt.body)
			if status != tt.status || !strings.Contains(answer, tt.want) {
				t.Errorf("%d %q, want %d with %q", status, answer, tt.status, tt.want)
			}
			if got := s.sink.summary(); got != "" {
				t.Errorf("stored %s", got)
			}
		})
	}
	t.Run("JSON nested deeply", func(t *testing.T) {
		s := newServer(t, limits(), nil)
		if status, answer := s.post(t, otlpPath, "application/json", []byte(strings.Repeat(`{"a":`, 100_000))); status != 422 || !strings.Contains(answer, "max_message_depth") {
			t.Errorf("%d %s", status, answer)
		}
	})
	t.Run("another content type", func(t *testing.T) {
		s := newServer(t, limits(), nil)
		if status, answer := s.post(t, otlpPath, "text/plain", nil); status != 415 {
			t.Errorf("%d %s", status, answer)
		}
	})
}

// Of a request that is wrong in part the rest is stored, and the answer says what is not.
func TestOTLPPartialSuccess(t *testing.T) {
	at := time.Now().Add(-time.Minute)
	r := newRequest()
	st := r.stack("main.main")
	r.sample(r.profile(r.resource("service.name", "cart"), "cpu", "nanoseconds", at), st, 5)
	r.sample(r.profile(r.resource("service.name", "late"), "cpu", "nanoseconds", at.Add(1000*time.Hour)), st, 6)
	s := newServer(t, limits(), nil)
	status, answer := s.post(t, otlpPath, "application/json", r.json(t))
	if status != 200 || !strings.Contains(answer, `"rejectedProfiles":"1"`) || !strings.Contains(answer, "in the future") {
		t.Errorf("%d %s", status, answer)
	}
	if got, want := s.sink.summary(), "cart cpu 10000 cpu/nanoseconds=5"; got != want {
		t.Errorf("stored %s, want %s", got, want)
	}
}

// Where one of several processes cannot be stored the request is refused, and its repeat stores that one only.
func TestOTLPRepeatStoresTheRest(t *testing.T) {
	at := time.Now().Add(-time.Minute)
	s := newServer(t, limits(), nil)
	s.sink.fail = func(p *store.Push) error {
		if p.Process.Service == "nginx" {
			return catalog.ErrNoSpace
		}
		return nil
	}
	body := ebpfRequest(at).proto(t)
	if status, answer := s.post(t, otlpPath, "application/x-protobuf", body); status != 503 {
		t.Fatal(status, answer)
	}
	s.sink.mu.Lock()
	s.sink.fail = nil
	s.sink.mu.Unlock()
	if status, answer := s.post(t, otlpPath, "application/x-protobuf", body); status != 200 {
		t.Fatal(status, answer)
	}
	want := "cart cpu 10000 samples/count=3 cpu/nanoseconds=150000000\ncart offcpu 10000 delay/nanoseconds=11\nnginx cpu 10000 samples/count=1 cpu/nanoseconds=50000000"
	if got := s.sink.summary(); got != want {
		t.Errorf("stored\n%s\nwant\n%s", got, want)
	}
}
