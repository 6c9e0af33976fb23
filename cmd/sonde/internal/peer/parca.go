package peer

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// parca asks Parca for merged pprof profiles, by gRPC.
type parca struct {
	base   *url.URL
	header http.Header
	http   *http.Client
}

func newParca(base *url.URL, header http.Header) *parca {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.Protocols = new(http.Protocols)
	t.Protocols.SetHTTP2(true)
	t.Protocols.SetUnencryptedHTTP2(true)
	return &parca{base: base, header: header, http: &http.Client{Transport: t}}
}

var parcaTypes = map[string]string{
	"cpu:cpu": "process_cpu:cpu:nanoseconds:cpu:nanoseconds:delta", "cpu:samples": "process_cpu:samples:count:cpu:nanoseconds:delta",
	"heap:inuse_space": "memory:inuse_space:bytes:space:bytes", "heap:inuse_objects": "memory:inuse_objects:count:space:bytes",
	"heap:alloc_space": "memory:alloc_space:bytes:space:bytes", "heap:alloc_objects": "memory:alloc_objects:count:space:bytes",
	"goroutine:goroutine": "goroutine:goroutine:count:goroutine:count",
	"mutex:delay":         "mutex:delay:nanoseconds:contentions:count", "mutex:contentions": "mutex:contentions:count:contentions:count",
	"block:delay": "block:delay:nanoseconds:contentions:count", "block:contentions": "block:contentions:count:contentions:count",
}

func (p *parca) Type(id string) string { return parcaTypes[id] }

// The fields of parca.query.v1alpha1.QueryRequest, MergeProfile and QueryResponse that are used.
const (
	fieldMode, fieldMerge, fieldReport    = 1, 3, 5
	modeMerge, reportPprof                = 2, 1
	fieldQuery, fieldStart, fieldEnd      = 1, 2, 3
	fieldPprof                            = 6
	fieldSeconds, fieldNanos              = 1, 2
	wireVarint, wire64, wireBytes, wire32 = 0, 1, 2, 5
)

func (p *parca) Ask(ctx context.Context, q Query) (*Answer, error) {
	u := p.base.JoinPath("parca.query.v1alpha1.QueryService", "Query")
	header := p.header.Clone()
	if header == nil {
		header = http.Header{}
	}
	header.Set("Te", "trailers")
	resp, data, took, err := post(ctx, p.http, u, "application/grpc+proto", header, bytes.NewReader(grpcFrame(parcaRequest(q))))
	if err != nil {
		return nil, err
	}
	defer p.http.CloseIdleConnections()
	// A call that failed at once has its status in the header.
	for _, h := range []http.Header{resp.Trailer, resp.Header} {
		if code := h.Get("Grpc-Status"); code != "" && code != "0" {
			text, err := url.PathUnescape(h.Get("Grpc-Message"))
			if err != nil {
				text = h.Get("Grpc-Message")
			}
			return nil, fmt.Errorf("ask %s: gRPC status %s: %.300s", u.Host, code, text)
		}
	}
	a, err := parseParca(data)
	if err != nil {
		return nil, fmt.Errorf("read answer of %s: %w", u.Host, err)
	}
	a.Took, a.Bytes = took, int64(len(data))
	return a, nil
}

func parcaRequest(q Query) []byte {
	merge := appendBytes(nil, fieldQuery, []byte(q.Type+q.Selector))
	merge = appendBytes(merge, fieldStart, timestamp(q.From))
	merge = appendBytes(merge, fieldEnd, timestamp(q.To))
	b := appendNumber(nil, fieldMode, modeMerge)
	b = appendBytes(b, fieldMerge, merge)
	return appendNumber(b, fieldReport, reportPprof)
}

// timestamp is a google.protobuf.Timestamp.
func timestamp(t time.Time) []byte {
	return appendNumber(appendNumber(nil, fieldSeconds, uint64(t.Unix())), fieldNanos, uint64(t.Nanosecond()))
}

func appendNumber(b []byte, field, v uint64) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(b, field<<3|wireVarint), v)
}

func appendBytes(b []byte, field uint64, v []byte) []byte {
	return append(binary.AppendUvarint(binary.AppendUvarint(b, field<<3|wireBytes), uint64(len(v))), v...)
}

// grpcFrame puts gRPC's five bytes in front of a message.
func grpcFrame(message []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
}

// parseParca reads the one message of the answer, and the profile in it.
func parseParca(data []byte) (*Answer, error) {
	if len(data) < 5 || data[0] != 0 || int64(binary.BigEndian.Uint32(data[1:])) != int64(len(data)-5) {
		return nil, errors.New("it is not one uncompressed gRPC message")
	}
	for b := data[5:]; len(b) > 0; {
		tag, n := binary.Uvarint(b)
		if n <= 0 {
			return nil, errTorn
		}
		v, rest, err := field(b[n:], tag&7)
		if err != nil {
			return nil, err
		}
		if tag == fieldPprof<<3|wireBytes {
			a, _, err := OfPprof(v, "")
			return a, err
		}
		b = rest
	}
	return nil, errors.New("there is no pprof profile in it")
}

var errTorn = errors.New("the message is torn")

// field takes the value of a field off b; value is what it holds where it has a length.
func field(b []byte, typ uint64) (value, rest []byte, err error) {
	n := uint64(0)
	switch typ {
	case wireVarint:
		_, k := binary.Uvarint(b)
		n = uint64(max(k, 0))
		if k <= 0 {
			return nil, nil, errTorn
		}
	case wire64:
		n = 8
	case wire32:
		n = 4
	case wireBytes:
		size, k := binary.Uvarint(b)
		if k <= 0 || size > uint64(len(b)-k) {
			return nil, nil, errTorn
		}
		return b[k : uint64(k)+size], b[uint64(k)+size:], nil
	default:
		return nil, nil, errTorn
	}
	if n > uint64(len(b)) {
		return nil, nil, errTorn
	}
	return nil, b[n:], nil
}
