package peers

import (
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/sonde-io/sonde/collector/receive"
	"github.com/sonde-io/sonde/collector/reply"
)

// partial is what was left out of a request of which the rest is stored.
type partial struct {
	rejected int64
	why      string
	of       string // "DataPoints" where it is not profiles that were rejected: OTLP's JSON names it
}

// mediaType returns a request's content type without its parameters, in lower case.
func mediaType(r *http.Request) string {
	mt, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return mt
}

// isGRPC reports whether a request is gRPC's.
func isGRPC(r *http.Request) bool {
	mt := mediaType(r)
	return mt == "application/grpc" || strings.HasPrefix(mt, "application/grpc+")
}

// words are an error with the cure, in one line.
func words(e *reply.Error) string {
	s := e.Message
	if e.Limit != "" {
		s += fmt.Sprintf(" (%s is %d)", e.Limit, e.Max)
	}
	if e.Hint != "" {
		s += ": " + e.Hint
	}
	return s
}

// plain answers as the API does; Pyroscope's SDKs only look at the status, and log the body.
var plain = receive.Protocol{
	OK:   func(w http.ResponseWriter, _ *http.Request, _ any) { reply.JSON(w, map[string]string{"status": "ok"}) },
	Fail: func(w http.ResponseWriter, _ *http.Request, e *reply.Error) { reply.Fail(w, e) },
}

// rpc answers gRPC and connect, by the request's content type.
var rpc = receive.Protocol{
	OK: func(w http.ResponseWriter, r *http.Request, answer any) {
		message := []byte(nil)
		if p, ok := answer.(partial); ok {
			message = p.proto()
		}
		switch {
		case isGRPC(r):
			writeGRPC(w, r, message)
		case mediaType(r) == "application/json":
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, "{}")
		default:
			w.Header().Set("Content-Type", "application/proto")
			_, _ = w.Write(message)
		}
	},
	Fail: func(w http.ResponseWriter, r *http.Request, e *reply.Error) {
		if isGRPC(r) {
			failGRPC(w, r, e)
			return
		}
		failConnect(w, e)
	},
}

