package store

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// blockID names a segment or block for ever: 48 bits of Unix ms, 48 random bits of the store that made it, a 32-bit counter. Ids
// sort by creation; a store's are unique, and two stores' differ in the random bits. That so much of them repeats is what keeps lists of
// ancestors small.
type blockID [16]byte

// crockford's alphabet is in ASCII order: the text sorts as the bytes do.
var crockford = base32.NewEncoding("0123456789ABCDEFGHJKMNPQRSTVWXYZ").WithPadding(base32.NoPadding)

func (id blockID) String() string { return crockford.EncodeToString(id[:]) }

// time returns when the id was made.
func (id blockID) time() time.Time {
	return time.UnixMilli(int64(binary.BigEndian.Uint64(id[:8]) >> 16))
}

// idOfBlob returns the id in a segment's or a block's name; ok is false where there is none.
func idOfBlob(name string) (id blockID, ok bool) {
	n, err := crockford.Decode(id[:], []byte(name[strings.LastIndexByte(name, '/')+1:]))
	return id, err == nil && n == len(id)
}

// idSource makes ids. Safe for concurrent use.
type idSource struct {
	node    [6]byte
	counter atomic.Uint32
}

func newIDSource() *idSource {
	s := &idSource{}
	rand.Read(s.node[:]) // never fails
	return s
}

func (s *idSource) next(now time.Time) blockID {
	var id blockID
	binary.BigEndian.PutUint64(id[:8], uint64(now.UnixMilli())<<16)
	copy(id[6:12], s.node[:])
	binary.BigEndian.PutUint32(id[12:], s.counter.Add(1))
	return id
}

// The folders of the blob store.
const (
	segmentFolder = "segments/"
	blockFolder   = "blocks/"
)

func blobName(id blockID, level int) string {
	if level == 0 {
		return segmentFolder + id.String()
	}
	return blockFolder + id.String()
}

// appendAncestors encodes ids, ascending, column by column.
func appendAncestors(b []byte, ids []blockID) []byte {
	b = binary.AppendUvarint(b, uint64(len(ids)))
	prev := int64(0)
	for _, id := range ids {
		ms := int64(binary.BigEndian.Uint64(id[:8]) >> 16)
		b = binary.AppendVarint(b, ms-prev)
		prev = ms
	}
	for _, id := range ids {
		b = append(b, id[6:12]...)
	}
	prev = 0
	for _, id := range ids {
		c := int64(binary.BigEndian.Uint32(id[12:]))
		b = binary.AppendVarint(b, c-prev)
		prev = c
	}
	return b
}

func decodeAncestors(b []byte) ([]blockID, error) {
	d := decoder{b: b}
	ids := make([]blockID, d.count(8))
	ms := int64(0)
	for i := range ids {
		ms += d.varint()
		binary.BigEndian.PutUint64(ids[i][:8], uint64(ms)<<16)
	}
	for i := range ids {
		copy(ids[i][6:12], d.bytes(6))
	}
	c := int64(0)
	for i := range ids {
		c += d.varint()
		binary.BigEndian.PutUint32(ids[i][12:], uint32(c))
	}
	if !slices.IsSortedFunc(ids, func(a, b blockID) int { return slices.Compare(a[:], b[:]) }) {
		d.fail(fmt.Errorf("ancestors are not in order"))
	}
	return ids, d.done()
}
