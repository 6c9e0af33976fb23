package receive

import (
	"bytes"
	"context"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/pprof/profile"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/sonde-io/sonde/collector/wire"
	"github.com/sonde-io/sonde/profiles/store"
)

// watched is a Sink that says what is in force while a push is stored.
type watched struct {
	*memory
	during func(store.Push)
}

func (w watched) Append(ctx context.Context, p store.Push) error {
	w.during(p)
	return w.memory.Append(ctx, p)
}

// labelled is a profile that is small and becomes large: samples that are all labels.
func labelled(samples int) *profile.Profile {
	p := cpuProfile(samples)
	for _, s := range p.Sample {
		s.Label = map[string][]string{"k": strings.Split(strings.Repeat("v ", 60), " ")[:60]}
	}
	return p
}

// TestDecodedMemoryIsHeld: what a profile takes decoded is reserved for as long as it is stored, and no longer.
func TestDecodedMemoryIsHeld(t *testing.T) {
	body := raw(t, labelled(1000))
	var h *Handler
	var held int64
	m := new(memory)
	h, mux, _ := newTest(t, m, func(c *Config) {
		c.Sink = watched{m, func(p store.Push) {
			all, data := h.inflight(), p.Profiles[0].Data
			held = 2 * decodedBytes(data)
			if min := int64(60*1000) * 50; held < min {
				t.Errorf("%d bytes are counted for 60,000 labels, want %d and more", held, min)
			}
			if h.decoding.TryAcquire(all - held + 1) {
				t.Errorf("fewer than %d bytes are held while the profile is stored", held)
			} else if !h.decoding.TryAcquire(all - held) {
				t.Errorf("more than %d bytes are held while the profile is stored", held)
			} else {
				h.decoding.Release(all - held)
			}
		}}
	})
	if rec, a := do(t, mux, single1("service=a&type=cpu", body)); rec.Code != 200 {
		t.Fatalf("%d %+v", rec.Code, a)
	}
	if held == 0 || !h.decoding.TryAcquire(h.inflight()) {
		t.Error("not all came back")
	}
}

// TestDecodingWaits: a profile waits for those that fill the memory, and is refused in time where they stay.
func TestDecodingWaits(t *testing.T) {
	body := raw(t, cpuProfile(10))
	for _, tt := range []struct {
		name   string
		free   time.Duration
		status int
		limit  string
	}{
		{"free in time", time.Second, 200, ""},
		{"never free", time.Hour, 429, "max_inflight_bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, mux, _ := newTest(t, new(memory), nil)
				if !h.decoding.TryAcquire(h.inflight()) {
					t.Fatal("the memory is not free")
				}
				time.AfterFunc(tt.free, func() { h.decoding.Release(h.inflight()) })
				rec, a := do(t, mux, single1("service=a&type=cpu", body))
				if rec.Code != tt.status || a.Limit != tt.limit {
					t.Errorf("%d %+v, want %d", rec.Code, a, tt.status)
				}
				if tt.status == 429 && (rec.Header().Get("Retry-After") != "1" || a.Max != h.inflight()) {
					t.Errorf("%v %+v", rec.Header(), a)
				}
			})
		})
	}
}

// TestKnownProcessesAreBounded: what senders say of their processes is remembered up to a number of processes and of bytes.
func TestKnownProcessesAreBounded(t *testing.T) {
	for _, tt := range []struct{ name, value string }{{"many", ""}, {"large", strings.Repeat("x", 60_000)}} {
		t.Run(tt.name, func(t *testing.T) {
			var c processCache
			ls := labels.FromStrings("service_name", "cart", "v", tt.value)
			for i := range maxKnown + 100 {
				name := strconv.Itoa(i % (maxKnown + 50))
				c.put(name, known{labels: ls, stats: wire.Stats{WindowsDropped: 7, Skipped: map[string]string{"heap": "over budget"}}})
				if k, ok := c.get(name, ""); !ok || k.stats.WindowsDropped != 7 || k.stats.Skipped != nil {
					t.Fatalf("the last one put: %v %+v", ok, k.stats)
				}
			}
			if n := uint64(len(c.m)); n > maxKnown || c.bytes > maxKnownBytes || c.bytes != n*ls.ByteSize() {
				t.Errorf("%d processes with %d bytes are kept", n, c.bytes)
			}
		})
	}
}

// FuzzProfile feeds whole requests for one profile: it must answer, and store exactly what it says 200 to.
func FuzzProfile(f *testing.F) {
	good := gz(f, cpuProfile(3))
	f.Add("service=cart&type=cpu", good, "k")
	f.Add("service=cart&type=heap&start=now-2m&end=now&instance=i&label.a=b", raw(f, labelled(2)), "")
	f.Add("service=%00&type=cpu&start=9223372036854775807", good[:len(good)/2], "\x01")
	f.Add("service=..%2F&type=x.y-z&label.service_version=%ff", []byte{0x1f, 0x8b, 8, 0}, strings.Repeat("k", 300))
	m := new(memory)
	h, mux, _ := newTest(f, m, func(c *Config) {
		c.Limits.BodyBytes, c.Limits.DecompressedBytes = 1<<20, 4<<20
	})
	f.Fuzz(func(t *testing.T, query string, body []byte, key string) {
		m.got, m.seen = nil, nil
		r := single1("", body, "Idempotency-Key", key)
		r.URL.RawQuery = query
		rec, a := do(t, mux, r)
		if (rec.Code == 200) != (len(m.got) == 1) {
			t.Errorf("answer %d with %d pushes stored", rec.Code, len(m.got))
		}
		if rec.Code >= 500 || rec.Code != 200 && a.Error == "" {
			t.Errorf("answer %d %q", rec.Code, a.Error)
		}
		for _, s := range m.got {
			if p := s.profiles[0]; p.start <= 0 || p.end <= p.start || p.typ == "" || !bytes.Contains([]byte(p.labels), []byte("service_name=")) {
				t.Errorf("stored %+v", p)
			}
		}
		if h.budget.left.Load() != h.inflight() || !h.decoding.TryAcquire(h.inflight()) {
			t.Fatal("the budget leaks")
		}
		h.decoding.Release(h.inflight())
	})
}
