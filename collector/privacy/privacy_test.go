package privacy

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles"
	"github.com/sonde-io/sonde/profiles/store"
)

// kept is a sink that writes down what it is given while it is given it.
type kept struct {
	text   string
	pushes []store.Push
}

func (k *kept) Append(_ context.Context, p store.Push) error {
	var b strings.Builder
	for _, pr := range p.Profiles {
		fmt.Fprintln(&b, pr.Type, pr.Labels)
		for i, s := range pr.Data.Samples {
			fmt.Fprintln(&b, pr.Data.Labels[s.Labels.Lo:s.Labels.Hi], pr.Data.Row(i))
		}
		fmt.Fprintln(&b, pr.Data.Comments)
	}
	k.text = b.String()
	k.pushes = append(k.pushes, p)
	return nil
}

func str(key, value string) profiles.SampleLabel { return profiles.SampleLabel{Key: key, Str: value} }

// push is one with something to hide in every text of it.
func push() store.Push {
	ls := labels.FromStrings("service_name", "cart", "service_instance_id", "i1", "owner", "bob@example.com", "zone", "a")
	return store.Push{
		Process: &catalog.Process{Instance: "i1", Service: "cart", Labels: ls, Reason: "refused for bob@example.com"},
		Build:   &catalog.Build{ID: "b1", Info: "build\t-ldflags=\"-X main.owner=bob@example.com\"\n"},
		Events:  []catalog.Event{{Kind: "start", Text: "started by bob@example.com", Attrs: map[string]string{"instance": "i1", "by": "bob@example.com"}}},
		Profiles: []store.Profile{{Labels: ls, Type: "cpu", Start: 1, End: 2, Data: &profiles.Profile{
			SampleTypes: []profiles.ValueType{{Type: "cpu", Unit: "nanoseconds"}},
			Samples: []profiles.Sample{
				{Labels: profiles.Span{Lo: 0, Hi: 4}}, {Labels: profiles.Span{Lo: 0, Hi: 4}}, {}, {Labels: profiles.Span{Lo: 4, Hi: 6}},
			},
			Values: []int64{10, 20, 30, 40},
			Labels: []profiles.SampleLabel{
				{Key: "bytes", Num: 64, Unit: "bytes", Numeric: true}, str("tenant", "acme"), str("user_id", "7"), str("who", "ann@example.com"),
				str("who", "ann@example.com"), str("who", "bob@example.com"),
			},
			Comments: []string{"taken for ann@example.com"},
		}}},
	}
}

func apply(t *testing.T, cfg Config) (out store.Push, text string) {
	t.Helper()
	f, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	k := &kept{}
	in := push()
	if err := f.Sink(k).Append(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(in, push()) {
		t.Error("the push that was handed in has changed")
	}
	return k.pushes[0], k.text
}

func TestLabelsByList(t *testing.T) {
	for _, tt := range []struct {
		name       string
		keep, drop []string
		want       []string
	}{
		{"drop", nil, []string{"user_*", "who"}, []string{"bytes", "tenant"}},
		{"keep", []string{"tenant", "b*"}, nil, []string{"bytes", "tenant"}},
		{"keep and drop", []string{"*"}, []string{"bytes"}, []string{"tenant", "user_id", "who"}},
		{"none", []string{"nothing"}, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, text := apply(t, Config{KeepLabels: tt.keep, DropLabels: tt.drop})
			for _, key := range []string{"bytes", "tenant", "user_id", "who"} {
				if got := strings.Contains(text, "{"+key+" "); got != slices.Contains(tt.want, key) {
					t.Errorf("label %s is there: %v\n%s", key, got, text)
				}
			}
			for _, v := range []string{"[10]", "[20]", "[30]", "[40]"} {
				if !strings.Contains(text, v) {
					t.Errorf("value %s is gone:\n%s", v, text)
				}
			}
		})
	}
}

