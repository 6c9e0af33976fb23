package peers

import (
	"errors"
	"net/http"

	"github.com/sonde-io/sonde/collector/reply"
)

// shape is what a kind of message costs in memory, and what is in it.
type shape struct {
	bytes    int64          // of the struct, its pointer, and what it is converted to
	messages map[int]*shape // by number of the field
	text     bool           // it is no message, but a string
	perByte  map[int]int64  // what a byte of a field can become, where it is more than usual: an attribute's index is a label of a sample
}

// usualPerByte is what a byte of a packed list becomes at most: a varint an int64, in a slice that doubles as it grows.
const usualPerByte = 16

// maxMessageDepth bounds messages within messages: values of attributes may hold values, and the library that decodes them calls itself.
const maxMessageDepth = 32

// request is the shape of an ExportProfilesServiceRequest, which has the fields of ProfilesData.
var request = func() *shape {
	value, pair := &shape{bytes: 96}, &shape{bytes: 160}
	value.messages = map[int]*shape{5: {bytes: 64, messages: map[int]*shape{1: value}}, 6: {bytes: 64, messages: map[int]*shape{1: pair}}}
	pair.messages = map[int]*shape{2: value}
	leaf := func(bytes int64) *shape { return &shape{bytes: bytes} }
	sample := &shape{bytes: 256, perByte: map[int]int64{2: 96}}
	profile := &shape{bytes: 512, messages: map[int]*shape{1: leaf(16), 2: sample, 5: leaf(16)}}
	scope := &shape{bytes: 320, messages: map[int]*shape{1: {bytes: 128, messages: map[int]*shape{3: pair}}, 2: profile}}
	resource := &shape{bytes: 128, messages: map[int]*shape{1: pair, 3: leaf(160)}}
	dictionary := &shape{bytes: 256, messages: map[int]*shape{
		1: leaf(256),
		2: {bytes: 256, messages: map[int]*shape{3: leaf(96)}},
		3: leaf(160),
		4: leaf(128),
		5: {bytes: 48, text: true},
		6: {bytes: 320, messages: map[int]*shape{2: value}},
		7: leaf(96),
	}}
	return &shape{messages: map[int]*shape{
		1: {bytes: 1024, messages: map[int]*shape{1: resource, 2: scope}},
		2: dictionary,
	}}
}()

var errTooDeep = errors.New("messages are nested too deeply")

// cost returns the bytes of memory that a message takes once it is decoded, without decoding it.
func (s *shape) cost(b []byte, depth int) (total int64, err error) {
	if depth > maxMessageDepth {
		return 0, errTooDeep
	}
	err = each(b, func(f field) error {
		if f.wire != 2 {
			total += usualPerByte
			return nil
		}
		in := s.messages[f.number]
		if in == nil {
			total += int64(len(f.bytes)) * max(usualPerByte, s.perByte[f.number])
			return nil
		}
		if in.text {
			total += in.bytes + int64(len(f.bytes))
			return nil
		}
		n, err := in.cost(f.bytes, depth+1)
		total += in.bytes + n
		return err
	})
	return total, err
}

// costOfProto is what an OTLP request in protobuf takes in memory.
func costOfProto(b []byte) (int64, error) {
	n, err := request.cost(b, 0)
	switch {
	case errors.Is(err, errTooDeep):
		return 0, &reply.Error{Status: http.StatusUnprocessableEntity, Message: "OTLP request: " + err.Error(), Limit: "max_message_depth", Max: maxMessageDepth}
	case err != nil:
		return 0, reply.Errorf(http.StatusBadRequest, "OTLP request: %v", err)
	}
	return n, nil
}

// costOfJSON is what an OTLP request in JSON takes in memory: by its braces, its commas and its length.
func costOfJSON(b []byte) (int64, error) {
	total, depth, quoted := int64(len(b)), 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case quoted:
			if c == '\\' {
				i++
			} else if c == '"' {
				quoted = false
			}
		case c == '"':
			quoted = true
		case c == '{' || c == '[':
			total += 512
			if depth++; depth > maxMessageDepth {
				return 0, &reply.Error{Status: http.StatusUnprocessableEntity, Message: "OTLP request: " + errTooDeep.Error(), Limit: "max_message_depth", Max: maxMessageDepth}
			}
		case c == '}' || c == ']':
			depth--
		case c == ',':
			total += 96
		}
	}
	return total, nil
}
