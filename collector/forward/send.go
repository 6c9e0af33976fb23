package forward

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/sonde-io/sonde/collector/forward/spool"
	"github.com/sonde-io/sonde/collector/wire"
)

// outbound is a push under way.
type outbound struct {
	*spool.Item
	weight  int64     // of the budget
	told    bool      // the process object goes with it
	asked   bool      // because the upstream asked for it
	unknown int       // how often the upstream asked for it again
	broken  int       // how often the upstream failed on it
	refused time.Time // when it was refused for now first
}

// maxAnswer bounds the answer to a batch, in bytes: errors and settings of every record.
const maxAnswer = 16 << 20

// refusal is an answer to a batch as a whole that is not 200.
type refusal struct {
	status int
	after  time.Duration // Retry-After
	text   string
}

func (r *refusal) Error() string {
	return fmt.Sprintf("the upstream answered %d: %s", r.status, r.text)
}

// final reports whether the batch itself is refused, so that trying it again as it is would be in vain. That the upstream fails on it counts after a few
// failures in a row.
func (r *refusal) final(failures int) bool {
	switch r.status {
	case http.StatusInternalServerError:
		return failures >= maxBroken
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity:
		return true
	}
	return false
}

// post sends a batch and returns what became of its pushes: of the first ones, where the upstream did not take all of it.
func (f *Forwarder) post(ctx context.Context, batch []*outbound) ([]wire.Result, error) {
	body, size, err := f.body(batch)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, f.target, io.NopCloser(body()))
	if err != nil {
		return nil, err
	}
	req.ContentLength = size
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(body()), nil }
	req.Header.Set("Content-Type", wire.ContentType)
	req.Header.Set("User-Agent", "sonde-sidecar/"+f.cfg.Version)
	if f.cfg.TokenFile != "" {
		token, err := os.ReadFile(f.cfg.TokenFile)
		if err != nil {
			return nil, fmt.Errorf("read the upstream's token: %w", err)
		}
		req.Header.Set("Authorization", "Bearer "+string(bytes.TrimSpace(token)))
	}
	resp, err := f.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	f.metrics.batches.WithLabelValues(strconv.Itoa(resp.StatusCode)).Inc()
	if resp.StatusCode != http.StatusOK {
		return nil, &refusal{status: resp.StatusCode, after: retryAfter(resp.Header.Get("Retry-After"), f.cfg.Now()), text: fmt.Sprintf("%.300s", bytes.TrimSpace(raw))}
	}
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	var answer wire.BatchAnswer
	if err := json.Unmarshal(raw, &answer); err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	if len(answer.Results) > len(batch) {
		return nil, fmt.Errorf("read the answer: %d results of %d pushes", len(answer.Results), len(batch))
	}
	f.metrics.sentBytes.Add(float64(size))
	f.agents.tell(answer.Settings)
	return answer.Results, nil
}

// body returns a maker of the batch's body and its length in bytes.
func (f *Forwarder) body(batch []*outbound) (func() io.Reader, int64, error) {
	pieces := [][]byte{[]byte(wire.Magic)}
	for _, o := range batch {
		var process []byte
		if o.told {
			p := o.Process
			if p == nil {
				p = f.spool.Process(o.Instance, o.Hash)
			}
			if p != nil {
				var err error
				if process, err = p.Raw(); err != nil {
					return nil, 0, err
				}
			}
		}
		pieces = append(pieces, wire.RecordHead(o.Meta, process, len(o.Profiles)), o.Profiles)
	}
	size := int64(0)
	for _, p := range pieces {
		size += int64(len(p))
	}
	return func() io.Reader {
		rs := make([]io.Reader, len(pieces))
		for i, p := range pieces {
			rs[i] = bytes.NewReader(p)
		}
		return io.MultiReader(rs...)
	}, size, nil
}

// maxRetryAfter bounds what an upstream may ask for.
const maxRetryAfter = 10 * time.Minute

// retryAfter reads the header: seconds or a date. 0 where there is none.
func retryAfter(s string, now time.Time) time.Duration {
	if n, err := strconv.Atoi(s); err == nil && n > 0 {
		return min(time.Duration(min(n, 1<<20))*time.Second, maxRetryAfter)
	}
	if at, err := http.ParseTime(s); err == nil && at.After(now) {
		return min(at.Sub(now), maxRetryAfter)
	}
	return 0
}

// pause is how long to wait after so many failures in a row: anything up to a bound that doubles (full jitter), so that the sidecars of a fleet whose
// collector comes back do not come at once; and after what it asked for.
func (f *Forwarder) pause(failures int, asked time.Duration) time.Duration {
	bound := f.cfg.MinBackoff << min(failures-1, 20)
	if bound <= 0 || bound > f.cfg.MaxBackoff {
		bound = f.cfg.MaxBackoff
	}
	return asked + rand.N(bound)
}

// failed says, and counts, that a batch did not arrive, and returns what to wait.
func (f *Forwarder) failed(err error, failures int) time.Duration {
	f.down.Store(true)
	f.metrics.failures.Inc()
	r, _ := errors.AsType[*refusal](err)
	if r == nil {
		r = &refusal{}
	}
	hint := "it is tried again; what comes meanwhile is kept in the spool"
	switch r.status {
	case http.StatusUnauthorized, http.StatusForbidden:
		hint = "look at upstream_token_file; " + hint
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		hint = "is upstream the URL of a collector, and one that takes batches? " + hint
	}
	if first, n := f.quiet.say("upstream", f.cfg.Now()); first {
		f.log.Warn("the upstream does not take what is sent", "upstream", f.cfg.Upstream, "error", err, "hint", hint, "since_last", n)
	}
	return f.pause(failures, r.after)
}

// arrived notes that the upstream answers.
func (f *Forwarder) arrived() {
	if f.down.Swap(false) {
		f.log.Info("the upstream takes what is sent again", "upstream", f.cfg.Upstream, "waiting", f.spool.Stats().Waiting)
	}
	f.metrics.lastArrived.Store(f.cfg.Now().UnixMilli())
}