// otlpHTTP answers as OTLP over HTTP wants it: in the request's own encoding.
var otlpHTTP = receive.Protocol{
	OK: func(w http.ResponseWriter, r *http.Request, answer any) {
		p, _ := answer.(partial)
		if mediaType(r) == "application/json" {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(p.json())
			return
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
		_, _ = w.Write(p.proto())
	},
	Fail: func(w http.ResponseWriter, r *http.Request, e *reply.Error) {
		h := w.Header()
		if e.RetryAfter > 0 {
			h.Set("Retry-After", strconv.Itoa(e.RetryAfter))
		}
		status, code := e.Status, grpcCode(e)
		if status == http.StatusRequestTimeout {
			status = http.StatusServiceUnavailable // what OTLP repeats
		}
		if mediaType(r) == "application/json" {
			h.Set("Content-Type", "application/json")
			w.WriteHeader(status)
			b, err := json.Marshal(map[string]any{"code": code.number, "message": words(e)})
			if err == nil {
				_, _ = w.Write(b)
			}
			return
		}
		h.Set("Content-Type", "application/x-protobuf")
		w.WriteHeader(status)
		_, _ = w.Write(appendStatus(nil, code.number, words(e), e.RetryAfter))
	},
}

// proto encodes an ExportProfilesServiceResponse, or an ExportMetricsServiceResponse, which has the same fields.
func (p partial) proto() []byte {
	if p.rejected == 0 {
		return nil
	}
	return appendBytes(nil, 1, appendBytes(appendVarint(nil, 1, uint64(p.rejected)), 2, []byte(p.why)))
}

// json encodes it for OTLP's JSON.
func (p partial) json() []byte {
	if p.rejected == 0 {
		return []byte("{}")
	}
	b, err := json.Marshal(map[string]any{"partialSuccess": map[string]any{"rejected" + cmp.Or(p.of, "Profiles"): strconv.FormatInt(p.rejected, 10), "errorMessage": p.why}})
	if err != nil {
		return []byte("{}")
	}
	return b
}

// code is an error's code of gRPC and connect.
type code struct {
	number int
	name   string
	status int // connect's HTTP status
}

// grpcCode returns the code of an answer. What is too large is an invalid argument: RESOURCE_EXHAUSTED would be sent again and again.
func grpcCode(e *reply.Error) code {
	switch e.Status {
	case http.StatusUnauthorized:
		return code{16, "unauthenticated", 401}
	case http.StatusTooManyRequests:
		return code{8, "resource_exhausted", 429}
	case http.StatusServiceUnavailable, http.StatusRequestTimeout:
		return code{14, "unavailable", 503}
	case http.StatusNotFound, http.StatusNotImplemented:
		return code{12, "unimplemented", 501}
	case http.StatusInternalServerError:
		return code{13, "internal", 500}
	}
	return code{3, "invalid_argument", 400}
}

// failConnect answers with an error of the connect protocol.
func failConnect(w http.ResponseWriter, e *reply.Error) {
	c := grpcCode(e)
	b, err := json.Marshal(map[string]string{"code": c.name, "message": words(e)})
	if err != nil {
		b = []byte(`{"code":"internal"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	if e.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(e.RetryAfter))
	}
	w.WriteHeader(c.status)
	_, _ = w.Write(b)
}

// framePrefix is the head of a gRPC message: whether it is compressed, and its length.
const framePrefix = 5

// readGRPC reads the one message of a unary call.
func readGRPC(p *receive.Peer) ([]byte, error) {
	var head [framePrefix]byte
	if _, err := io.ReadFull(p.Body(), head[:]); err != nil {
		return nil, p.ReadError("gRPC message", err)
	}
	size, compressed := int64(binary.BigEndian.Uint32(head[1:])), head[0]
	if most := p.Limits().BodyBytes; size > most {
		return nil, &reply.Error{Status: http.StatusRequestEntityTooLarge, Message: "the message is too large", Limit: "max_body_bytes", Max: most, Got: size}
	}
	if compressed > 1 {
		return nil, reply.Errorf(http.StatusBadRequest, "gRPC message: flag %d, want 0 or 1", compressed)
	}
	raw, err := p.ReadAll("gRPC message", io.LimitReader(p.Body(), size), 1)
	if err != nil {
		return nil, err
	}
	if int64(len(raw)) < size {
		return nil, reply.Errorf(http.StatusBadRequest, "gRPC message: %d bytes of %d came", len(raw), size)
	}
	switch _, err := io.ReadFull(p.Body(), head[:1]); err {
	case io.EOF:
	case nil:
		return nil, reply.Errorf(http.StatusBadRequest, "gRPC message: more than one came in a unary call")
	default:
		return nil, p.ReadError("gRPC message", err)
	}
	switch encoding := p.Request().Header.Get("Grpc-Encoding"); {
	case compressed == 0:
		return raw, nil
	case encoding == "gzip":
		return p.Gunzip("gRPC message", raw)
	default:
		return nil, &reply.Error{Status: http.StatusNotImplemented, Message: fmt.Sprintf("gRPC message: compression %.32q", encoding), Hint: "send gzip or none"}
	}
}

// readUnary reads the message of a request of any of the protocols, decompressed.
func readUnary(p *receive.Peer) ([]byte, error) {
	if isGRPC(p.Request()) {
		return readGRPC(p)
	}
	raw, err := p.ReadAll("body", p.Body(), 1)
	if err != nil {
		return nil, err
	}
	switch ce := p.Request().Header.Get("Content-Encoding"); ce {
	case "", "identity":
		return raw, nil
	case "gzip":
		return p.Gunzip("body", raw)
	default:
		return nil, &reply.Error{Status: http.StatusUnsupportedMediaType, Message: fmt.Sprintf("content encoding %.32q", ce), Hint: "send gzip or none"}
	}
}

// grpcHeader sets what every answer of gRPC has.
func grpcHeader(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", mediaType(r))
	h.Set("Grpc-Accept-Encoding", "gzip")
}

// writeGRPC answers a unary call.
func writeGRPC(w http.ResponseWriter, r *http.Request, message []byte) {
	grpcHeader(w, r)
	frame := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))
	if _, err := w.Write(append(frame, message...)); err != nil {
		return // the client is gone
	}
	w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
}

// failGRPC answers a call with an error, which is in the trailers.
func failGRPC(w http.ResponseWriter, r *http.Request, e *reply.Error) {
	grpcHeader(w, r)
	c := grpcCode(e)
	w.WriteHeader(http.StatusOK)
	h := w.Header()
	h.Set(http.TrailerPrefix+"Grpc-Status", strconv.Itoa(c.number))
	h.Set(http.TrailerPrefix+"Grpc-Message", grpcText(words(e)))
	if e.RetryAfter > 0 {
		h.Set(http.TrailerPrefix+"Grpc-Status-Details-Bin", base64.RawStdEncoding.EncodeToString(appendStatus(nil, c.number, words(e), e.RetryAfter)))
	}
}

// grpcText writes a message as gRPC's header wants it: what is not printable ASCII, and %, as %XX.
func grpcText(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if c >= ' ' && c <= '~' && c != '%' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
