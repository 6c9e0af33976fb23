package profiles

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/pprof/profile"

	"github.com/sonde-io/sonde/internal/testcorpus"
)

// readCorpus returns the gzipped bytes of every n-th file of the corpus, in short tests of every 5n-th.
func readCorpus(t testing.TB, n int) (files []testcorpus.File, data [][]byte) {
	t.Helper()
	if testing.Short() {
		n *= 5
	}
	for i, f := range testcorpus.Files(t) {
		if i%n != 0 {
			continue
		}
		b, err := os.ReadFile(f.Path)
		if err != nil {
			t.Fatal(err)
		}
		files, data = append(files, f), append(data, b)
	}
	return files, data
}

func TestDecodeAgreesWithGooglePprofOnTheCorpus(t *testing.T) {
	files, data := readCorpus(t, 1)
	var d Decoder
	for i, b := range data {
		p, err := d.Decode(b, Limits{})
		if err != nil {
			t.Errorf("%s: %v", files[i].Path, err)
			continue
		}
		ref, err := profile.ParseData(b)
		if err != nil {
			t.Fatalf("%s: %v", files[i].Path, err)
		}
		if diff := diffGoogle(p, ref); diff != "" {
			t.Errorf("%s: %s", files[i].Path, diff)
		}
	}
}

// diffGoogle compares every field that Profile has with google/pprof's reading of the same bytes.
func diffGoogle(p *Profile, ref *profile.Profile) string {
	valid := func(s string) string { return strings.ToValidUTF8(s, "\ufffd") }
	vt := func(v *profile.ValueType) ValueType { return ValueType{valid(v.Type), valid(v.Unit)} }
	if len(p.SampleTypes) != len(ref.SampleType) || len(p.Samples) != len(ref.Sample) || len(p.Locations) != len(ref.Location) ||
		len(p.Functions) != len(ref.Function) || len(p.Mappings) != len(ref.Mapping) || len(p.Comments) != len(ref.Comments) {
		return "the tables differ in length"
	}
	for i, t := range ref.SampleType {
		if p.SampleTypes[i] != vt(t) {
			return fmt.Sprintf("sample type %d: %v, want %v", i, p.SampleTypes[i], t)
		}
	}
	if p.TimeNanos != ref.TimeNanos || p.DurationNanos != ref.DurationNanos || p.Period != ref.Period || p.PeriodType != vt(ref.PeriodType) ||
		p.DefaultSample != valid(ref.DefaultSampleType) || p.DropFrames != valid(ref.DropFrames) || p.KeepFrames != valid(ref.KeepFrames) {
		return "the head differs"
	}
	for i, c := range ref.Comments {
		if p.Comments[i] != valid(c) {
			return fmt.Sprintf("comment %d: %q, want %q", i, p.Comments[i], c)
		}
	}
	for i, m := range ref.Mapping {
		if want := (Mapping{m.Start, m.Limit, m.Offset, valid(m.File), valid(m.BuildID), m.HasFunctions}); p.Mappings[i] != want {
			return fmt.Sprintf("mapping %d: %+v, want %+v", i, p.Mappings[i], want)
		}
	}
	for i, f := range ref.Function {
		if want := (Function{valid(f.Name), valid(f.SystemName), valid(f.Filename), f.StartLine}); p.Functions[i] != want {
			return fmt.Sprintf("function %d: %+v, want %+v", i, p.Functions[i], want)
		}
	}
	for i := range ref.Location {
		if diff := diffLocation(p, uint32(i), ref, ref.Location[i]); diff != "" {
			return fmt.Sprintf("location %d: %s", i, diff)
		}
	}
	for i := range ref.Sample {
		if diff := diffSample(p, i, ref, ref.Sample[i]); diff != "" {
			return fmt.Sprintf("sample %d: %s", i, diff)
		}
	}
	return ""
}

