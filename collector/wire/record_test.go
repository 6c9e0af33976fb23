package wire

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// batch returns a batch of records; each has its sections as given, the first two being meta and process.
func batch(records ...[]string) []byte {
	out := []byte(Magic)
	for _, sections := range records {
		var parts []byte
		for _, s := range sections[2:] {
			parts = AppendSection(parts, []byte(s))
		}
		out = append(out, RecordHead([]byte(sections[0]), []byte(sections[1]), len(parts))...)
		out = append(out, parts...)
	}
	return out
}

// read returns the sections of all records, and why reading ended.
func read(r io.Reader) (out [][]string, err error) {
	rd := NewReader(r)
	for {
		if _, err := rd.Next(); err != nil {
			return out, err
		}
		var sections []string
		for {
			n, err := rd.Section()
			if err == io.EOF {
				break
			}
			if errors.Is(err, ErrFrame) {
				sections = append(sections, "wrong frame")
				break
			}
			if err != nil {
				return out, err
			}
			b, err := io.ReadAll(rd)
			if err != nil {
				return out, err
			}
			if int64(len(b)) != n {
				sections = append(sections, "wrong size")
			}
			sections = append(sections, string(b))
		}
		out = append(out, sections)
	}
}

func TestReadBatch(t *testing.T) {
	want := [][]string{{"meta", ""}, {"m", "process", "", "profile", strings.Repeat("x", 5000)}, {"", "", "p"}}
	b := batch(want...)
	if got, want := RecordSize(len("m"), len("process"), 100), len(RecordHead([]byte("m"), []byte("process"), 100))+100; got != want {
		t.Errorf("RecordSize = %d, want %d", got, want)
	}
	for _, r := range []io.Reader{bytes.NewReader(b), iotest.OneByteReader(bytes.NewReader(b)), iotest.DataErrReader(bytes.NewReader(b))} {
		got, err := read(r)
		if err != io.EOF || !slices.EqualFunc(got, want, slices.Equal) {
			t.Errorf("read %q, %v", got, err)
		}
	}
}

// TestCutBatch cuts a batch at every byte: whole records are read, and the end of all but whole batches is not taken for one.
func TestCutBatch(t *testing.T) {
	one, two := []string{"meta", "process", "profile"}, []string{"m2", "", "p2"}
	whole := batch(one, two)
	ends := map[int]int{len(Magic): 0, len(batch(one)): 1, len(whole): 2}
	for n := range len(whole) + 1 {
		got, err := read(bytes.NewReader(whole[:n]))
		records, clean := ends[n]
		if clean && (err != io.EOF || len(got) != records) || !clean && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut at %d: %d records, %v", n, len(got), err)
		}
	}
	if _, err := read(strings.NewReader("POST / HTTP/1.1\r\n")); !errors.Is(err, ErrMagic) {
		t.Errorf("other bytes: %v, want ErrMagic", err)
	}
}

// TestSkipRecords leaves records and sections unread, and goes on after a frame that is wrong.
func TestSkipRecords(t *testing.T) {
	b := batch([]string{"meta", "process", "profile"}, []string{"m2", "", "p2"})
	b[len(Magic)+lengthBytes] = 200 // the first section says that it is longer than the record
	rd := NewReader(bytes.NewReader(b))
	if _, err := rd.Next(); err != nil {
		t.Fatal(err)
	}
	if _, err := rd.Section(); !errors.Is(err, ErrFrame) {
		t.Fatalf("Section = %v, want ErrFrame", err)
	}
	if _, err := rd.Next(); err != nil {
		t.Fatal(err)
	}
	if n, err := rd.Section(); n != 2 || err != nil {
		t.Fatalf("Section = %d, %v", n, err)
	}
	if _, err := rd.Section(); err != nil { // over the meta object, which was not read
		t.Fatal(err)
	}
	if _, err := rd.Next(); err != io.EOF {
		t.Fatalf("Next at the end = %v", err)
	}
}

func FuzzReader(f *testing.F) {
	f.Add(batch([]string{"meta", "process", "profile"}, []string{"m2", "", "p2"}))
	f.Add(batch())
	f.Add(batch([]string{"", ""})[:15])
	f.Add([]byte(Magic + "\xff\xff\xff\xff\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := read(bytes.NewReader(b))
		again, errAgain := read(iotest.OneByteReader(bytes.NewReader(b)))
		if err == nil || (err == io.EOF) != (errAgain == io.EOF) || !slices.EqualFunc(got, again, slices.Equal) {
			t.Fatalf("read %q, %v; byte by byte %q, %v", got, err, again, errAgain)
		}
		if err != io.EOF || slices.ContainsFunc(got, func(s []string) bool { return len(s) < 2 || slices.Contains(s, "wrong frame") }) {
			return
		}
		if written := batch(got...); !bytes.Equal(written, b) {
			t.Fatalf("%q was read from %q", written, b)
		}
	})
}
