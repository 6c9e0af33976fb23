package profiles

import (
	"bytes"
	"encoding/binary"
	"io"
	"slices"
	"sync"

	"github.com/klauspost/compress/gzip"
)

// IsGzip reports whether data starts as a gzip stream does.
func IsGzip(data []byte) bool { return len(data) >= 2 && data[0] == 0x1f && data[1] == 0x8b }

type gzipSource struct {
	zr  gzip.Reader
	src bytes.Reader
}

var gzipPool = sync.Pool{New: func() any { return new(gzipSource) }}

// Gunzip decompresses src, a gzip file of one or more members, appends the result to dst and returns it. At most maxBytes come
// out: a source that holds more stops there with a *LimitError; whatever is wrong with the compression is a *FormatError. In both cases it returns
// dst with what was decompressed so far, so that its memory can be used again.
func Gunzip(dst, src []byte, maxBytes int) ([]byte, error) {
	z := gzipPool.Get().(*gzipSource)
	defer func() {
		z.src.Reset(nil)
		gzipPool.Put(z)
	}()
	z.src.Reset(src)
	if err := z.zr.Reset(&z.src); err != nil {
		return dst, gzipError(err)
	}
	start := len(dst)
	dst = slices.Grow(dst, sizeHint(src, maxBytes))
	for {
		if len(dst) == cap(dst) {
			dst = slices.Grow(dst, max(512, min(len(dst)-start, maxBytes+1-(len(dst)-start))))
		}
		// One byte more than allowed is asked for, to tell "exactly the limit" from "over it".
		room := dst[len(dst):min(cap(dst), start+maxBytes+1)]
		n, err := z.zr.Read(room)
		dst = dst[:len(dst)+n]
		if got := len(dst) - start; got > maxBytes {
			return dst, &LimitError{Limit: LimitBytes, Max: int64(maxBytes), Got: int64(got), What: "decompressed bytes"}
		}
		if err == io.EOF {
			return dst, nil
		}
		if err != nil {
			return dst, gzipError(err)
		}
	}
}

// sizeHint guesses the decompressed size from the length that the last four bytes claim, bounded by what the source itself is worth: a
// lie costs at most eight times the bytes that were sent.
func sizeHint(src []byte, maxBytes int) int {
	hint := 512
	if len(src) >= 18 {
		hint += int(min(uint64(binary.LittleEndian.Uint32(src[len(src)-4:])), uint64(len(src))*8))
	}
	return min(hint, maxBytes+1)
}

func gzipError(err error) error {
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err == io.ErrUnexpectedEOF {
		return &FormatError{What: "gzip stream is truncated", Unreadable: true, Err: err}
	}
	return &FormatError{What: "gzip stream is broken", Unreadable: true, Err: err}
}
