package vulns

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

//go:embed releases.json
var releasesFile []byte

// Releases says which Go versions are supported when: a release is until the one two after it is out.
type Releases struct {
	asOf      time.Time
	supported int
	released  map[int]time.Time // by minor version
	minors    []int             // ascending
}

// DefaultReleases returns the table that Sonde was built with.
func DefaultReleases() *Releases {
	r, err := ParseReleases(releasesFile)
	if err != nil {
		panic(err) // a test reads it
	}
	return r
}

// ReadReleases reads a table that takes the place of the built-in one. "" is the built-in one.
func ReadReleases(file string) (*Releases, error) {
	if file == "" {
		return DefaultReleases(), nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read Go releases: %w", err)
	}
	r, err := ParseReleases(data)
	if err != nil {
		return nil, fmt.Errorf("read Go releases of %s: %w", file, err)
	}
	return r, nil
}

var releaseName = regexp.MustCompile(`^go1\.(\d{1,4})$`)

// ParseReleases reads a table in the form of releases.json: as_of says when somebody last looked, supported how many releases are at a time.
func ParseReleases(data []byte) (*Releases, error) {
	var file struct {
		AsOf      string `json:"as_of"`
		Supported int    `json:"supported"`
		Releases  []struct {
			Version  string `json:"version"`
			Released string `json:"released"`
		} `json:"releases"`
	}
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, err
	}
	r := &Releases{supported: file.Supported, released: map[int]time.Time{}}
	var err error
	if r.asOf, err = time.Parse(time.DateOnly, file.AsOf); err != nil {
		return nil, fmt.Errorf("as_of: %w", err)
	}
	if file.Supported < 1 || len(file.Releases) == 0 {
		return nil, errors.New("supported is not a number of releases, or there are none")
	}
	for _, rel := range file.Releases {
		m := releaseName.FindStringSubmatch(rel.Version)
		if m == nil {
			return nil, fmt.Errorf("%.64q is no release such as go1.26", rel.Version)
		}
		minor, err := strconv.Atoi(m[1])
		if err != nil {
			return nil, err
		}
		at, err := time.Parse(time.DateOnly, rel.Released)
		if err != nil {
			return nil, fmt.Errorf("release date of %s: %w", rel.Version, err)
		}
		if _, ok := r.released[minor]; ok {
			return nil, fmt.Errorf("%s is there twice", rel.Version)
		}
		r.released[minor] = at
		r.minors = append(r.minors, minor)
	}
	slices.Sort(r.minors)
	return r, nil
}

// AsOf returns the day to which the table is true.
func (r *Releases) AsOf() time.Time { return r.asOf }

// Unsupported reports whether a build's Go version, such as go1.21.13, is out of support at a time, and since when: since the release that put it out. What is newer than the
// table is taken for supported, what is older for unsupported since the table's first date. A development version is not judged.
func (r *Releases) Unsupported(version string, at time.Time) (since time.Time, out bool) {
	v := GoSemver(version)
	if v == "" {
		return time.Time{}, false
	}
	minor, err := strconv.Atoi(strings.Split(v, ".")[1])
	if err != nil || !strings.HasPrefix(v, "v1.") {
		return time.Time{}, false
	}
	i, known := slices.BinarySearch(r.minors, minor)
	switch {
	case !known && i == len(r.minors):
		return time.Time{}, false
	case !known && i == 0:
		return r.released[r.minors[0]], true
	case !known: // a gap in the table
		i--
	}
	if i += r.supported; i >= len(r.minors) {
		return time.Time{}, false
	}
	since = r.released[r.minors[i]]
	return since, !at.Before(since)
}
