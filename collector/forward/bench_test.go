//go:build unix

package forward

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sonde-io/sonde/collector/forward/spool"
	"github.com/sonde-io/sonde/collector/receive"
	"github.com/sonde-io/sonde/internal/fsys"
	"github.com/sonde-io/sonde/internal/testcorpus"
	"github.com/sonde-io/sonde/profiles"
)

// corpus returns real profiles, gzipped as they came and decoded.
func corpus(b *testing.B) (raw [][]byte, decoded []*profiles.Profile) {
	b.Helper()
	for _, f := range testcorpus.Files(b) {
		if f.Type != "cpu" && f.Type != "heap" {
			continue
		}
		data, err := os.ReadFile(f.Path)
		if err != nil {
			b.Fatal(err)
		}
		plain := data
		if profiles.IsGzip(data) {
			if plain, err = profiles.Gunzip(nil, data, 64<<20); err != nil {
				b.Fatal(err)
			}
		}
		p := new(profiles.Profile)
		if err := p.Decode(plain, profiles.Limits{}); err != nil {
			b.Fatal(err)
		}
		if raw, decoded = append(raw, data), append(decoded, p); len(raw) == 60 {
			break
		}
	}
	return raw, decoded
}

// BenchmarkForward is the CPU that one profile costs a sidecar, from taking it to the upstream's answer: of a gatherer, which hands over what it decoded, and of an
// agent, whose bytes are passed on. The upstream answers at once and costs what its side of a request in memory costs. Run with -cpu 1, so that time is CPU.
func BenchmarkForward(b *testing.B) {
	raw, decoded := corpus(b)
	for _, way := range []string{"gatherer", "agent"} {
		b.Run(way, func(b *testing.B) {
			u := newUpstream()
			var got atomic.Int64
			u.handler = countRecords(&got)
			f, err := New(Config{Upstream: "http://u:1", Transport: u, Dir: b.TempDir(), SpoolBytes: 1 << 30, Limits: testLimits, BatchWait: 50 * time.Millisecond})
			if err != nil {
				b.Fatal(err)
			}
			defer f.Close()
			ctx, cancel := context.WithCancel(b.Context())
			var running sync.WaitGroup
			running.Go(func() { f.Run(ctx) })
			process := []byte(`{"labels":{"service_name":"cart"}}`)
			before := cpuTime()
			b.ResetTimer()
			var senders sync.WaitGroup
			for s := range 16 {
				senders.Go(func() {
					for n := s; n < b.N; n += 16 {
						p := scraped(s, n+1, 1)
						if p.Profiles[0].Data = decoded[n%len(decoded)]; way == "gatherer" {
							if err := f.Append(ctx, p); err != nil {
								b.Error(err)
							}
							continue
						}
						m, err := f.encodeMeta(&p)
						if err == nil {
							m.ProcessHash = hashOf(string(process))
							err = f.Keep(ctx, &receive.Relayed{Meta: m, Raw: []byte(`{}`), Process: process, Parts: [][]byte{raw[n%len(raw)]}})
						}
						if err != nil {
							b.Error(err)
						}
					}
				})
			}
			senders.Wait()
			for got.Load() < int64(b.N) {
				time.Sleep(time.Millisecond)
			}
			b.StopTimer()
			b.ReportMetric(float64(cpuTime()-before)/float64(b.N), "cpu-ns/profile")
			cancel()
			running.Wait()
		})
	}
}

// BenchmarkSpool is the spool's throughput, as the share of what writing and syncing the same bytes into one file takes in the same run.
func BenchmarkSpool(b *testing.B) {
	const pushes, size, writers = 2000, 12 << 10, 32
	data := make([]byte, size)
	rand.Read(data)
	for b.Loop() {
		s, err := spool.Open(spool.Config{FS: fsys.OS{}, Dir: b.TempDir(), MaxBytes: 1 << 30, Gaps: func(*spool.Account) (spool.Push, error) { return spool.Push{}, nil }})
		if err != nil {
			b.Fatal(err)
		}
		began := time.Now()
		var ws sync.WaitGroup
		for w := range writers {
			ws.Go(func() {
				for n := w; n < pushes; n += writers {
					p := &spool.Push{Instance: fmt.Sprint(w), Hash: "h", Process: []byte("{}"), Meta: []byte("{}"), Profiles: [][]byte{data}}
					if err := s.Append(b.Context(), p); err != nil {
						b.Error(err)
					}
				}
			})
		}
		ws.Wait()
		took := time.Since(began)
		writes := s.Stats().Writes
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		bare := plainWrites(b, bytes.Repeat(data, pushes/int(writes)+1), int(writes))
		b.ReportMetric(pushes*size/took.Seconds()/1e6, "MB/s")
		b.ReportMetric(bare.Seconds()/took.Seconds(), "of-write-bandwidth")
		b.ReportMetric(pushes/float64(writes), "pushes/sync")
	}
}

// plainWrites writes and syncs a block so often into one file, as somebody would who does nothing else.
func plainWrites(b *testing.B, block []byte, times int) time.Duration {
	b.Helper()
	f, err := os.Create(filepath.Join(b.TempDir(), "plain"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	began := time.Now()
	for range times {
		if _, err := f.Write(block); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(began)
}
