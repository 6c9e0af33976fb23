package collector

import (
	"errors"
	"fmt"
	"time"
)

// Limits bound one push and one query. What is 0 is the default, but of the last two, where it means no limit.
type Limits struct {
	MaxDecompressedBytes Size     `yaml:"max_decompressed_bytes" json:"max_decompressed_bytes"` // largest push once decompressed, all its profiles together; over it 413
	MaxSamples           int      `yaml:"max_samples" json:"max_samples"`                       // of one profile; over it 422
	MaxLabels            int      `yaml:"max_labels" json:"max_labels"`                         // of a process; over it 422
	MaxConcurrentPushes  int      `yaml:"max_concurrent_pushes" json:"max_concurrent_pushes"`   // handled at once; over it 429
	QueryCPU             Duration `yaml:"query_cpu" json:"query_cpu"`                           // CPU time that one query may take; over it 422
	QueryMemory          Size     `yaml:"query_memory" json:"query_memory"`                     // that one query may take for what it adds up; over it 422
}

var defaultLimits = Limits{MaxDecompressedBytes: 64 << 20, MaxSamples: 500_000, MaxLabels: 64, MaxConcurrentPushes: 64, QueryCPU: Duration(20 * time.Second), QueryMemory: 256 << 20}

// applyZeros puts the default where 0 means it.
func (l *Limits) applyZeros() {
	def := defaultLimits
	for _, f := range []struct{ at, def *int }{{&l.MaxSamples, &def.MaxSamples}, {&l.MaxLabels, &def.MaxLabels}, {&l.MaxConcurrentPushes, &def.MaxConcurrentPushes}} {
		if *f.at == 0 {
			*f.at = *f.def
		}
	}
	if l.MaxDecompressedBytes == 0 {
		l.MaxDecompressedBytes = def.MaxDecompressedBytes
	}
}

func (l *Limits) validate(body Size) error {
	if min(int64(l.MaxDecompressedBytes), int64(l.MaxSamples), int64(l.MaxLabels), int64(l.MaxConcurrentPushes), int64(l.QueryCPU), int64(l.QueryMemory)) < 0 {
		return errors.New("a limit is negative")
	}
	if l.MaxDecompressedBytes < body {
		return fmt.Errorf("max_decompressed_bytes %v is less than max_body_bytes %v", l.MaxDecompressedBytes, body)
	}
	return nil
}