func diffLocation(p *Profile, i uint32, ref *profile.Profile, want *profile.Location) string {
	l := p.Locations[i]
	var mapping uint32
	if want.Mapping != nil {
		mapping = uint32(slices.Index(ref.Mapping, want.Mapping)) + 1
	}
	if l.Address != want.Address || l.Mapping != mapping || l.Lines.Len() != len(want.Line) {
		return fmt.Sprintf("%+v, want %+v", l, want)
	}
	for j, ln := range want.Line {
		got := p.Lines[int(l.Lines.Lo)+j]
		if got.Line != ln.Line || ref.Function[got.Function] != ln.Function {
			return fmt.Sprintf("line %d: %+v, want %+v", j, got, ln)
		}
	}
	return ""
}

func diffSample(p *Profile, i int, ref *profile.Profile, want *profile.Sample) string {
	s := p.Samples[i]
	if !slices.Equal(p.Row(i), want.Value) {
		return fmt.Sprintf("values %v, want %v", p.Row(i), want.Value)
	}
	if s.Locations.Len() != len(want.Location) {
		return fmt.Sprintf("%d locations, want %d", s.Locations.Len(), len(want.Location))
	}
	for j, l := range want.Location {
		if ref.Location[p.LocationIDs[int(s.Locations.Lo)+j]] != l {
			return fmt.Sprintf("location %d differs", j)
		}
	}
	labels := p.Labels[s.Labels.Lo:s.Labels.Hi]
	if !slices.IsSortedFunc(labels, compareSampleLabels) {
		return fmt.Sprintf("labels %v are not sorted", labels)
	}
	var got, exp []string
	for _, l := range labels {
		got = append(got, fmt.Sprintf("%q %q %d %v", l.Key, l.Str, l.Num, l.Numeric))
	}
	for k, vs := range want.Label {
		for _, v := range vs {
			exp = append(exp, fmt.Sprintf("%q %q 0 false", strings.ToValidUTF8(k, "\ufffd"), strings.ToValidUTF8(v, "\ufffd")))
		}
	}
	for k, vs := range want.NumLabel {
		for _, v := range vs {
			exp = append(exp, fmt.Sprintf("%q \"\" %d true", strings.ToValidUTF8(k, "\ufffd"), v))
		}
	}
	slices.Sort(got)
	slices.Sort(exp)
	if !slices.Equal(got, exp) {
		return fmt.Sprintf("labels %v, want %v", got, exp)
	}
	return ""
}

// raw builds protobuf by hand, to say what google/pprof would never write.
type raw []byte

func (b raw) num(field int, v uint64) raw {
	return appendUvarint(appendUvarint(b, uint64(field)<<3), v)
}

func (b raw) bytes(field int, v []byte) raw {
	b = appendUvarint(appendUvarint(b, uint64(field)<<3|2), uint64(len(v)))
	return append(b, v...)
}

func (b raw) strings(s ...string) raw {
	for _, s := range s {
		b = b.bytes(6, []byte(s))
	}
	return b
}

// smallest is a profile of one column, one location and one sample; extra is appended.
func smallest(sample raw, extra ...raw) raw {
	b := raw{}.bytes(1, raw{}.num(1, 1).num(2, 2)).bytes(2, sample).
		bytes(4, raw{}.num(1, 1).bytes(4, raw{}.num(1, 1).num(2, 7))).bytes(5, raw{}.num(1, 1).num(2, 3)).strings("", "cpu", "count", "main.main")
	for _, e := range extra {
		b = append(b, e...)
	}
	return b
}

