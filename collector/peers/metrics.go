package peers

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/model/labels"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/sonde-io/sonde/collector/receive"
	"github.com/sonde-io/sonde/collector/reply"
)

// Metrics takes the metrics of other systems' senders.
type Metrics interface {
	// RemoteWrite answers Prometheus' remote-write; requests are bounded before.
	RemoteWrite() http.Handler
	// CostOTLP returns about how much memory KeepOTLP takes.
	CostOTLP(md pmetric.Metrics) int64
	// KeepOTLP keeps what can be kept of md, which it changes, and says how many data points it left out, and why the first. process gives the labels of the process that a
	// resource's attributes describe. An error is one that a retry may cure.
	KeepOTLP(ctx context.Context, md pmetric.Metrics, process func(attributes map[string]string) (labels.Labels, error)) (rejected int64, why string, err error)
}

// The paths of the endpoints for metrics. Those below /prometheus are where Prometheus and Mimir have them.
var (
	remoteWritePaths = []string{"/api/v1/write", "/prometheus/api/v1/write"}
	otlpMetricsPaths = []string{"/v1/metrics", "/prometheus/api/v1/otlp/v1/metrics"}
)

const exportMetricsPath = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"

func (h *Handler) registerMetrics(mux *http.ServeMux) {
	for _, path := range remoteWritePaths {
		mux.Handle("POST "+path, h.cfg.Receive.Peer("remote_write", remoteWrite, h.remoteWrite))
	}
	for _, path := range otlpMetricsPaths {
		mux.Handle("POST "+path, h.cfg.Receive.Peer("otlp_metrics_http", otlpHTTP, h.otlpMetrics))
	}
	mux.Handle("POST "+exportMetricsPath, h.cfg.Receive.Peer("otlp_metrics_grpc", rpc, h.otlpMetrics))
}

// otlpMetrics answers POST /v1/metrics and MetricsService/Export. A repeat needs no care: a sample is the same one again.
func (h *Handler) otlpMetrics(p *receive.Peer) (any, error) {
	r := p.Request()
	mt := mediaType(r)
	inJSON := mt == "application/json" && !isGRPC(r)
	if grpc := r.URL.Path == exportMetricsPath; grpc != isGRPC(r) || grpc && mt != "application/grpc" && mt != "application/grpc+proto" ||
		!grpc && !inJSON && mt != "application/x-protobuf" {
		return nil, &reply.Error{Status: http.StatusUnsupportedMediaType, Message: fmt.Sprintf("content type %.64q", r.Header.Get("Content-Type")),
			Hint: "send application/x-protobuf or application/json to " + otlpMetricsPaths[0] + ", application/grpc to " + exportMetricsPath}
	}
	body, err := readUnary(p)
	if err != nil {
		return nil, err
	}
	if err := p.StartWork(); err != nil {
		return nil, err
	}
	md, err := decodeMetrics(p, body, inJSON)
	if err != nil {
		return nil, err
	}
	if err := p.HoldDecoded(h.cfg.Metrics.CostOTLP(md)); err != nil {
		return nil, err
	}
	rejected, why, err := h.cfg.Metrics.KeepOTLP(contextOf(p), md, func(attributes map[string]string) (labels.Labels, error) { return h.processOf(p, attributes) })
	if err != nil {
		return nil, &reply.Error{Status: http.StatusServiceUnavailable, Message: "the metrics cannot be stored now", RetryAfter: 5, Cause: err}
	}
	return partial{rejected: rejected, why: why, of: "DataPoints"}, nil
}

// processOf returns the labels of the process that attributes describe: those that its profiles have.
func (h *Handler) processOf(p *receive.Peer, attributes map[string]string) (labels.Labels, error) {
	in := map[string]string{}
	maps.Copy(in, attributes)
	o := newOrigin(in)
	o.labels[serviceLabel] = cmp.Or(o.labels[serviceLabel], service(o.labels))
	o.fit(p.Limits())
	h.metrics.stripped.WithLabelValues("process").Add(float64(o.stripped))
	ls, err := p.Labels(o.labels, o.id(remoteHost(p.Request())))
	if e, ok := errors.AsType[*reply.Error](err); ok {
		return ls, errors.New(words(e))
	}
	return ls, err
}

