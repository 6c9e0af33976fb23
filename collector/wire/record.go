package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// ContentType is that of a batch.
const ContentType = "application/vnd.sonde.batch"

// Magic starts a batch.
const Magic = "sondeb1\n"

// lengthBytes is the size of a length: 32 bits, little-endian.
const lengthBytes = 4

var (
	// ErrMagic says that the bytes are no batch.
	ErrMagic = errors.New("not a batch: it does not start with the magic " + fmt.Sprintf("%q", Magic))
	// ErrFrame says that a section reaches beyond its record. The next record can be read all the same.
	ErrFrame = errors.New("a section is longer than what is left of its record")
)

// AppendSection appends a section: its length and its bytes.
func AppendSection(dst, section []byte) []byte {
	return append(binary.LittleEndian.AppendUint32(dst, uint32(len(section))), section...)
}

// RecordHead returns what stands before the sections of the profiles of a record: its length, its meta object and its process object, which may
// be empty. parts is the length of the profiles' sections in bytes.
func RecordHead(meta, process []byte, parts int) []byte {
	n := 2*lengthBytes + len(meta) + len(process)
	head := binary.LittleEndian.AppendUint32(make([]byte, 0, lengthBytes+n), uint32(n+parts))
	return AppendSection(AppendSection(head, meta), process)
}

// RecordSize returns how long a record is in a batch.
func RecordSize(meta, process, parts int) int { return 3*lengthBytes + meta + process + parts }

// Reader reads a batch record by record, and each section by section.
type Reader struct {
	r      io.Reader
	record int64 // bytes left of the record
	part   int64 // of them, bytes left of the section
	began  bool
}

// NewReader returns a Reader of r. It reads no more from r than it is asked for.
func NewReader(r io.Reader) *Reader { return &Reader{r: r} }

// Next goes to the next record, over what is left of the one before, and returns its size in bytes. The error at the batch's end is io.EOF, of one that
// is cut short io.ErrUnexpectedEOF, of other bytes ErrMagic.
func (r *Reader) Next() (int64, error) {
	if !r.began {
		var magic [len(Magic)]byte
		if _, err := io.ReadFull(r.r, magic[:]); err != nil {
			return 0, unexpected(err)
		}
		if string(magic[:]) != Magic {
			return 0, ErrMagic
		}
		r.began = true
	}
	if err := r.skip(r.record); err != nil {
		return 0, err
	}
	n, err := r.length()
	if err != nil {
		return 0, err // io.EOF here is the batch's own end
	}
	r.record, r.part = n, 0
	return n, nil
}

// Section goes to the next section of the record, over what is left of the one before, and returns its size. The error at the record's end is io.EOF;
// ErrFrame says that the record is not what it says, and Next goes on after it.
func (r *Reader) Section() (int64, error) {
	skip := r.part
	r.part = 0
	if err := r.skip(skip); err != nil {
		return 0, err
	}
	switch {
	case r.record == 0:
		return 0, io.EOF
	case r.record < lengthBytes:
		return 0, ErrFrame
	}
	n, err := r.length()
	if err != nil {
		return 0, unexpected(err)
	}
	r.record -= lengthBytes
	if n > r.record {
		return 0, ErrFrame
	}
	r.part = n
	return n, nil
}

// Read reads the section. A batch that is cut short ends it with io.ErrUnexpectedEOF.
func (r *Reader) Read(b []byte) (int, error) {
	if r.part == 0 {
		return 0, io.EOF
	}
	n, err := r.r.Read(b[:min(int64(len(b)), r.part)])
	r.part -= int64(n)
	r.record -= int64(n)
	if err == io.EOF && r.part == 0 {
		err = nil
	}
	return n, unexpected(err)
}

func (r *Reader) skip(n int64) error {
	got, err := io.CopyN(io.Discard, r.r, n)
	r.record -= got
	return unexpected(err)
}

func (r *Reader) length() (int64, error) {
	var b [lengthBytes]byte
	if _, err := io.ReadFull(r.r, b[:]); err != nil {
		return 0, err
	}
	return int64(binary.LittleEndian.Uint32(b[:])), nil
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
