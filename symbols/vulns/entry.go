package vulns

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/mod/semver"
)

// Entry is a vulnerability, as much of its OSV form as is used.
type Entry struct {
	ID        string     `json:"id"`
	Modified  time.Time  `json:"modified"`
	Published time.Time  `json:"published"`
	Withdrawn *time.Time `json:"withdrawn"`
	Aliases   []string   `json:"aliases"`
	Summary   string     `json:"summary"`
	Details   string     `json:"details"`
	Affected  []Affected `json:"affected"`
	Database  struct {
		URL string `json:"url"`
	} `json:"database_specific"`

	memory int64 // that it takes, about
}

// Affected is what an Entry says of one module.
type Affected struct {
	Module struct {
		Path      string `json:"name"`
		Ecosystem string `json:"ecosystem"`
	} `json:"package"`
	Ranges   []Range `json:"ranges"`
	Specific struct {
		Packages []Package `json:"imports"`
	} `json:"ecosystem_specific"`
}

// Range is a list of versions at which a vulnerability came and went.
type Range struct {
	Type   string  `json:"type"` // SEMVER; others are not known
	Events []Event `json:"events"`
}

// Event is a version that introduced ("0": it was always there) or fixed a vulnerability. It has no "v" in front.
type Event struct {
	Introduced string `json:"introduced"`
	Fixed      string `json:"fixed"`
}

// Package is an affected package.
type Package struct {
	Path    string   `json:"path"`
	GOOS    []string `json:"goos"`    // none: all
	GOARCH  []string `json:"goarch"`  // none: all
	Symbols []string `json:"symbols"` // "Parse", "Tag.Parse"; none: the whole package
}

// Title is a line that says what it is: the summary, which older entries lack, or how the details begin.
func (e *Entry) Title() string {
	text := e.Summary
	if text == "" {
		text, _, _ = strings.Cut(e.Details, "\n\n")
		if sentence, _, ok := strings.Cut(text, ". "); ok {
			text = sentence + "."
		}
	}
	return strings.Join(strings.Fields(text), " ")
}

// URL is where people read about it.
func (e *Entry) URL() string {
	if e.Database.URL != "" {
		return e.Database.URL
	}
	return "https://pkg.go.dev/vuln/" + e.ID
}

// Limits of one entry. The largest real one is of some 60 KiB and 5,000 symbols.
const (
	maxEntryBytes = 4 << 20
	maxSymbols    = 100_000 // with ranges, packages and what else is listed
	itemBytes     = 128     // that one of them takes, about
)

// ParseEntry reads an entry in the OSV format.
func ParseEntry(data []byte) (*Entry, error) {
	if len(data) > maxEntryBytes {
		return nil, fmt.Errorf("parse vulnerability: %d bytes, at most %d are read", len(data), maxEntryBytes)
	}
	e := &Entry{}
	if err := json.Unmarshal(data, e); err != nil {
		return nil, fmt.Errorf("parse vulnerability: %w", err)
	}
	if err := e.validate(); err != nil {
		return nil, fmt.Errorf("parse vulnerability %.64q: %w", e.ID, err)
	}
	e.memory += int64(len(data))
	return e, nil
}

func (e *Entry) validate() error {
	if !validID(e.ID) {
		return errors.New("its id is none")
	}
	symbols := len(e.Affected) + len(e.Aliases)
	for i := range e.Affected {
		a := &e.Affected[i]
		if a.Module.Path == "" {
			return errors.New("it affects a module without a name")
		}
		symbols += len(a.Ranges) + len(a.Specific.Packages)
		for _, r := range a.Ranges {
			symbols += len(r.Events)
			for _, ev := range r.Events {
				for _, v := range []string{ev.Introduced, ev.Fixed} {
					if r.Type == rangeSemver && v != "" && v != "0" && !semver.IsValid("v"+v) {
						return fmt.Errorf("%.64q is no version", v)
					}
				}
			}
		}
		for _, p := range a.Specific.Packages {
			symbols += len(p.Symbols) + len(p.GOOS) + len(p.GOARCH)
		}
	}
	if symbols > maxSymbols {
		return fmt.Errorf("%d symbols and ranges, at most %d are read", symbols, maxSymbols)
	}
	e.memory = int64(symbols) * itemBytes
	return nil
}

// validID reports whether id can be the name of an entry, and so of its file.
func validID(id string) bool {
	if id == "" || len(id) > 64 {
		return false
	}
	for _, c := range []byte(id) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}
