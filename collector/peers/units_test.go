package peers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sonde-io/sonde/collector/receive"
	"github.com/sonde-io/sonde/profiles"
)

func TestParseName(t *testing.T) {
	for _, tt := range []struct{ in, app, labels, err string }{
		{"cart", "cart", "map[]", ""},
		{"cart{}", "cart", "map[]", ""},
		{" cart { a = b , c=d e,}", "cart", "map[a:b c:d e]", ""},
		{"cart{path={x}}", "cart", "map[path:{x}]", ""},
		{"cart{otel.scope.name=com.grafana.pyroscope/go,a=b=c}", "cart", "map[a:b=c otel.scope.name:com.grafana.pyroscope/go]", ""},
		{"{a=b}", "", "map[a:b]", ""},
		{"cart{a=b", "", "", "no closing brace"},
		{"cart{a}", "", "", "is not label=value"},
		{"cart{=b}", "", "", "is not label=value"},
		{strings.Repeat("x", maxNameBytes+1), "", "", "at most"},
		{"cart{" + strings.Repeat("a=b,", 10) + "}", "cart", "map[a:b]", ""},
	} {
		app, labels, err := parseName(tt.in)
		if err != nil || tt.err != "" {
			if err == nil || tt.err == "" || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%.40q: error %v, want %q", tt.in, err, tt.err)
			}
			continue
		}
		if got := fmt.Sprint(labels); app != tt.app || got != tt.labels {
			t.Errorf("%.40q: %q %s, want %q %s", tt.in, app, got, tt.app, tt.labels)
		}
	}
}

func TestVocabulary(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"service_name=cart __name__=process_cpu __delta__=false __session_id__=s __period_type__=cpu", "service_name=cart"},
		{"namespace=shop pod=cart-1 container=app node=n1 hostname=h", "host_name=h k8s_container_name=app k8s_namespace_name=shop k8s_node_name=n1 k8s_pod_name=cart-1"},
		{"pod=old k8s_pod_name=new", "k8s_pod_name=new pod=old"},
		{"k8s.pod.name=p service.name=cart deployment.environment.name=prod", "deployment_environment_name=prod k8s_pod_name=p service_name=cart"},
		{"service_repository=https://x service_git_ref=main", "vcs_ref_head_revision=main vcs_repository_url_full=https://x"},
		{"otel.scope.name=go process.runtime.name=go process.runtime.version=go1.26.8 telemetry.sdk.name=x", ""},
		{"process.command_line=--password=x process.environment_variable.TOKEN=x process.command_args=x", ""},
		{"service.instance.id=i-1 process.pid=12 1st=x", "_1st=x process_pid=12"},
	} {
		in := map[string]string{}
		for pair := range strings.FieldsSeq(tt.in) {
			name, value, _ := strings.Cut(pair, "=")
			in[name] = value
		}
		o := newOrigin(in)
		var got []string
		for _, name := range slices.Sorted(maps.Keys(o.labels)) {
			got = append(got, name+"="+o.labels[name])
		}
		if s := strings.Join(got, " "); s != tt.want {
			t.Errorf("%s: %s, want %s", tt.in, s, tt.want)
		}
	}
}

// The SDK's two scopes (its own profiles, and those that it subtracted) are one process; so is one that comes back after its connection moved.
func TestInstance(t *testing.T) {
	id := func(remote string, labels ...string) string {
		in := map[string]string{"service_name": "cart"}
		for i := 0; i < len(labels); i += 2 {
			in[labels[i]] = labels[i+1]
		}
		return newOrigin(in).id(remote)
	}
	sdk := id("10.0.0.1", "__session_id__", "a", "otel.scope.name", "com.grafana.pyroscope/go")
	if got := id("10.0.0.2", "__session_id__", "a", "otel.scope.name", "com.grafana.pyroscope/godeltaprof", "otel.scope.version", "v1"); got != sdk {
		t.Error("two processes by the SDK's scopes")
	}
	for _, other := range []string{id("10.0.0.1", "__session_id__", "b"), id("10.0.0.1"), id("10.0.0.2"), id("10.0.0.1", "__session_id__", "a", "region", "eu")} {
		if other == sdk || len(other) != 32 {
			t.Errorf("instance %s", other)
		}
	}
	if got := id("x", "service_instance_id", "i-1"); got != "i-1" {
		t.Errorf("its own id became %s", got)
	}
}

func TestFit(t *testing.T) {
	in := map[string]string{"service_name": strings.Repeat("é", 100), "host_name": "n1", "long": strings.Repeat("x", 200)}
	for i := range 20 {
		in[fmt.Sprintf("label_%02d", i)] = "x"
	}
	o := newOrigin(in)
	o.fit(receive.Limits{Labels: 8, LabelNameBytes: 20, LabelValueBytes: 99})
	if len(o.labels) != 7 || o.labels["host_name"] != "n1" || o.labels["service_name"] != strings.Repeat("é", 49) || o.stripped != 16 {
		t.Errorf("%d labels stripped, left %v", o.stripped, o.labels)
	}
}

