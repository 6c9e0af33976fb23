// Package promtest reads remote-write messages in tests: as much of them as package promenc writes, written anew and by the specification, so that a mistake shows. The collector's
// tests read the golden ones with Prometheus' own code. Standard library only.
package promtest

import (
	"encoding/binary"
	"errors"
	"math"
)

// Series is one time series of a message.
type Series struct {
	Labels     map[string]string
	Samples    []Sample
	Histograms []Histogram
}

// Sample is a value at a time in Unix milliseconds.
type Sample struct {
	T int64
	V float64
}

// Histogram is a native histogram. Counts are those of all its buckets, which Bounds divide: there is one more of them.
type Histogram struct {
	T      int64
	Schema int64
	Count  uint64
	Sum    float64
	Bounds []float64
	Counts []uint64
}

var errCorrupt = errors.New("corrupt message")

// field is a field of a message: num holds what is no bytes.
type field struct {
	number int
	num    uint64
	bytes  []byte
}

// fields calls fn for each field of p.
func fields(p []byte, fn func(field) error) error {
	for len(p) > 0 {
		key, n := binary.Uvarint(p)
		if n <= 0 {
			return errCorrupt
		}
		p = p[n:]
		f := field{number: int(key >> 3)}
		switch key & 7 {
		case 1:
			if len(p) < 8 {
				return errCorrupt
			}
			f.num, p = binary.LittleEndian.Uint64(p), p[8:]
		case 0, 2:
			v, n := binary.Uvarint(p)
			if n <= 0 {
				return errCorrupt
			}
			f.num, p = v, p[n:]
			if key&7 == 2 {
				if v > uint64(len(p)) {
					return errCorrupt
				}
				f.bytes, p = p[:v], p[v:]
			}
		default:
			return errCorrupt
		}
		if err := fn(f); err != nil {
			return err
		}
	}
	return nil
}

// Read returns the series of a message in its order.
func Read(msg []byte) (out []Series, err error) {
	err = fields(msg, func(f field) error {
		s := Series{Labels: map[string]string{}}
		if err := fields(f.bytes, s.field); err != nil {
			return err
		}
		out = append(out, s)
		return nil
	})
	return out, err
}

func (s *Series) field(f field) error {
	switch f.number {
	case 1:
		var name, value string
		err := fields(f.bytes, func(f field) error {
			if f.number == 1 {
				name = string(f.bytes)
			} else {
				value = string(f.bytes)
			}
			return nil
		})
		s.Labels[name] = value
		return err
	case 2:
		var v Sample
		err := fields(f.bytes, func(f field) error {
			if f.number == 1 {
				v.V = math.Float64frombits(f.num)
			} else {
				v.T = int64(f.num)
			}
			return nil
		})
		s.Samples = append(s.Samples, v)
		return err
	case 4:
		h, err := readHistogram(f.bytes)
		s.Histograms = append(s.Histograms, h)
		return err
	}
	return errCorrupt
}

func unzigzag(v uint64) int64 { return int64(v>>1) ^ -int64(v&1) }

func readHistogram(p []byte) (h Histogram, err error) {
	var filled []int // indices of the buckets of the spans
	var deltas []int64
	end := 0
	err = fields(p, func(f field) error {
		switch f.number {
		case 1:
			h.Count = f.num
		case 3:
			h.Sum = math.Float64frombits(f.num)
		case 4:
			h.Schema = unzigzag(f.num)
		case 11:
			var offset int64
			var length uint64
			err := fields(f.bytes, func(f field) error {
				if f.number == 1 {
					offset = unzigzag(f.num)
				} else {
					length = f.num
				}
				return nil
			})
			end += int(offset)
			for range length {
				filled = append(filled, end)
				end++
			}
			return err
		case 12:
			for p := f.bytes; len(p) > 0; {
				v, n := binary.Uvarint(p)
				if n <= 0 {
					return errCorrupt
				}
				deltas, p = append(deltas, unzigzag(v)), p[n:]
			}
		case 15:
			h.T = int64(f.num)
		case 16:
			for p := f.bytes; len(p) >= 8; p = p[8:] {
				h.Bounds = append(h.Bounds, math.Float64frombits(binary.LittleEndian.Uint64(p)))
			}
		default:
			return errCorrupt
		}
		return nil
	})
	if err != nil {
		return h, err
	}
	if len(deltas) != len(filled) {
		return h, errCorrupt
	}
	h.Counts = make([]uint64, len(h.Bounds)+1)
	count := int64(0)
	for i, at := range filled {
		count += deltas[i]
		if at < 0 || at >= len(h.Counts) {
			return h, errCorrupt
		}
		h.Counts[at] = uint64(count)
	}
	return h, nil
}
