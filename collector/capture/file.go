package capture

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/sonde-io/sonde/internal/blob"
	"github.com/sonde-io/sonde/internal/catalog"
)

// A blob of a capture is the bytes as they were delivered and what the catalogue says of them, so that a catalogue that was lost or restored finds it again:
//
//	bytes | JSON | length of JSON (4) | CRC-32C of bytes (4) | CRC-32C of JSON (4) | "SNDCAPT1"
//
// Numbers are little-endian. The name of the blob is captures/ and the id.
const (
	folder    = "captures/"
	fileMagic = "SNDCAPT1"
	tailSize  = 4 + 4 + 4 + len(fileMagic)
	maxMeta   = 64 << 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrDamaged says that a blob is not what was stored.
var ErrDamaged = errors.New("the capture is damaged")

// fileMeta is a catalogue's row in a blob.
type fileMeta struct {
	catalog.Capture
	Spread string `json:"spread,omitempty"`
}

// encodeFile returns the blob of a finished capture.
func encodeFile(c catalog.Capture, data []byte) ([]byte, error) {
	meta, err := json.Marshal(fileMeta{c, c.Spread})
	if err != nil {
		return nil, err
	}
	if len(meta) > maxMeta {
		return nil, fmt.Errorf("what is known of capture %s takes %d bytes", c.ID, len(meta))
	}
	out := make([]byte, 0, len(data)+len(meta)+tailSize)
	out = append(append(out, data...), meta...)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(meta)))
	out = binary.LittleEndian.AppendUint32(out, crc32.Checksum(data, castagnoli))
	out = binary.LittleEndian.AppendUint32(out, crc32.Checksum(meta, castagnoli))
	return append(out, fileMagic...), nil
}

// readMeta reads what a blob says of itself, and the checksum of its bytes.
func readMeta(r io.ReaderAt, name string, size int64) (c catalog.Capture, sum uint32, err error) {
	damaged := func(what string) error { return fmt.Errorf("%w: %s", ErrDamaged, what) }
	var tail [tailSize]byte
	if size < int64(tailSize) {
		return c, 0, damaged("it is too short")
	}
	if err := readFull(r, tail[:], size-int64(tailSize)); err != nil {
		return c, 0, err
	}
	if string(tail[12:]) != fileMagic {
		return c, 0, damaged("it does not end as a capture does")
	}
	n := int64(binary.LittleEndian.Uint32(tail[:]))
	if n > maxMeta || n > size-int64(tailSize) {
		return c, 0, damaged(fmt.Sprintf("what it says of itself has %d bytes", n))
	}
	meta := make([]byte, n)
	if err := readFull(r, meta, size-int64(tailSize)-n); err != nil {
		return c, 0, err
	}
	if crc32.Checksum(meta, castagnoli) != binary.LittleEndian.Uint32(tail[8:]) {
		return c, 0, damaged("the checksum of what it says of itself is wrong")
	}
	var m fileMeta
	if err := json.Unmarshal(meta, &m); err != nil {
		return c, 0, damaged(err.Error())
	}
	c = m.Capture
	c.Spread, c.Blob = m.Spread, name
	if c.Size != size-int64(tailSize)-n || folder+c.ID != name || c.State != catalog.CaptureDone || !ValidKind(c.Kind) {
		return c, 0, damaged(fmt.Sprintf("it says that it is capture %.64q of %d bytes, %.32q", c.ID, c.Size, c.State))
	}
	return c, binary.LittleEndian.Uint32(tail[4:]), nil
}

func readFull(r io.ReaderAt, buf []byte, at int64) error {
	n, err := r.ReadAt(buf, at)
	if n == len(buf) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// readFile returns the bytes of a capture, checked.
func readFile(ctx context.Context, blobs blob.Store, c catalog.Capture) ([]byte, error) {
	r, err := blobs.Open(ctx, c.Blob)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	meta, sum, err := readMeta(r, c.Blob, r.Size())
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", c.Blob, err)
	}
	if meta.Size > maxBytes {
		return nil, fmt.Errorf("blob %s: %w: %d bytes", c.Blob, ErrDamaged, meta.Size)
	}
	data := make([]byte, meta.Size)
	if err := readFull(r, data, 0); err != nil {
		return nil, fmt.Errorf("blob %s: %w", c.Blob, err)
	}
	if crc32.Checksum(data, castagnoli) != sum {
		return nil, fmt.Errorf("blob %s: %w: the checksum of its bytes is wrong", c.Blob, ErrDamaged)
	}
	return data, nil
}

// readAll reads at most limit bytes into memory that grows with what comes.
func readAll(r io.Reader, limit int64) ([]byte, error) {
	var b bytes.Buffer
	n, err := b.ReadFrom(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if n > limit {
		return nil, &LimitError{Limit: limitBytes, Max: limit}
	}
	return b.Bytes(), nil
}
