package godebug

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-io/sonde/collector/wire"
	"github.com/sonde-io/sonde/internal/catalog"
)

// Keeper keeps chunks of lines in the catalogue, for as long and up to as many bytes as its settings say. It is safe for concurrent use.
type Keeper struct {
	store    catalog.LineStore
	settings Settings
	log      *slog.Logger

	kept, expired prometheus.Counter
	chunks, bytes prometheus.Gauge
}

var _ wire.LinesSink = (*Keeper)(nil)

// expireEvery is how often what is too old, or too much, is removed.
const expireEvery = 10 * time.Minute

// NewKeeper returns a Keeper. log and reg may be nil.
func NewKeeper(store catalog.LineStore, s Settings, log *slog.Logger, reg prometheus.Registerer) *Keeper {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	k := &Keeper{store: store, settings: s, log: log,
		kept:    prometheus.NewCounter(prometheus.CounterOpts{Name: "sonde_lines_kept_total", Help: "Lines of GODEBUG traces that were stored."}),
		expired: prometheus.NewCounter(prometheus.CounterOpts{Name: "sonde_lines_expired_total", Help: "Chunks of lines that were removed by max_age or max_bytes."}),
		chunks:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "sonde_lines_chunks", Help: "Chunks of lines that are stored."}),
		bytes:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "sonde_lines_bytes", Help: "Bytes of the chunks of lines, as they are stored."})}
	if reg != nil {
		reg.MustRegister(k.kept, k.expired, k.chunks, k.bytes)
	}
	return k
}

// AppendLines implements wire.LinesSink. A chunk without a key is known by what it holds.
func (k *Keeper) AppendLines(ctx context.Context, c wire.LinesChunk) error {
	row := catalog.LineChunk{Key: c.Key, Service: c.Process.Get("service_name"), Instance: c.Process.Get("service_instance_id"), Source: c.Source,
		From: c.From, To: c.To, Count: c.Count, Bytes: c.TextBytes, Data: c.Gzip}
	if row.Key == "" {
		h := sha256.New()
		fmt.Fprintf(h, "%q %q %q %d %d\n", row.Service, row.Instance, row.Source, row.From, row.To)
		h.Write(c.Gzip)
		row.Key = hex.EncodeToString(h.Sum(nil)[:16])
	}
	rows := []catalog.LineChunk{row}
	if len(c.Gzip) > catalog.MaxLineChunk {
		var err error
		if rows, err = cut(row); err != nil {
			return fmt.Errorf("keep lines of %s: %w", row.Service, err)
		}
	}
	if err := k.store.PutLines(ctx, rows); err != nil {
		return err
	}
	k.kept.Add(float64(c.Count))
	return nil
}

// pieceBytes is how much text goes into a piece of a chunk that is too long: gzip makes it no longer than MaxLineChunk, whatever it is.
const pieceBytes = catalog.MaxLineChunk - 1024

// cut makes of a chunk that is too long several, at ends of lines where it can.
func cut(c catalog.LineChunk) ([]catalog.LineChunk, error) {
	text, err := gunzip(c.Data, wire.MaxLinesBytes)
	if err != nil {
		return nil, err
	}
	var out []catalog.LineChunk
	for len(text) > 0 {
		n := len(text)
		if n > pieceBytes {
			if n = bytes.LastIndexByte(text[:pieceBytes], '\n') + 1; n == 0 {
				n = pieceBytes
			}
		}
		piece := c
		piece.Key, piece.Count, piece.Bytes, piece.Data = c.Key+"-"+strconv.Itoa(len(out)), bytes.Count(text[:n], []byte("\n")), n, zip(text[:n])
		out, text = append(out, piece), text[n:]
	}
	return out, nil
}

func zip(text []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(text) // to memory
	_ = w.Close()
	return b.Bytes()
}

// gunzip returns what data holds, at most limit bytes.
func gunzip(data []byte, limit int64) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = fmt.Errorf("more than %d bytes of text", limit)
	}
	return text, err
}

// Run removes what is too old, or too much, until ctx is done.
func (k *Keeper) Run(ctx context.Context) error {
	t := time.NewTicker(expireEvery)
	defer t.Stop()
	for {
		if err := k.expire(ctx, time.Now()); err != nil && ctx.Err() == nil {
			k.log.Warn("cannot remove old lines", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

func (k *Keeper) expire(ctx context.Context, now time.Time) error {
	n, err := k.store.ExpireLines(ctx, now.Add(-k.settings.maxAge()).UnixMilli(), k.settings.maxBytes())
	if err != nil {
		return err
	}
	k.expired.Add(float64(n))
	chunks, bytes, err := k.store.LineBytes(ctx)
	if err != nil {
		return err
	}
	k.chunks.Set(float64(chunks))
	k.bytes.Set(float64(bytes))
	return nil
}
