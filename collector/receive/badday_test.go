package receive

import (
	"bytes"
	"compress/gzip"
	"io"
	"math/rand/v2"
	"net/http"
	rtm "runtime/metrics"
	"strings"
	"testing"
)

// repeat is a stream of n copies of block, never in memory at once.
type repeat struct {
	block []byte
	n     int
	pos   int
	read  int64
}

func (r *repeat) Read(p []byte) (int, error) {
	if r.n == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.block[r.pos:])
	r.read += int64(n)
	if r.pos += n; r.pos == len(r.block) {
		r.pos, r.n = 0, r.n-1
	}
	return n, nil
}

// bomb is a gzip stream that decompresses to 10 GB: 10,000 members of 1 MB of zeros, about 10 MB together.
func bomb(t testing.TB) *repeat {
	t.Helper()
	var member bytes.Buffer
	zw, err := gzip.NewWriterLevel(&member, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	zw.Write(make([]byte, 1_000_000))
	zw.Close()
	return &repeat{block: member.Bytes(), n: 10_000}
}

func allocated() uint64 {
	s := []rtm.Sample{{Name: "/gc/heap/allocs:bytes"}}
	rtm.Read(s)
	return s[0].Value.Uint64()
}

// What a bad day brings costs a bounded number of bytes, all allocations of the request counted, freed or not: the peak is less.
func TestBadDayMemory(t *testing.T) {
	random := make([]byte, 10<<20)
	src := rand.NewChaCha8([32]byte{1})
	src.Read(random)
	random[0], random[1] = 0, 0 // not gzip by chance
	gzRandom := bytes.Clone(random)
	gzRandom[0], gzRandom[1], gzRandom[2], gzRandom[3] = 0x1f, 0x8b, 8, 0
	for _, tt := range []struct {
		name   string
		body   func() io.Reader
		status int
		limit  string
		most   uint64 // bytes allocated
	}{
		{"10 GB zip bomb", func() io.Reader { return bomb(t) }, 413, "max_decompressed_bytes", 320 << 20},
		{"10 MB random", func() io.Reader { return bytes.NewReader(random) }, 422, "", 128 << 20},
		{"10 MB random as gzip", func() io.Reader { return bytes.NewReader(gzRandom) }, 400, "", 256 << 20},
		{"endless body", func() io.Reader { return &repeat{block: random[:4096], n: 1 << 40} }, 413, "max_body_bytes", 128 << 20},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := new(memory)
			h, mux, _ := newTest(t, m, nil)
			for _, endpoint := range []string{"push", "profiles"} {
				body := tt.body()
				r := single1("service=a&type=cpu", nil)
				r.Body, r.ContentLength = io.NopCloser(body), -1
				if endpoint == "push" {
					w := newWindow(t, 1, true)
					w.parts[0].data = []byte("@")
					head, tail, _ := bytes.Cut(w.body(t), []byte("@"))
					r = pushRequest(io.MultiReader(bytes.NewReader(head), body, bytes.NewReader(tail)), "b")
				}
				before := allocated()
				rec, a := do(t, mux, r)
				spent := allocated() - before
				if rec.Code != tt.status || a.Limit != tt.limit || a.Error == "" {
					t.Errorf("%s: %d %+v, want %d", endpoint, rec.Code, a, tt.status)
				}
				if spent > tt.most {
					t.Errorf("%s: %d MiB allocated, at most %d wanted", endpoint, spent>>20, tt.most>>20)
				}
				if rep, ok := body.(*repeat); ok && rep.read > h.cfg.Limits.BodyBytes+1<<20 {
					t.Errorf("%s: %d bytes read of a body of at most %d", endpoint, rep.read, h.cfg.Limits.BodyBytes)
				}
				t.Logf("%s: %d %s (%.1f MiB allocated)", endpoint, rec.Code, a.Error, float64(spent)/(1<<20))
				if len(m.got) != 0 {
					t.Error("something was stored")
				}
			}
		})
	}
}

func TestDeclaredLengthIsRefusedUnread(t *testing.T) {
	_, mux, _ := newTest(t, new(memory), nil)
	body := &repeat{block: make([]byte, 4096), n: 1 << 40}
	r := single1("service=a&type=cpu", nil)
	r.Body, r.ContentLength = io.NopCloser(body), 20_000_000
	rec, a := do(t, mux, r)
	if rec.Code != http.StatusRequestEntityTooLarge || a.Limit != "max_body_bytes" || a.Max != 16<<20 || a.Got != 20_000_000 || body.read != 0 {
		t.Errorf("%d %+v, %d bytes read", rec.Code, a, body.read)
	}
}

// FuzzPush feeds the handler whole bodies: it must answer, and never store what it refuses or refuse what it stores.
func FuzzPush(f *testing.F) {
	f.Add(golden(f, "push-first.multipart"), goldenBoundary)
	f.Add(golden(f, "push-next.multipart"), goldenBoundary)
	f.Add(newWindow(f, 1, true).body(f), "b")
	f.Add(newWindow(f, 1, true).part("cpu", nil).body(f), "b")
	f.Add([]byte("--b\r\nContent-Disposition: form-data; name=\"meta\"\r\n\r\n{}\r\n--b--\r\n"), "b")
	f.Add([]byte("--b--"), "b")
	m := new(memory)
	h, mux, _ := newTest(f, m, func(c *Config) {
		c.Limits.BodyBytes, c.Limits.DecompressedBytes = 1<<20, 4<<20
	})
	f.Fuzz(func(t *testing.T, body []byte, boundary string) {
		if strings.ContainsAny(boundary, "\r\n\x00") {
			return
		}
		m.got, m.seen, h.known = nil, nil, processCache{}
		rec, a := do(t, mux, pushRequest(bytes.NewReader(body), boundary))
		if (rec.Code == 200) != (len(m.got) == 1) {
			t.Errorf("answer %d with %d pushes stored", rec.Code, len(m.got))
		}
		if rec.Code >= 500 || rec.Code != 200 && a.Error == "" {
			t.Errorf("answer %d %q", rec.Code, a.Error)
		}
		if h.budget.left.Load() != h.inflight() || !h.decoding.TryAcquire(h.inflight()) {
			t.Fatal("the budget leaks")
		}
		h.decoding.Release(h.inflight())
	})
}
