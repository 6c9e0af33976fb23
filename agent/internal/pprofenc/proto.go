package pprofenc

// The field numbers of pprof's profile.proto that this package writes.
const (
	profileSampleType        = 1
	profileSample            = 2
	profileMapping           = 3
	profileLocation          = 4
	profileFunction          = 5
	profileStringTable       = 6
	profileTimeNanos         = 9
	profileDurationNanos     = 10
	profilePeriodType        = 11
	profilePeriod            = 12
	profileDefaultSampleType = 14
)

// wire types of protobuf.
const (
	wireVarint = 0
	wireBytes  = 2
)

// appendUvarint appends v in base-128.
func appendUvarint(b []byte, v uint64) []byte {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

// appendInt appends field num with varint v, or nothing where v is 0, the default of proto3.
func appendInt(b []byte, num int, v int64) []byte {
	if v == 0 {
		return b
	}
	b = appendUvarint(b, uint64(num)<<3|wireVarint)
	return appendUvarint(b, uint64(v))
}

// appendBytes appends field num holding p.
func appendBytes(b []byte, num int, p []byte) []byte {
	b = appendUvarint(b, uint64(num)<<3|wireBytes)
	b = appendUvarint(b, uint64(len(p)))
	return append(b, p...)
}

// appendString appends field num holding s.
func appendString(b []byte, num int, s string) []byte {
	b = appendUvarint(b, uint64(num)<<3|wireBytes)
	b = appendUvarint(b, uint64(len(s)))
	return append(b, s...)
}
