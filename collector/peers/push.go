package peers

import (
	"fmt"
	"net/http"

	"github.com/sonde-io/sonde/collector/receive"
	"github.com/sonde-io/sonde/collector/reply"
)

// pushJSONCost is what a byte of a push in JSON can become in memory: {} is a label.
const pushJSONCost = 24

// push answers PusherService/Push, which Alloy and Pyroscope's newer SDKs call, over connect (protobuf and JSON) and gRPC.
func (h *Handler) push(p *receive.Peer) (any, error) {
	r := p.Request()
	mt := mediaType(r)
	switch {
	case isGRPC(r) && mt != "application/grpc" && mt != "application/grpc+proto", !isGRPC(r) && mt != "application/proto" && mt != "application/json":
		return nil, &reply.Error{Status: http.StatusUnsupportedMediaType, Message: fmt.Sprintf("content type %.64q", r.Header.Get("Content-Type")),
			Hint: "send application/proto, application/json or application/grpc"}
	}
	body, err := readUnary(p)
	if err != nil {
		return nil, err
	}
	return h.attempted(p, contentOf(r, body), func(a *attempt) (partial, error) {
		if err := p.StartWork(); err != nil {
			return partial{}, err
		}
		series, err := decodePushed(p, mt, body)
		if err != nil {
			return partial{}, err
		}
		items, err := pushItems(p, series)
		if err != nil {
			return partial{}, err
		}
		return h.keep(p, pyroscope, a, items)
	})
}

func decodePushed(p *receive.Peer, mt string, body []byte) ([]rawSeries, error) {
	if mt != "application/json" {
		return decodePush(body)
	}
	if err := p.HoldDecoded(pushJSONCost * int64(len(body))); err != nil {
		return nil, err
	}
	return decodePushJSON(body)
}

// pushItems decodes the profiles of a push. Those whose values the runtime counts from its start are taken to be such, unless the label __delta__ says that they are not:
// Alloy sets it to false where it subtracted them itself, and where the endpoint that it scraped did.
func pushItems(p *receive.Peer, series []rawSeries) ([]item, error) {
	var items []item
	for i, s := range series {
		o := newOrigin(s.labels)
		o.labels["service_name"] = service(o.labels)
		for k, raw := range s.profiles {
			data, err := p.Decode(what(i, k), raw)
			if err != nil {
				return nil, err
			}
			typ := typeOf(data, o.name, nil)
			cumulative := o.delta != "false" && (typ == "heap" || typ == "mutex" || typ == "block")
			items = append(items, item{origin: o, what: what(i, k), typ: typ, data: data, cumulative: cumulative, build: mainBuild(data)})
		}
	}
	return items, nil
}