func TestIngestTime(t *testing.T) {
	now := time.UnixMilli(1_795_241_460_123)
	for in, want := range map[string]int64{"1795241460": 1_795_241_460_000, "1795241460123": 1_795_241_460_123, "1795241460123456": 1_795_241_460_123, "1795241460123456789": 1_795_241_460_123,
		"now": now.UnixMilli(), "now-1m": now.UnixMilli() - 60_000} {
		if got, err := ingestTime(in, now); err != nil || got != want {
			t.Errorf("%s: %d, %v, want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"-5", "soon", "99999999999999999999"} {
		if got, err := ingestTime(in, now); err == nil {
			t.Errorf("%s: %d", in, got)
		}
	}
}

// A request that is being stored is waited for; one that failed is tried again; one that was stored is not, for as long as it is remembered.
func TestOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var o once
		c, ctx := content{1}, t.Context()
		a, dup, err := o.begin(ctx, c, time.Now())
		if dup || err != nil {
			t.Fatal(dup, err)
		}
		second := make(chan bool)
		go func() {
			b, dup, err := o.begin(ctx, c, time.Now())
			if dup || err != nil {
				t.Error("a repeat of what failed:", dup, err)
			} else {
				o.end(b, true)
			}
			second <- true
		}()
		synctest.Wait()
		gone, cancel := context.WithCancel(ctx)
		cancel()
		if _, _, err := o.begin(gone, c, time.Now()); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v of one whose client went", err)
		}
		o.end(a, false)
		<-second
		if _, dup, _ := o.begin(ctx, c, time.Now()); !dup {
			t.Error("a repeat was not recognised")
		}
		time.Sleep(onceFor)
		a, dup, _ = o.begin(ctx, c, time.Now())
		if dup {
			t.Error("remembered for too long")
		}
		o.end(a, true)
		for i := range onceMost + 100 {
			a, _, _ := o.begin(ctx, content{byte(i), byte(i >> 8), byte(i >> 16), 1}, time.Now())
			o.end(a, true)
		}
		if len(o.m) > onceMost || len(o.queue) > onceMost {
			t.Errorf("%d requests are remembered, at most %d", len(o.m), onceMost)
		}
	})
}

func TestSessionsAreBounded(t *testing.T) {
	s := sessions{metrics: newMetrics(nil)}
	for i := range maxSessions + 10 {
		s.key("pyroscope", fmt.Sprint(i))
	}
	if len(s.m) != maxSessions || s.order.Len() != maxSessions {
		t.Errorf("%d sessions, %d in order", len(s.m), s.order.Len())
	}
	for i := range 2 * maxTypes {
		s.since("pyroscope", "x", fmt.Sprint(i), 1000)
	}
	if n := len(s.m["x"].types); n != maxTypes {
		t.Errorf("%d types of one process", n)
	}
	// Baselines of 1,000 stacks: the oldest go.
	p := &profiles.Profile{SampleTypes: []profiles.ValueType{{Type: "delay", Unit: "nanoseconds"}}}
	for i := range 1000 {
		p.Locations = append(p.Locations, profiles.Location{Address: uint64(i + 1)})
		p.LocationIDs = append(p.LocationIDs, uint32(i))
		p.Samples = append(p.Samples, profiles.Sample{Locations: profiles.Span{Lo: uint32(i), Hi: uint32(i + 1)}})
		p.Values = append(p.Values, int64(i+1))
	}
	for i := range 620 {
		if _, err := s.subtract("pyroscope", fmt.Sprint("p", i), "mutex", p); err != nil {
			t.Fatal(err)
		}
	}
	sum := int64(0)
	for _, x := range s.m {
		for _, ty := range x.types {
			sum += ty.bytes
		}
	}
	if s.bytes > maxBaselineBytes || s.bytes != sum {
		t.Errorf("%d bytes of baselines, %d counted, at most %d", sum, s.bytes, int64(maxBaselineBytes))
	}
	s.lost("p619")
	if got, err := s.subtract("pyroscope", "p619", "mutex", p); got != nil || err != nil {
		t.Errorf("something was subtracted after a loss: %v, %v", got, err)
	}
}

// Where nobody says how long an interval is, it is the time since the one before.
func TestSince(t *testing.T) {
	s := sessions{metrics: newMetrics(nil)}
	for _, tt := range []struct{ end, start int64 }{{1_000_000, 985_000}, {1_010_000, 1_000_000}, {1_010_000, 995_000}, {9_000_000, 8_985_000}} {
		if got := s.since("otlp", "a", "heap", tt.end); got != tt.start {
			t.Errorf("an interval that ends at %d starts at %d, want %d", tt.end, got, tt.start)
		}
	}
}

func TestColumns(t *testing.T) {
	for _, tt := range []struct{ name, columns, typ, want string }{
		{"process_cpu", "cpu", "cpu", "cpu"},
		{"memory", "objects,space", "heap", "inuse_objects,inuse_space"},
		{"", "mutex_count,mutex_duration", "mutex", "contentions,delay"},
		{"", "wall,cpu", "wall", "wall,cpu"},
		{"my profile", "things,th ings,th_ings", "my_profile", "things,th_ings,th_ings_2"},
		{"", "exceptions", "exceptions", "exceptions"},
		{"godeltaprof_memory", "alloc_space", "heap", "alloc_space"},
		{"", "off_cpu", "offcpu", "delay"},
	} {
		p := &profiles.Profile{}
		for c := range strings.SplitSeq(tt.columns, ",") {
			p.SampleTypes = append(p.SampleTypes, profiles.ValueType{Type: c, Unit: "count"})
		}
		typ := typeOf(p, tt.name, nil)
		settleColumns(typ, p)
		var got []string
		for _, c := range p.SampleTypes {
			got = append(got, c.Type)
		}
		if s := strings.Join(got, ","); typ != tt.typ || s != tt.want {
			t.Errorf("%s of %s: %s %s, want %s %s", tt.name, tt.columns, typ, s, tt.typ, tt.want)
		}
	}
}
