package coverage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/sonde-io/sonde/collector/discover"
	"github.com/sonde-io/sonde/internal/catalog"
)

const (
	reportEvery = time.Minute      // at least, also where nothing changed
	reportPause = 15 * time.Second // at most
	deliverTime = 10 * time.Second // for one delivery
)

// Store is where reports are kept; catalog.Catalog is one.
type Store interface {
	PutExpected(ctx context.Context, e catalog.Expected) error
}

// Deliver hands an encoded report of a node on.
type Deliver func(ctx context.Context, node string, encoded []byte) error

// Into delivers into the collector's own catalogue.
func Into(s Store) Deliver {
	return func(ctx context.Context, node string, encoded []byte) error {
		return s.PutExpected(ctx, catalog.Expected{Node: node, Report: encoded})
	}
}

// Post delivers to another collector: url is its root. client carries what it asks for (TLS, a token).
func Post(url string, client *http.Client) Deliver {
	return func(ctx context.Context, node string, encoded []byte) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/api/v1/coverage", bytes.NewReader(encoded))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Content-Encoding", "gzip")
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		said, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10)) // only to be quoted
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("the collector answered %s: %.300s", resp.Status, said)
		}
		return nil
	}
}

// Config configures a Reporter. Node and Deliver are required.
type Config struct {
	Node     string // the host's name; each Reporter of a fleet has its own
	Gatherer string // what reports: sidecar, serve
	Deliver  Deliver
	Partial  func(instance string) []string // what a watched process lacks, in words ("heap: memory profiling was linked out"); may be nil
	Redact   func(text string) string       // applied to every reason before it leaves; may be nil
	Logger   *slog.Logger                   // nil: discard
}

// Reporter reports what discovery sees. Make one with New.
type Reporter struct {
	cfg    Config
	mu     sync.Mutex
	sent   time.Time // by the scans' clock
	sum    [sha256.Size]byte
	failed bool
}

// New returns a Reporter.
func New(cfg Config) *Reporter {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Reporter{cfg: cfg}
}

// Report is called after each scan. It delivers where a report is due, and returns when it was delivered or has failed; a failure is logged once, and made up for by the next report, which is whole.
func (r *Reporter) Report(ctx context.Context, scan discover.Report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	since := scan.Time.Sub(r.sent)
	if !r.sent.IsZero() && since >= 0 && since < reportPause {
		return
	}
	rep := from(&scan, r.cfg.Node, r.cfg.Gatherer, r.cfg.Partial)
	if r.cfg.Redact != nil {
		rep.redact(r.cfg.Redact)
	}
	sum, err := fingerprint(rep)
	if err == nil && sum == r.sum && !r.failed && since >= 0 && since < reportEvery {
		return
	}
	r.sent = scan.Time
	var encoded []byte
	if err == nil {
		encoded, err = rep.Encode()
	}
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, deliverTime)
		defer cancel()
		err = r.cfg.Deliver(ctx, rep.Node, encoded)
	}
	switch {
	case errors.Is(err, context.Canceled):
	case err != nil && !r.failed:
		r.cfg.Logger.Warn("cannot report what runs on this node; the next report makes up for it", "node", r.cfg.Node, "error", err)
	case err == nil && r.failed:
		r.cfg.Logger.Info("what runs on this node is reported again", "node", r.cfg.Node)
	}
	r.failed, r.sum = err != nil, sum
}

// Leave says that this reporter was stopped on purpose, so that nobody looks for it. It is called once, after the last Report; a reporter that could not say so is a gap until it is forgotten.
func (r *Reporter) Leave(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sent.IsZero() {
		return nil // nobody has heard of it
	}
	encoded, err := (&Report{V: Version, Node: r.cfg.Node, Gatherer: r.cfg.Gatherer, Left: true, Items: []Item{}}).Encode()
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, deliverTime)
		defer cancel()
		err = r.cfg.Deliver(ctx, r.cfg.Node, encoded)
	}
	if err != nil {
		return fmt.Errorf("say that this node's %s was stopped: %w", r.cfg.Gatherer, err)
	}
	return nil
}

// fingerprint is equal for two reports that say the same.
func fingerprint(r *Report) ([sha256.Size]byte, error) {
	c := *r
	c.Time = 0
	b, err := json.Marshal(&c)
	return sha256.Sum256(b), err
}