// serviceLabel is the label that every process has.
const serviceLabel = "service_name"

// decodeMetrics decodes a request, once it is known what memory that takes.
func decodeMetrics(p *receive.Peer, body []byte, inJSON bool) (pmetric.Metrics, error) {
	cost, unmarshal := metricsRequest.costOf, (&pmetric.ProtoUnmarshaler{}).UnmarshalMetrics
	if inJSON {
		cost, unmarshal = costOfJSON, (&pmetric.JSONUnmarshaler{}).UnmarshalMetrics
	}
	n, err := cost(body)
	if err != nil {
		return pmetric.Metrics{}, err
	}
	if err := p.HoldDecoded(n); err != nil {
		return pmetric.Metrics{}, err
	}
	md, err := unmarshal(body)
	if err != nil {
		return md, reply.Errorf(http.StatusBadRequest, "OTLP request: %.300v", err)
	}
	return md, nil
}

// recorded is an answer of the handler of remote-write.
type recorded struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *recorded) Header() http.Header         { return a.header }
func (a *recorded) WriteHeader(status int)      { a.status = cmp.Or(a.status, status) }
func (a *recorded) Write(b []byte) (int, error) { return a.body.Write(b) }

// remoteWrite is the protocol of remote-write: what it answers is its handler's; errors before are lines of text, which senders log.
var remoteWrite = receive.Protocol{
	OK: func(w http.ResponseWriter, _ *http.Request, answer any) {
		a, ok := answer.(*recorded)
		if !ok {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		maps.Copy(w.Header(), a.header)
		w.WriteHeader(cmp.Or(a.status, http.StatusOK))
		_, _ = w.Write(a.body.Bytes())
	},
	Fail: func(w http.ResponseWriter, _ *http.Request, e *reply.Error) {
		if e.RetryAfter > 0 {
			w.Header().Set("Retry-After", fmt.Sprint(e.RetryAfter))
		}
		status := e.Status
		if status == http.StatusRequestTimeout {
			status = http.StatusServiceUnavailable // what senders repeat
		}
		http.Error(w, words(e), status)
	},
}

// remoteWrite answers POST /api/v1/write: it bounds the message, and has it answered.
func (h *Handler) remoteWrite(p *receive.Peer) (any, error) {
	r := p.Request()
	if ce := r.Header.Get("Content-Encoding"); ce != "snappy" && ce != "" {
		return nil, &reply.Error{Status: http.StatusUnsupportedMediaType, Message: fmt.Sprintf("content encoding %.32q", ce), Hint: "send snappy"}
	}
	raw, err := p.ReadAll("body", p.Body(), 1)
	if err != nil {
		return nil, err
	}
	if err := p.StartWork(); err != nil {
		return nil, err
	}
	size, err := snappy.DecodedLen(raw)
	if err != nil {
		return nil, reply.Errorf(http.StatusBadRequest, "body: %v", err)
	}
	if most := p.Limits().DecompressedBytes; int64(size) > most {
		return nil, &reply.Error{Status: http.StatusRequestEntityTooLarge, Message: "the request is too large once it is decompressed", Limit: "max_decompressed_bytes", Max: most, Got: int64(size),
			Hint: "send fewer samples at a time (max_samples_per_send)"}
	}
	if err := p.HoldDecoded(2 * int64(size)); err != nil { // the handler decompresses it once more
		return nil, err
	}
	message, err := snappy.Decode(nil, raw)
	if err != nil {
		return nil, reply.Errorf(http.StatusBadRequest, "body: %v", err)
	}
	cost, err := writeRequest.costOf(message)
	if err != nil {
		return nil, err
	}
	if err := p.HoldDecoded(cost); err != nil {
		return nil, err
	}
	r = r.Clone(contextOf(p))
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(raw)), int64(len(raw))
	a := &recorded{header: http.Header{}}
	h.cfg.Metrics.RemoteWrite().ServeHTTP(a, r)
	if a.status >= 500 {
		return nil, &reply.Error{Status: http.StatusServiceUnavailable, Message: "the metrics cannot be stored now", RetryAfter: 5, Cause: errors.New(strings.TrimSpace(a.body.String()))}
	}
	return a, nil
}
