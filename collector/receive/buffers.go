package receive

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/sonde-io/sonde/collector/reply"
	"github.com/sonde-io/sonde/profiles"
)

// budget is the bytes that all requests together may still hold.
type budget struct{ left atomic.Int64 }

func (b *budget) take(n int64) bool {
	if b.left.Add(-n) >= 0 {
		return true
	}
	b.left.Add(n)
	return false
}

func (b *budget) give(n int64) { b.left.Add(n) }

// keepBuffer is the largest buffer that is kept for the next request: a rare giant must not stay for ever.
const keepBuffer = 1 << 20

// What was sent and what came out of it have pools of their own: the one is several times the other, and each buffer would grow to the larger.
var (
	sentPool         = sync.Pool{New: func() any { return new([]byte) }}
	decompressedPool = sync.Pool{New: func() any { return new([]byte) }}
	profilePool      = sync.Pool{New: func() any { return new(profiles.Profile) }}
)

// keepSamples is the largest profile whose slices are kept for the next request.
const keepSamples = 16_384

// request is one request being read. What it borrowed from the pools and the budget goes back with release, so nothing that
// points into its profiles may outlive it.
type request struct {
	h    *Handler
	r    *http.Request
	body io.Reader
	// paced is the body's pace; nil in a record of a batch, whose batch has it
	paced *pacedBody

	held         int64 // of the handler's budget
	decoded      int64 // of the handler's decoding
	decompressed int64 // bytes of profiles so far
	buffers      []buffer
	profiles     []*profiles.Profile
	slot         bool // it has one of the handler's slots
	working      bool // it is one of those that decode
}

// startWork waits for the turn to decode: what is decoded takes a hundred times the memory of what was sent, and more at once than there are
// processors get in each other's way. The turn ends with release.
func (q *request) startWork() error {
	select {
	case q.h.working <- struct{}{}:
		q.working = true
		return nil
	case <-q.r.Context().Done():
		return &reply.Error{Status: http.StatusServiceUnavailable, Message: "the request was given up", RetryAfter: 1, Cause: q.r.Context().Err()}
	}
}

// release gives back all that the request holds. It is called when the store has taken the push over, before the wait for its segment, and
// at the request's end.
func (q *request) release() {
	giant := false
	for _, b := range q.buffers {
		if cap(*b.bytes) > keepBuffer {
			giant = true
			continue
		}
		*b.bytes = (*b.bytes)[:0]
		b.pool.Put(b.bytes)
	}
	for _, p := range q.profiles {
		// A profile's memory still points into the buffer that it was decoded from.
		if !giant && cap(p.Samples) <= keepSamples {
			p.Reset()
			profilePool.Put(p)
		}
	}
	q.buffers, q.profiles = nil, nil
	q.h.budget.give(q.held)
	q.h.decoding.Release(q.decoded)
	q.held, q.decoded = 0, 0
	if q.working {
		<-q.h.working
	}
	if q.slot {
		<-q.h.slots
	}
	q.working, q.slot = false, false
}

// hold takes n bytes of the budget until release.
func (q *request) hold(n int64) error {
	if !q.h.budget.take(n) {
		return q.h.tooMuchInFlight()
	}
	q.held += n
	return nil
}

func (h *Handler) tooMuchInFlight() error {
	return &reply.Error{Status: http.StatusTooManyRequests, Message: "the pushes in flight hold too much memory", Limit: "max_inflight_bytes",
		Max: h.inflight(), RetryAfter: 1}
}

const (
	// storeFactor is what the store takes to intern and encode a profile, as a multiple of what it is decoded, the profile itself included.
	storeFactor = 2
	// worstDecoded is how many bytes of memory one byte of a profile can become until it is stored: a sample label is 6 bytes that are decoded to 72.
	worstDecoded = 16 * storeFactor
	// decodeWait is how long a profile waits for those before it to be decoded and stored.
	decodeWait = 2 * time.Second
)

// holdDecoding reserves the memory that a profile of n decompressed bytes can take once it is decoded, at most all there is: a giant is decoded
// alone. settle gives back what it did not take. Without this, 64 pushes of 3 MB that are all labels take 8 GB.
func (q *request) holdDecoding(n int) (settle func(*profiles.Profile), err error) {
	give, err := q.holdMemory(worstDecoded * int64(n))
	if err != nil {
		return nil, err
	}
	return func(p *profiles.Profile) { give(storeFactor * decodedBytes(p)) }, nil
}

// holdMemory waits for n bytes of the memory that decoded requests may take together, at most all there is, and holds them until release. settle gives back
// what is not used.
func (q *request) holdMemory(n int64) (settle func(used int64), err error) {
	want := min(n, q.h.inflight()-q.decoded)
	ctx, cancel := context.WithTimeout(q.r.Context(), decodeWait)
	defer cancel()
	if err := q.h.decoding.Acquire(ctx, want); err != nil {
		return nil, q.h.tooMuchInFlight()
	}
	q.decoded += want
	return func(used int64) {
		if spare := want - used; spare > 0 {
			q.h.decoding.Release(spare)
			q.decoded -= spare
		}
	}, nil
}

// decodedBytes is the memory of a decoded profile, strings aside: they lie in the bytes that it was decoded from.
func decodedBytes(p *profiles.Profile) int64 {
	return bytesOf(p.Samples) + bytesOf(p.LocationIDs) + bytesOf(p.Values) + bytesOf(p.Labels) + bytesOf(p.Locations) + bytesOf(p.Lines) +
		bytesOf(p.Functions) + bytesOf(p.Mappings)
}