func TestDecodeRefuses(t *testing.T) {
	ok := raw{}.num(1, 1).num(2, 5)
	zip := func(b []byte) []byte {
		var out bytes.Buffer
		w := gzip.NewWriter(&out)
		w.Write(b)
		w.Close()
		return out.Bytes()
	}
	for _, tt := range []struct {
		name string
		data []byte
		want string
	}{
		{"nothing", nil, "no data"},
		{"text", []byte("goroutine profile: total 4\n1 @ 0x43\n"), "not a pprof profile"},
		{"only an empty gzip", zip(nil), "no data"},
		{"truncated gzip", zip(smallest(ok))[:20], "gzip stream is truncated: unexpected EOF"},
		{"gzip header only", []byte{0x1f, 0x8b}, "gzip stream is truncated: unexpected EOF"},
		{"no string table", raw{}.num(12, 1), "no string table"},
		{"string 0", raw{}.strings("a"), "string 0 is not empty"},
		{"no types", raw{}.strings("").bytes(2, raw{}.num(2, 1)), "1 samples but no sample types"},
		{"too few values", smallest(raw{}.num(1, 1)), "sample 0 has 0 values, want 1"},
		{"too many values", smallest(ok, raw{}.bytes(2, ok.num(2, 6))), "sample 1 has 2 values, want 1"},
		{"unknown location", smallest(ok, raw{}.bytes(2, raw{}.num(1, 9).num(2, 5))), "sample 1 refers to an unknown location"},
		{"location 0", smallest(ok, raw{}.bytes(2, raw{}.num(1, 0).num(2, 5))), "sample 1 refers to an unknown location"},
		{"unknown function", smallest(ok, raw{}.bytes(4, raw{}.num(1, 2).bytes(4, raw{}.num(1, 4)))), "location 1 has a line of an unknown function"},
		{"function twice", smallest(ok, raw{}.bytes(5, raw{}.num(1, 1))), "functions 0 and 1 have the same id"},
		{"location twice", smallest(ok, raw{}.bytes(4, raw{}.num(1, 1))), "locations 0 and 1 have the same id"},
		{"mapping without id", smallest(ok, raw{}.bytes(3, raw{}.num(2, 1))), "mapping 0 has the reserved id 0"},
		{"string out of the table", smallest(ok, raw{}.bytes(5, raw{}.num(1, 2).num(2, 99))), "the string table has 4"},
		{"negative string", smallest(ok, raw{}.num(14, 1<<63)), "the string table has 4"},
		{"two profiles", smallest(ok, raw{}.num(9, 1), raw{}.num(9, 2)), "several profiles in a row"},
		{"wire type", smallest(ok, raw{}.num(6, 1)), "field 6 of the profile has the wire type 0"},
		{"length beyond the end", append(smallest(ok), 0x12, 0xff, 0xff, 0x03), "malformed at byte"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse(tt.data, Limits{})
			var fe *FormatError
			if !errors.As(err, &fe) || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("Parse = %v, want a FormatError with %q", err, tt.want)
			}
			if unreadable := strings.Contains(tt.name, "gzip h") || strings.Contains(tt.name, "truncated"); fe.Unreadable != unreadable {
				t.Errorf("Unreadable = %v", fe.Unreadable)
			}
			// The text of ?debug=1 is a profile to google/pprof, which reads formats older than its own.
			if _, err := profile.ParseData(tt.data); err == nil && tt.name != "text" {
				t.Errorf("google/pprof accepts it")
			}
		})
	}
}

