package privacy

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/series"
	"github.com/sonde-io/sonde/collector/wire"
)

// left is an appender and a sink of lines that writes down what left.
type left struct{ text []string }

func (l *left) AppendSeries(_ context.Context, bs ...series.Batch) error {
	for _, b := range bs {
		for _, s := range b.Samples {
			l.text = append(l.text, fmt.Sprint(series.Merge(b.Process, s.Labels), " ", s.V))
		}
		for _, m := range b.Metadata {
			l.text = append(l.text, m.Help)
		}
	}
	return nil
}

func (l *left) AppendLines(_ context.Context, c wire.LinesChunk) error {
	l.text = append(l.text, fmt.Sprint(c.Process, " ", c.Source))
	return nil
}

func TestSeries(t *testing.T) {
	of := func(v float64, own ...string) series.Sample {
		return series.Sample{Labels: labels.FromStrings(append([]string{"__name__", "orders_total"}, own...)...), T: 1, V: v}
	}
	batch := func() series.Batch {
		return series.Batch{Process: labels.FromStrings("service_name", "cart", "owner", "bob@example.com"), Metadata: []series.Metadata{{Name: "orders_total", Help: "ask bob@example.com"}},
			Samples: []series.Sample{of(1), of(2, "by", "ann@example.com"), of(3, "by", "ann@example.com", "user_id", "7"), of(4, "le", "5"),
				of(5, "who", "ann@example.com"), of(6, "who", "bob@example.com"), of(7, "who", "carl"), of(8, "who", "bob@example.com")}}
	}
	f, err := New(Config{KeepLabels: []string{"tenant"}, DropLabels: []string{"user_*"}, Redact: []string{`\w+@example\.com`}})
	if err != nil {
		t.Fatal(err)
	}
	in, out := batch(), new(left)
	if err := f.Series(out).AppendSeries(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	want := []string{`{__name__="orders_total", owner="[redacted]", service_name="cart"} 1`,
		`{__name__="orders_total", by="[redacted]", owner="[redacted]", service_name="cart"} 2`,
		`{__name__="orders_total", le="5", owner="[redacted]", service_name="cart"} 4`,
		`{__name__="orders_total", owner="[redacted]", service_name="cart", who="carl"} 7`, "ask [redacted]"}
	if !slices.Equal(out.text, want) || f.LeftOut() != 4 {
		t.Errorf("left: %q, %d left out, want %q", out.text, f.LeftOut(), want)
	}
	for i, s := range batch().Samples {
		if !labels.Equal(in.Samples[i].Labels, s.Labels) {
			t.Errorf("sample %d was changed where it was handed in: %v", i, in.Samples[i])
		}
	}
	if f := (*Filter)(nil); f.Series(out) != series.Appender(out) || f.Lines(out) != wire.LinesSink(out) || string(f.Bytes([]byte("a@example.com"))) != "a@example.com" {
		t.Error("no filter is not free")
	}
}

func TestLines(t *testing.T) {
	f, err := New(Config{Redact: []string{`\w+@example\.com`}})
	if err != nil {
		t.Fatal(err)
	}
	text := []byte("gc 1 @0.1s\nhello bob@example.com\n")
	if got := string(f.Bytes(text)); got != "gc 1 @0.1s\nhello [redacted]\n" || !strings.Contains(string(text), "bob") {
		t.Errorf("%q of %q", got, text)
	}
	out := new(left)
	if err := f.Lines(out).AppendLines(t.Context(), wire.LinesChunk{Process: labels.FromStrings("service_name", "cart", "owner", "bob@example.com"), Source: "/var/log/bob@example.com"}); err != nil {
		t.Fatal(err)
	}
	if want := []string{`{owner="[redacted]", service_name="cart"} /var/log/[redacted]`}; !slices.Equal(out.text, want) {
		t.Errorf("left: %q, want %q", out.text, want)
	}
}
