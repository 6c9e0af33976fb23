package api

import (
	"slices"

	"github.com/sonde-io/sonde/profiles"
	"github.com/sonde-io/sonde/profiles/store"
)

// compared are the parameters of a comparison.
var compared = append(slices.Clone(common), "base_query", "base_from", "base_to", "normalize")

// frames reads what a frame is to be.
func (p *params) frames() profiles.Frames {
	return profiles.Frames(p.oneOf("frames", string(profiles.FramesFunction), string(profiles.FramesLine), string(profiles.FramesAddress)))
}

// normalization reads how the sides of a comparison are made comparable.
func (p *params) normalization(otherwise profiles.Normalization) profiles.Normalization {
	words := []string{string(otherwise)}
	for _, n := range profiles.Normalizations {
		if n != otherwise {
			words = append(words, string(n))
		}
	}
	return profiles.Normalization(p.oneOf("normalize", words...))
}

// base reads the other side of a comparison with q: everything but its range and its selector is q's.
func (p *params) base(q store.Query) store.Query {
	if p.str("base_query") != "" {
		q.Matchers = p.selector("base_query")
	}
	q.From, q.To = p.span("base_from", "", "base_to", "")
	return q
}
