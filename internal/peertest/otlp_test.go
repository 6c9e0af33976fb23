package peertest

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pprofile"
	"go.opentelemetry.io/collector/pdata/pprofile/pprofileotlp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/encoding/gzip" // registers the compressor that UseCompressor names
	"google.golang.org/grpc/status"
)

// dictionary builds a request's tables.
type dictionary struct {
	pprofile.ProfilesDictionary
	strings map[string]int32
}

func newDictionary(pd pprofile.Profiles) *dictionary {
	d := &dictionary{pd.Dictionary(), map[string]int32{}}
	d.str("")
	d.MappingTable().AppendEmpty()
	d.LocationTable().AppendEmpty()
	d.FunctionTable().AppendEmpty()
	d.LinkTable().AppendEmpty()
	d.AttributeTable().AppendEmpty()
	d.StackTable().AppendEmpty()
	return d
}

func (d *dictionary) str(s string) int32 {
	i, ok := d.strings[s]
	if !ok {
		i = int32(d.StringTable().Len())
		d.StringTable().Append(s)
		d.strings[s] = i
	}
	return i
}

func (d *dictionary) attribute(key string, value any) int32 {
	a := d.AttributeTable().AppendEmpty()
	a.SetKeyStrindex(d.str(key))
	if err := a.Value().FromRaw(value); err != nil {
		panic(err)
	}
	return int32(d.AttributeTable().Len() - 1)
}

// ebpf is a request as the OpenTelemetry eBPF profiler sends it: container by container, samples as times, whose they are in attributes, native frames as addresses with
// the build ids of their binary, kernel frames with names.
func ebpf(at time.Time, service string, samples int) pprofile.Profiles {
	pd := pprofile.NewProfiles()
	d := newDictionary(pd)
	m := d.MappingTable().AppendEmpty()
	m.SetMemoryStart(0x400000)
	m.SetMemoryLimit(0x500000)
	m.SetFilenameStrindex(d.str("cart"))
	m.AttributeIndices().Append(d.attribute("process.executable.build_id.gnu", "00112233"), d.attribute("process.executable.build_id.htlhash", "ffeeddccbbaa99887766554433221100"))
	l := d.LocationTable().AppendEmpty()
	l.SetMappingIndex(1)
	l.SetAddress(0x401234)
	l.AttributeIndices().Append(d.attribute("profile.frame.type", "native"))
	f := d.FunctionTable().AppendEmpty()
	f.SetNameStrindex(d.str("do_syscall_64"))
	k := d.LocationTable().AppendEmpty()
	k.AttributeIndices().Append(d.attribute("profile.frame.type", "kernel"))
	k.Lines().AppendEmpty().SetFunctionIndex(1)
	d.StackTable().AppendEmpty().LocationIndices().Append(2, 1)
	attributes := []int32{d.attribute("thread.name", "cart"), d.attribute("process.executable.name", service), d.attribute("process.executable.path", "/app/"+service),
		d.attribute("process.pid", int64(4711)), d.attribute("thread.id", int64(4713))}

	rp := pd.ResourceProfiles().AppendEmpty()
	rp.Resource().Attributes().PutStr("container.id", "0123456789ab")
	sp := rp.ScopeProfiles().AppendEmpty()
	sp.Scope().SetName("go.opentelemetry.io/ebpf-profiler")
	on := sp.Profiles().AppendEmpty()
	on.SampleType().SetTypeStrindex(d.str("samples"))
	on.SampleType().SetUnitStrindex(d.str("count"))
	on.PeriodType().SetTypeStrindex(d.str("cpu"))
	on.PeriodType().SetUnitStrindex(d.str("nanoseconds"))
	on.SetPeriod(1e9 / 20)
	off := sp.Profiles().AppendEmpty()
	off.SampleType().SetTypeStrindex(d.str("off_cpu"))
	off.SampleType().SetUnitStrindex(d.str("nanoseconds"))
	for _, p := range []pprofile.Profile{on, off} {
		p.SetTime(pcommon.NewTimestampFromTime(at))
		p.SetDurationNano(uint64(5 * time.Second))
		s := p.Samples().AppendEmpty()
		s.SetStackIndex(1)
		s.AttributeIndices().Append(attributes...)
		for i := range samples {
			s.TimestampsUnixNano().Append(uint64(at.Add(time.Duration(i) * time.Millisecond).UnixNano()))
			if p == off {
				s.Values().Append(1_000_000)
			}
		}
	}
	return pd
}

