package promenc

import (
	"encoding/binary"
	"math"
)

// The field numbers of prompb's messages that this package writes.
const (
	requestTimeseries = 1

	seriesLabels     = 1
	seriesSamples    = 2
	seriesHistograms = 4

	labelName  = 1
	labelValue = 2

	sampleValue = 1
	sampleTime  = 2

	histogramCount  = 1
	histogramSum    = 3
	histogramSchema = 4
	histogramSpans  = 11
	histogramDeltas = 12
	histogramTime   = 15
	histogramBounds = 16
	spanOffset      = 1
	spanLength      = 2
	customBuckets   = -53 // the schema whose bounds are in the message
	wireVarint      = 0
	wireFixed64     = 1
	wireBytes       = 2
	nameLabel       = "__name__"
)

// Writer writes one message after the other over the same buffers. Its zero value is ready. It is not safe for concurrent use.
type Writer struct {
	out    []byte // whole series
	series []byte // the series that is open
	msg    []byte // one message of it
	sub    []byte // one message within that
}

// Reset forgets what was written: what follows is the next part of the message, or of another. Messages are the sum of their parts.
func (w *Writer) Reset() { w.out, w.series = w.out[:0], w.series[:0] }

// Bytes returns what was written. It is valid until the next Reset.
func (w *Writer) Bytes() []byte { return w.out }

// Begin opens a series. The labels are name, value, name, value, … in the order of their names, which follow __name__.
func (w *Writer) Begin(name string, labels ...string) {
	w.series = w.series[:0]
	w.label(nameLabel, name)
	for i := 0; i+1 < len(labels); i += 2 {
		w.label(labels[i], labels[i+1])
	}
}

func (w *Writer) label(name, value string) {
	w.msg = appendString(w.msg[:0], labelName, name)
	w.msg = appendString(w.msg, labelValue, value)
	w.series = appendBytes(w.series, seriesLabels, w.msg)
}

// Sample adds a value at t, in Unix milliseconds, to the series that is open.
func (w *Writer) Sample(t int64, v float64) {
	w.msg = appendFloat(w.msg[:0], sampleValue, v)
	w.msg = appendInt(w.msg, sampleTime, uint64(t))
	w.series = appendBytes(w.series, seriesSamples, w.msg)
}

// Histogram adds a histogram of runtime/metrics at t: counts[i] lies between bounds[i] and bounds[i+1]. sum is that of what was counted.
//
// Prometheus' buckets hold their upper bound and the runtime's their lower one. A value that is exactly a bound is counted on its other side by that, but there are none: times are
// no round numbers, and the bounds of sizes lie one byte above them.
func (w *Writer) Histogram(t int64, bounds []float64, counts []uint64, sum float64) {
	first := 0 // index of the first bucket in Prometheus' count, whose lowest bucket begins at -Inf
	finite := bounds
	if len(finite) > 0 && math.IsInf(finite[0], -1) {
		finite = finite[1:]
	} else {
		first = 1
	}
	if n := len(finite); n > 0 && math.IsInf(finite[n-1], 1) {
		finite = finite[:n-1]
	}
	total := uint64(0)
	for _, c := range counts {
		total += c
	}
	w.msg = appendInt(w.msg[:0], histogramCount, total)
	w.msg = appendFloat(w.msg, histogramSum, sum)
	w.msg = appendInt(w.msg, histogramSchema, zigzag(customBuckets))
	w.buckets(first, counts)
	w.msg = appendInt(w.msg, histogramTime, uint64(t))
	w.msg = appendTag(w.msg, histogramBounds, wireBytes)
	w.msg = binary.AppendUvarint(w.msg, uint64(8*len(finite)))
	for _, b := range finite {
		w.msg = binary.LittleEndian.AppendUint64(w.msg, math.Float64bits(b))
	}
	w.series = appendBytes(w.series, seriesHistograms, w.msg)
}

// buckets writes the spans of buckets that have counts, and the counts as differences to the one before.
func (w *Writer) buckets(first int, counts []uint64) {
	w.sub = w.sub[:0]
	end, last := 0, uint64(0) // of the last span; the last count
	for i := 0; i < len(counts); {
		if counts[i] == 0 {
			i++
			continue
		}
		n := 0
		for ; i < len(counts) && counts[i] > 0; i++ {
			w.sub = binary.AppendUvarint(w.sub, zigzag(int64(counts[i]-last)))
			last = counts[i]
			n++
		}
		begin := first + i - n
		var span [2 * binary.MaxVarintLen64]byte
		s := appendInt(span[:0], spanOffset, zigzag(int64(begin-end)))
		w.msg = appendBytes(w.msg, histogramSpans, appendInt(s, spanLength, uint64(n)))
		end = begin + n
	}
	if len(w.sub) > 0 {
		w.msg = appendBytes(w.msg, histogramDeltas, w.sub)
	}
}

// End closes the series that is open and adds it to the message.
func (w *Writer) End() { w.out = appendBytes(w.out, requestTimeseries, w.series) }

// zigzag is how protobuf's sint types write a number.
func zigzag(v int64) uint64 { return uint64(v)<<1 ^ uint64(v>>63) }

func appendTag(b []byte, num, typ int) []byte {
	return binary.AppendUvarint(b, uint64(num)<<3|uint64(typ))
}

// appendInt appends field num with varint v, or nothing where v is 0, the default of proto3.
func appendInt(b []byte, num int, v uint64) []byte {
	if v == 0 {
		return b
	}
	return binary.AppendUvarint(appendTag(b, num, wireVarint), v)
}

// appendFloat appends field num with v, or nothing where v is 0.
func appendFloat(b []byte, num int, v float64) []byte {
	if v == 0 {
		return b
	}
	return binary.LittleEndian.AppendUint64(appendTag(b, num, wireFixed64), math.Float64bits(v))
}

func appendBytes(b []byte, num int, p []byte) []byte {
	return append(binary.AppendUvarint(appendTag(b, num, wireBytes), uint64(len(p))), p...)
}

func appendString(b []byte, num int, s string) []byte {
	return append(binary.AppendUvarint(appendTag(b, num, wireBytes), uint64(len(s))), s...)
}
