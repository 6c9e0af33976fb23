package peers

import (
	"errors"
	"net/http"

	"github.com/sonde-io/sonde/collector/reply"
)

// metricsRequest is the shape of an ExportMetricsServiceRequest.
var metricsRequest = func() *shape {
	value, pair := &shape{bytes: 96}, &shape{bytes: 160}
	value.messages = map[int]*shape{5: {bytes: 64, messages: map[int]*shape{1: value}}, 6: {bytes: 64, messages: map[int]*shape{1: pair}}}
	pair.messages = map[int]*shape{2: value}
	exemplar := &shape{bytes: 160, messages: map[int]*shape{7: pair}}
	number := &shape{bytes: 320, messages: map[int]*shape{5: exemplar, 7: pair}}
	histogram := &shape{bytes: 512, messages: map[int]*shape{8: exemplar, 9: pair}}
	buckets := &shape{bytes: 96}
	exponential := &shape{bytes: 640, messages: map[int]*shape{1: pair, 8: buckets, 9: buckets, 11: exemplar}}
	summary := &shape{bytes: 320, messages: map[int]*shape{6: {bytes: 64}, 7: pair}}
	points := func(of *shape) *shape { return &shape{bytes: 96, messages: map[int]*shape{1: of}} }
	metric := &shape{bytes: 320, messages: map[int]*shape{5: points(number), 7: points(number), 9: points(histogram), 10: points(exponential), 11: points(summary), 12: pair}}
	scope := &shape{bytes: 320, messages: map[int]*shape{1: {bytes: 128, messages: map[int]*shape{3: pair}}, 2: metric}}
	resource := &shape{bytes: 128, messages: map[int]*shape{1: pair, 3: {bytes: 160}}}
	return &shape{messages: map[int]*shape{1: {bytes: 1024, messages: map[int]*shape{1: resource, 2: scope}}}}
}()

// writeRequest is the shape of both messages of remote-write, 1.0 and 2.0: no number means something in the one and something else in the other.
var writeRequest = func() *shape {
	leaf := func(bytes int64) *shape { return &shape{bytes: bytes} }
	histogram := &shape{bytes: 640, messages: map[int]*shape{8: leaf(96), 11: leaf(96)}}
	series := &shape{bytes: 768, messages: map[int]*shape{1: leaf(128), 2: leaf(128), 3: {bytes: 256, messages: map[int]*shape{1: leaf(128)}}, 4: histogram, 5: {bytes: 128}}}
	series2 := &shape{bytes: 768, messages: map[int]*shape{2: leaf(128), 3: histogram, 4: {bytes: 256}, 5: leaf(128)}, perByte: map[int]int64{1: 64}}
	return &shape{messages: map[int]*shape{1: series, 3: leaf(256), 4: {bytes: 48, text: true}, 5: series2}}
}()

// costOf is what a message takes in memory, or a refusal.
func (s *shape) costOf(b []byte) (int64, error) {
	n, err := s.cost(b, 0)
	switch {
	case errors.Is(err, errTooDeep):
		return 0, &reply.Error{Status: http.StatusUnprocessableEntity, Message: "message: " + err.Error(), Limit: "max_message_depth", Max: maxMessageDepth}
	case err != nil:
		return 0, reply.Errorf(http.StatusBadRequest, "message: %v", err)
	}
	return n, nil
}
