package godebug

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/prometheus/common/model"
)

// Settings are those of lines and of who reads them from logs. The zero value keeps lines for 7 days and reads no log.
type Settings struct {
	// MaxAge is how long lines are kept; 0: 7d.
	MaxAge model.Duration `yaml:"max_age"`
	// MaxBytes is how many bytes of lines are kept, as they are stored; 0: 512 MiB.
	MaxBytes int64 `yaml:"max_bytes"`
	// Files are the logs that are followed.
	Files []File `yaml:"files"`
}

// File is a set of logs.
type File struct {
	// Path is a pattern of files as path/filepath.Match has it, such as /var/log/containers/*.log. Of journald: a unit, such as cart.service; "": of the whole system.
	Path string `yaml:"path"`
	// Format is how lines stand in the file: plain, cri (Kubernetes), docker (its JSON), journald; "" or auto: by how the first line looks.
	Format string `yaml:"format"`
	// Service is the name of the service whose logs these are; "": of the process that is known by its container or pid, else of the file's name.
	Service string `yaml:"service"`
	// Labels are added to those of the process.
	Labels map[string]string `yaml:"labels"`
}

// The formats of logs.
const (
	FormatAuto     = "auto"
	FormatPlain    = "plain"
	FormatCRI      = "cri"
	FormatDocker   = "docker"
	FormatJournald = "journald"
)

var formats = []string{"", FormatAuto, FormatPlain, FormatCRI, FormatDocker, FormatJournald}

// maxFiles bounds the entries of the setting.
const maxFiles = 64

// Validate checks s.
func (s *Settings) Validate() error {
	switch {
	case s.MaxAge < 0:
		return fmt.Errorf("max_age: %v is less than 0", s.MaxAge)
	case s.MaxBytes < 0:
		return fmt.Errorf("max_bytes: %d is less than 0", s.MaxBytes)
	case len(s.Files) > maxFiles:
		return fmt.Errorf("files: %d, at most %d", len(s.Files), maxFiles)
	}
	for i, f := range s.Files {
		if err := f.validate(); err != nil {
			return fmt.Errorf("files[%d]: %w", i, err)
		}
	}
	return nil
}

func (f *File) validate() error {
	if !slices.Contains(formats, f.Format) {
		return fmt.Errorf("format: %q, want plain, cri, docker, journald or auto", f.Format)
	}
	if f.Format == FormatJournald {
		return nil
	}
	if f.Path == "" {
		return errors.New("path: is missing")
	}
	if _, err := filepath.Match(f.Path, ""); err != nil {
		return fmt.Errorf("path: %q: %w", f.Path, err)
	}
	return nil
}

func (s *Settings) maxAge() time.Duration {
	return time.Duration(cmp.Or(s.MaxAge, model.Duration(7*24*time.Hour)))
}
func (s *Settings) maxBytes() int64 { return cmp.Or(s.MaxBytes, 512<<20) }