func TestDecodeNamesTheLimit(t *testing.T) {
	ok := raw{}.num(1, 1).num(2, 5)
	label := raw{}.num(1, 1).num(2, 2)
	deep := raw{}.bytes(1, bytes.Repeat([]byte{1}, 9)).num(2, 5)
	for _, tt := range []struct {
		limit string
		lim   Limits
		data  []byte
	}{
		{LimitBytes, Limits{MaxBytes: 10}, smallest(ok)},
		{LimitSamples, Limits{MaxSamples: 1}, smallest(ok, raw{}.bytes(2, ok))},
		{LimitColumns, Limits{MaxColumns: 1}, smallest(ok.num(2, 6), raw{}.bytes(1, raw{}.num(1, 1)))},
		{LimitStack, Limits{MaxStack: 8}, smallest(deep)},
		{LimitFrames, Limits{MaxFrames: 10}, smallest(deep, raw{}.bytes(2, deep))},
		{LimitLocations, Limits{MaxLocations: 1}, smallest(ok, raw{}.bytes(4, raw{}.num(1, 2)))},
		{LimitLines, Limits{MaxLines: 1}, smallest(ok, raw{}.bytes(4, raw{}.num(1, 2).bytes(4, raw{}.num(1, 1))))},
		{LimitFunctions, Limits{MaxFunctions: 1}, smallest(ok, raw{}.bytes(5, raw{}.num(1, 2)))},
		{LimitMappings, Limits{MaxMappings: 1}, smallest(ok, raw{}.bytes(3, raw{}.num(1, 1)), raw{}.bytes(3, raw{}.num(1, 2)))},
		{LimitLabels, Limits{MaxLabels: 1}, smallest(ok.bytes(3, label).bytes(3, label))},
		{LimitAllLabels, Limits{MaxAllLabels: 1}, smallest(ok.bytes(3, label), raw{}.bytes(2, ok.bytes(3, label)))},
		{LimitLabelLen, Limits{MaxLabelLen: 4}, smallest(ok.bytes(3, label))},
		{LimitStrings, Limits{MaxStrings: 3}, smallest(ok)},
		{LimitStringLen, Limits{MaxStringLen: 8}, smallest(ok)},
	} {
		_, err := Parse(tt.data, tt.lim)
		var le *LimitError
		if !errors.As(err, &le) || le.Limit != tt.limit || le.Got <= le.Max {
			t.Errorf("%s: Parse = %v (%+v)", tt.limit, err, le)
		}
		if _, err := Parse(tt.data, Limits{}); err != nil {
			t.Errorf("%s: with the defaults: %v", tt.limit, err)
		}
	}
}

func TestDecodeResolvesIdsInAnyOrderAndSize(t *testing.T) {
	const far = 1<<63 + 5
	b := raw{}.bytes(2, raw{}.num(1, far).num(1, 40).num(2, 5)).
		bytes(4, raw{}.num(1, 40).bytes(4, raw{}.num(1, far))).bytes(4, raw{}.num(1, far).num(2, 77).bytes(4, raw{}.num(1, 2))).
		bytes(5, raw{}.num(1, 2).num(2, 3)).bytes(5, raw{}.num(1, far).num(2, 1)).strings("", "cpu", "count", "bad\xff").bytes(1, raw{}.num(1, 1).num(2, 2))
	p, err := Parse(b, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	ref, err := profile.ParseData(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := diffGoogle(p, ref); diff != "" {
		t.Error(diff)
	}
	if got := p.Functions[0].Name; got != "bad\ufffd" {
		t.Errorf("invalid UTF-8 became %q", got)
	}
}

func TestGunzipStopsAtTheLimit(t *testing.T) {
	var bomb bytes.Buffer
	w := gzip.NewWriter(&bomb)
	zeros := make([]byte, 1<<20)
	const mib = 64
	for range mib {
		w.Write(zeros)
	}
	w.Close()
	dst, err := Gunzip(nil, bomb.Bytes(), 1<<20)
	var le *LimitError
	if !errors.As(err, &le) || le.Limit != LimitBytes || le.Max != 1<<20 || !le.TooLarge() {
		t.Fatalf("Gunzip = %v", err)
	}
	if cap(dst) > 4<<20 {
		t.Errorf("a bomb of 64 MiB took %d bytes at a limit of 1 MiB", cap(dst))
	}
	if dst, err := Gunzip(nil, bomb.Bytes(), mib<<20); err != nil || len(dst) != mib<<20 {
		t.Errorf("at exactly its size: %d bytes, %v", len(dst), err)
	}
}

func TestGunzipReadsSeveralMembers(t *testing.T) {
	var b bytes.Buffer
	for _, s := range []string{"one ", "", "two"} {
		w := gzip.NewWriter(&b)
		w.Write([]byte(s))
		w.Close()
	}
	got, err := Gunzip([]byte("> "), b.Bytes(), 100)
	if err != nil || string(got) != "> one two" {
		t.Errorf("Gunzip = %q, %v", got, err)
	}
	if _, err := Gunzip(nil, append(b.Bytes(), "rubbish"...), 100); err == nil {
		t.Error("rubbish after the last member is accepted")
	}
}
