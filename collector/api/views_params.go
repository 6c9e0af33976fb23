package api

import (
	"github.com/sonde-io/sonde/profiles"
)

// frames reads what a frame is to be.
func (p *params) frames() profiles.Frames {
	return profiles.Frames(p.oneOf("frames", string(profiles.FramesFunction), string(profiles.FramesLine), string(profiles.FramesAddress)))
}