// totals is what a request of ebpf holds.
func totals(service string, samples int) []string {
	n := int64(samples)
	return []string{fmt.Sprintf("%s cpu:samples=%d", service, n), fmt.Sprintf("%s cpu:cpu=%d", service, n*50_000_000), fmt.Sprintf("%s offcpu:delay=%d", service, n*1_000_000)}
}

// TestOTLP delivers over gRPC with the client of the OpenTelemetry Collector, and over HTTP.
func TestOTLP(t *testing.T) {
	c := serve(t)
	at := time.Now().Add(-time.Minute)
	conn, err := grpc.NewClient(strings.TrimPrefix(c.proxy.URL, "http://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := pprofileotlp.NewGRPCClient(conn)
	overGRPC := func(opts ...grpc.CallOption) func(pprofile.Profiles) error {
		return func(pd pprofile.Profiles) error {
			resp, err := client.Export(t.Context(), pprofileotlp.NewExportRequestFromProfiles(pd), opts...)
			if err == nil && resp.PartialSuccess().RejectedProfiles() != 0 {
				err = fmt.Errorf("rejected: %s", resp.PartialSuccess().ErrorMessage())
			}
			return err
		}
	}
	overHTTP := func(contentType string, gz bool) func(pprofile.Profiles) error {
		return func(pd pprofile.Profiles) error {
			req, marshal := pprofileotlp.NewExportRequestFromProfiles(pd), pprofileotlp.ExportRequest.MarshalProto
			if contentType == "application/json" {
				marshal = pprofileotlp.ExportRequest.MarshalJSON
			}
			body, err := marshal(req)
			if err != nil {
				return err
			}
			return postOTLP(c.proxy.URL+"/v1development/profiles", contentType, body, gz)
		}
	}
	start := time.Now()
	for i, tt := range []struct {
		name string
		send func(pprofile.Profiles) error
	}{
		{"grpc", overGRPC()},
		{"grpc-gzip", overGRPC(grpc.UseCompressor("gzip"))},
		{"http", overHTTP("application/x-protobuf", false)},
		{"http-gzip", overHTTP("application/x-protobuf", true)},
		{"http-json", overHTTP("application/json", false)},
	} {
		service, n := "ebpf-"+tt.name, 10*(i+1)
		if err := tt.send(ebpf(at, service, n)); err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		passed := c.passed()
		keep(t, "otlp-"+tt.name, passed[len(passed)-1], totals(service, n))
		for _, line := range totals(service, n) {
			id, want, _ := strings.Cut(strings.TrimPrefix(line, service+" "), "=")
			if id == "cpu:samples" {
				continue // the store keeps one of both, as they are proportional
			}
			if got := c.total(t, service, id, start.Add(-5*time.Minute).UnixMilli(), time.Now().UnixMilli()); fmt.Sprint(got) != want {
				t.Errorf("%s: sent %s of %s, the collector holds %d", tt.name, want, id, got)
			}
		}
	}
	if err := overGRPC()(ebpf(at.Add(1000*time.Hour), "future", 1)); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "in the future") {
		t.Errorf("error %v of a time in the future, want InvalidArgument that says so", err)
	}
	var answer struct {
		Wanted []struct {
			BuildID string `json:"build_id"`
		}
	}
	c.get(t, "/api/v1/binaries", &answer)
	if !slices.ContainsFunc(answer.Wanted, func(w struct {
		BuildID string `json:"build_id"`
	}) bool {
		return w.BuildID == "00112233"
	}) {
		t.Errorf("wanted binaries %+v, want 00112233 among them", answer.Wanted)
	}
}

// postOTLP sends a request as the exporter for OTLP over HTTP does.
func postOTLP(url, contentType string, body []byte, gz bool) error {
	if gz {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		if _, err := w.Write(body); err != nil {
			return err
		}
		if err := w.Close(); err != nil {
			return err
		}
		body = b.Bytes()
	}
	req, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", contentType)
	if gz {
		req.Header.Set("Content-Encoding", "gzip")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, b)
	}
	return err
}