func TestRedaction(t *testing.T) {
	out, text := apply(t, Config{Redact: []string{`[\w.]+@[\w.]+`, `^acm`}})
	all := text + out.Process.Reason + out.Process.Labels.String() + out.Build.Info + fmt.Sprint(out.Events)
	if strings.Contains(all, "example.com") || strings.Contains(all, "acme") {
		t.Errorf("something was let through:\n%s", all)
	}
	for _, want := range []string{`owner="[redacted]"`, `zone="a"`, `service_name="cart"`, "{tenant [redacted]e", "taken for [redacted]", "{bytes  bytes 64 true}"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if n := strings.Count(text, "[{who [redacted]  0 false}] [40]"); n != 1 {
		t.Errorf("two values that became one are not one:\n%s", text)
	}
	if out.Process.Reason != "refused for [redacted]" || out.Events[0].Text != "started by [redacted]" || out.Events[0].Attrs["by"] != "[redacted]" ||
		out.Events[0].Attrs["instance"] != "i1" || out.Process.Labels.Get("service_instance_id") != "i1" {
		t.Errorf("process %+v, events %+v", out.Process, out.Events)
	}
	// What a process is known by stays, whatever matches it.
	out, _ = apply(t, Config{Redact: []string{"cart", "i1"}})
	if out.Process.Labels.Get("service_name") != "cart" || out.Profiles[0].Labels.Get("service_instance_id") != "i1" || out.Process.Instance != "i1" {
		t.Errorf("process %+v", out.Process)
	}
}

func TestNothingConfigured(t *testing.T) {
	f, err := New(Config{})
	if f != nil || err != nil {
		t.Fatalf("an empty config makes %v, %v", f, err)
	}
	k := &kept{}
	if f.Sink(k) != Sink(k) {
		t.Error("a filter of nothing wraps")
	}
	text, complete := f.Text("a")
	if text != "a" || !complete || !f.Keeps("x") || len(f.Processes([]catalog.Process{{}})) != 1 || f.Events(nil) != nil || f.Build(nil) != nil {
		t.Error("a nil filter changes something")
	}
}

func TestText(t *testing.T) {
	f, err := New(Config{Redact: []string{"secret"}})
	if err != nil {
		t.Fatal(err)
	}
	text, complete := f.Text("panic: secret 42")
	if text != "panic: [redacted] 42" || !complete {
		t.Errorf("%q, %v", text, complete)
	}
	long := strings.Repeat("é", maxText/2+10) + "secret"
	text, complete = f.Text(long[1:])
	if complete || len(text) > maxText || !utf8.ValidString(text[1:]) || strings.Contains(text, "secret") {
		t.Errorf("%d bytes, complete %v", len(text), complete)
	}
}

func TestNewRefuses(t *testing.T) {
	for want, cfg := range map[string]Config{
		"syntax error":      {KeepLabels: []string{"a["}},
		"drop_labels":       {DropLabels: []string{""}},
		"missing closing":   {Redact: []string{"("}},
		"the empty text":    {Redact: []string{"a*"}},
		"at most 100":       {Redact: slices.Repeat([]string{"a"}, maxPatterns+1)},
		"want 1 to 4096":    {DropLabels: []string{strings.Repeat("a", maxPattern+1)}},
		"everywhere":        {Redact: []string{"x", "y?"}},
		"as path.Match":     {DropLabels: []string{"[z-"}},
		"unexpected ending": {Redact: []string{`a|b)`}},
	} {
		_, err := New(cfg)
		if want == "unexpected ending" {
			want = "unexpected )"
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q, got %v", want, err)
		}
	}
}

// TestConcurrent has many senders whose labels never repeat: the caches stay bounded.
func TestConcurrent(t *testing.T) {
	f, err := New(Config{DropLabels: []string{"x*"}, Redact: []string{"secret"}})
	if err != nil {
		t.Fatal(err)
	}
	s := f.Sink(discard{})
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 2000 {
				p := push()
				id := fmt.Sprint(g, "-", i)
				p.Profiles[0].Labels = labels.FromStrings("service_name", "cart", "a", id)
				p.Profiles[0].Data.Labels[1].Key = id
				p.Build.ID = id
				if err := s.Append(t.Context(), p); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if len(f.keys) > maxCached || len(f.sets) > maxCached || len(f.builds) > maxCached {
		t.Errorf("%d keys, %d label sets, %d builds are cached, want at most %d", len(f.keys), len(f.sets), len(f.builds), maxCached)
	}
}

type discard struct{}

func (discard) Append(context.Context, store.Push) error { return nil }

// BenchmarkSink measures what a profile of 1,000 samples with two labels each costs on its way.
func BenchmarkSink(b *testing.B) {
	p := push()
	data := p.Profiles[0].Data
	data.Samples, data.Values, data.Labels = nil, nil, nil
	for i := range 1000 {
		lo := uint32(len(data.Labels))
		data.Labels = append(data.Labels, str("tenant", fmt.Sprint("t", i%20)), str("user_id", fmt.Sprint(i)))
		data.Samples, data.Values = append(data.Samples, profiles.Sample{Labels: profiles.Span{Lo: lo, Hi: lo + 2}}), append(data.Values, int64(i))
	}
	for name, cfg := range map[string]Config{"nothing": {}, "drop": {DropLabels: []string{"user_*"}}, "redact": {Redact: []string{`[\w.]+@[\w.]+`, `\d{16}`}}} {
		b.Run(name, func(b *testing.B) {
			f, err := New(cfg)
			if err != nil {
				b.Fatal(err)
			}
			s := f.Sink(discard{})
			b.ReportAllocs()
			for b.Loop() {
				if err := s.Append(b.Context(), p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
