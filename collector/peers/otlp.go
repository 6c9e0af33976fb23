package peers

import (
	"fmt"
	"net/http"

	"go.opentelemetry.io/collector/pdata/pprofile"

	"github.com/sonde-io/sonde/collector/receive"
	"github.com/sonde-io/sonde/collector/reply"
)

// otlp answers POST /v1development/profiles and ProfilesService/Export.
func (h *Handler) otlp(p *receive.Peer) (any, error) {
	r := p.Request()
	mt := mediaType(r)
	inJSON := mt == "application/json" && !isGRPC(r)
	if grpc := r.URL.Path == exportPath; grpc != isGRPC(r) || grpc && mt != "application/grpc" && mt != "application/grpc+proto" ||
		!grpc && !inJSON && mt != "application/x-protobuf" {
		return nil, &reply.Error{Status: http.StatusUnsupportedMediaType, Message: fmt.Sprintf("content type %.64q", r.Header.Get("Content-Type")),
			Hint: "send application/x-protobuf or application/json to " + otlpPath + ", application/grpc to " + exportPath}
	}
	body, err := readUnary(p)
	if err != nil {
		return nil, err
	}
	return h.attempted(p, contentOf(r, body), func(a *attempt) (partial, error) {
		if err := p.StartWork(); err != nil {
			return partial{}, err
		}
		pd, err := decodeOTLP(p, body, inJSON)
		if err != nil {
			return partial{}, err
		}
		c := newConverter(pd, p.Limits())
		err = c.convert()
		h.metrics.stripped.WithLabelValues("sample").Add(float64(c.stripped))
		if err != nil {
			return partial{}, err
		}
		return h.keep(p, otlpSource, a, c.items)
	})
}

// decodeOTLP decodes a request, once it is known what memory that takes.
func decodeOTLP(p *receive.Peer, body []byte, inJSON bool) (pprofile.Profiles, error) {
	cost, unmarshal := costOfProto, (&pprofile.ProtoUnmarshaler{}).UnmarshalProfiles
	if inJSON {
		cost, unmarshal = costOfJSON, (&pprofile.JSONUnmarshaler{}).UnmarshalProfiles
	}
	n, err := cost(body)
	if err != nil {
		return pprofile.Profiles{}, err
	}
	if err := p.HoldDecoded(n); err != nil {
		return pprofile.Profiles{}, err
	}
	pd, err := unmarshal(body)
	if err != nil {
		return pd, reply.Errorf(http.StatusBadRequest, "OTLP request: %.300v", err)
	}
	return pd, nil
}