func bytesOf[T any](s []T) int64 { return int64(len(s)) * int64(unsafe.Sizeof(*new(T))) }

// buffer is a buffer and the pool that it goes back to.
type buffer struct {
	bytes *[]byte
	pool  *sync.Pool
}

func (q *request) buffer(pool *sync.Pool) *[]byte {
	b := pool.Get().(*[]byte)
	q.buffers = append(q.buffers, buffer{b, pool})
	return b
}

// The memory that a part is read into at first: what the sender lets expect, within bounds that it does not set.
const (
	leastRead = 4 << 10
	mostRead  = 64 << 10
)

// readAll reads r, one of as many parts of the body, to its end into a pooled buffer.
func (q *request) readAll(what string, r io.Reader, parts int) ([]byte, error) {
	return q.readSized(what, r, q.r.ContentLength/int64(max(parts, 1))+1)
}

// readSized reads r to its end into a pooled buffer; expect is how many bytes its sender lets expect. The body's own bound (MaxBytesReader) ends it.
func (q *request) readSized(what string, r io.Reader, expect int64) ([]byte, error) {
	p := q.buffer(&sentPool)
	b := (*p)[:0]
	defer func() { *p = b }()
	if cap(b) < leastRead {
		b = make([]byte, 0, min(mostRead, max(leastRead, expect)))
	}
	charged := 0
	for {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		if cap(b) > charged {
			if err := q.hold(int64(cap(b) - charged)); err != nil {
				return nil, err
			}
			charged = cap(b)
		}
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if err == io.EOF {
			return b, nil
		}
		if err != nil {
			return nil, readError(what, err)
		}
	}
}

// decode decompresses (where raw is gzip) and decodes one profile. The result is valid until release.
func (q *request) decode(what string, raw []byte) (*profiles.Profile, error) {
	data := raw
	left := q.h.cfg.Limits.DecompressedBytes - q.decompressed
	if profiles.IsGzip(raw) {
		var err error
		if data, err = q.gunzip(raw, left); err != nil {
			return nil, q.decodeError(what, err)
		}
	} else if int64(len(raw)) > left {
		return nil, q.decodeError(what, &profiles.LimitError{Limit: profiles.LimitBytes, Got: int64(len(raw))})
	}
	q.decompressed += int64(len(data))
	q.h.metrics.bytes.WithLabelValues("sent").Add(float64(len(raw)))
	q.h.metrics.bytes.WithLabelValues("decompressed").Add(float64(len(data)))
	settle, err := q.holdDecoding(len(data))
	if err != nil {
		return nil, err
	}
	p := profilePool.Get().(*profiles.Profile)
	q.profiles = append(q.profiles, p)
	defer func() { settle(p) }() // of an error too: it leaves the profile empty
	if err := p.Decode(data, profiles.Limits{MaxBytes: int(q.h.cfg.Limits.DecompressedBytes), MaxSamples: q.h.cfg.Limits.Samples,
		MaxFrames: framesPerSample * q.h.cfg.Limits.Samples}); err != nil {
		return nil, q.decodeError(what, err)
	}
	return p, nil
}

// framesPerSample bounds the frames of all stacks of a profile together, by the samples that it may have. The store keeps about 100 bytes for each
// that differs: real profiles with many samples share most of their frames.
const framesPerSample = 8

// usualRatio is what profiles compress to at best, so that an honest profile takes no more of the budget than it needs.
const usualRatio = 10

// gunzip decompresses raw to at most left bytes. Memory is taken from the budget before it is used: first what an honest
// profile needs, then, for the rare one that compressed better, all that is allowed.
func (q *request) gunzip(raw []byte, left int64) ([]byte, error) {
	p := q.buffer(&decompressedPool)
	var err error
	for _, most := range []int64{min(left, int64(len(raw))*usualRatio+4096), left} {
		if err := q.hold(most); err != nil {
			return nil, err
		}
		*p, err = profiles.Gunzip((*p)[:0], raw, int(most))
		if _, over := errors.AsType[*profiles.LimitError](err); !over || most == left {
			break
		}
		q.h.budget.give(most)
		q.held -= most
	}
	if err != nil {
		return nil, err
	}
	return *p, nil
}

// decodeError turns what the profiles package says into an answer: 400 unreadable, 413 too large, 422 readable but wrong.
func (q *request) decodeError(what string, err error) error {
	if le, ok := errors.AsType[*profiles.LimitError](err); ok {
		if le.TooLarge() {
			return &reply.Error{Status: http.StatusRequestEntityTooLarge, Message: what + ": too many decompressed bytes", Limit: "max_decompressed_bytes",
				Max: q.h.cfg.Limits.DecompressedBytes, Got: q.decompressed + le.Got}
		}
		return &reply.Error{Status: http.StatusUnprocessableEntity, Message: what + ": " + le.Error(), Limit: le.Limit, Max: le.Max, Got: le.Got}
	}
	if fe, ok := errors.AsType[*profiles.FormatError](err); ok {
		if fe.Unreadable {
			return reply.Errorf(http.StatusBadRequest, "%s: %v", what, fe)
		}
		return reply.Errorf(http.StatusUnprocessableEntity, "%s: %v", what, fe)
	}
	return err
}
