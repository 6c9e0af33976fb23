package agent

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"

	"github.com/sonde-io/sonde/agent/internal/pprofmerge"
)

// maxProfileBytes is the most that a profile of this process may hold, uncompressed.
const maxProfileBytes = 64 << 20

// scrubber takes oversized labels, which a program can set past Labels, and those that Config does not let out, out of the runtime's own profiles. Its buffers are reused.
type scrubber struct {
	limits   pprofmerge.Limits
	gz       *gzip.Reader
	raw      bytes.Buffer
	stripped int
}

// newScrubber returns a scrubber that also filters labels as p wants it.
func newScrubber(p *privacy) scrubber {
	s := scrubber{limits: labelLimits}
	s.limits.Filter = p.filter()
	return s
}

// scrub returns the gzipped profile p, rewritten only where a label is over the limits or has to be filtered.
func (s *scrubber) scrub(p []byte) ([]byte, error) {
	var err error
	if s.gz == nil {
		s.gz, err = gzip.NewReader(bytes.NewReader(p))
	} else {
		err = s.gz.Reset(bytes.NewReader(p))
	}
	if err != nil {
		return nil, fmt.Errorf("read profile: %w", err)
	}
	s.raw.Reset()
	n, err := s.raw.ReadFrom(io.LimitReader(s.gz, maxProfileBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read profile: %w", err)
	}
	if n > maxProfileBytes {
		return nil, fmt.Errorf("read profile: more than %d bytes", maxProfileBytes)
	}
	defer func() {
		if s.raw.Cap() > keepBytes {
			s.raw = bytes.Buffer{}
		}
	}()
	over, err := pprofmerge.Exceeds(s.raw.Bytes(), s.limits)
	if err != nil || !over {
		return p, err
	}
	m := pprofmerge.Merger{Limits: s.limits}
	if err := m.Add(s.raw.Bytes()); err != nil {
		return nil, err
	}
	s.stripped += m.Stripped
	return zipMerged(&m)
}

// unzip returns the content of gzipped p, which this process made.
func unzip(p []byte) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(p))
	if err != nil {
		return nil, fmt.Errorf("read profile: %w", err)
	}
	raw, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("read profile: %w", err)
	}
	return raw, nil
}

// zipMerged returns the merged profile, gzipped.
func zipMerged(m *pprofmerge.Merger) ([]byte, error) {
	var b bytes.Buffer
	zw, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err == nil {
		_, err = m.WriteTo(zw)
	}
	if err == nil {
		err = zw.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("write profile: %w", err)
	}
	return b.Bytes(), nil
}
