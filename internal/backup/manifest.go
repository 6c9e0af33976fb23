package backup

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/sonde-io/sonde/internal/blob"
)

// ManifestName is the file that makes a backup whole.
const ManifestName = "manifest.json"

const (
	manifestVersion = 2 // 1 had no time series
	blobPrefix      = "blobs/"
	metricsPrefix   = "metrics/"
	catalogPrefix   = "catalog-" // and the backup's id: a backup into the directory of an earlier one must not write over its catalogue
	maxManifest     = 256 << 20
)

// Manifest lists what a backup holds.
type Manifest struct {
	Version int    `json:"v"`
	Created int64  `json:"created"` // Unix ms: what was acknowledged before is in it
	Catalog string `json:"catalog"` // the file of the catalogue
	Files   []File `json:"files"`   // the catalogue's, those of the blobs and those of the time series
}

// File is one file of a backup: catalog-ID.db, blobs/ and the name of a blob, or metrics/ and that of a file of the time series database.
type File struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256,omitempty"` // hex; "" before it was read
}

// Bytes returns the size of all files together.
func (m *Manifest) Bytes() (n int64) {
	for _, f := range m.Files {
		n += f.Size
	}
	return n
}

// check returns an error unless every name is one that may be made into a path.
func (m *Manifest) check() error {
	if m.Version < 1 || m.Version > manifestVersion {
		return fmt.Errorf("the backup has version %d, this program reads up to %d", m.Version, manifestVersion)
	}
	seen := map[string]bool{}
	for _, f := range m.Files {
		if err := checkName(f.Name); err != nil {
			return err
		}
		if seen[f.Name] || f.Size < 0 {
			return fmt.Errorf("file %s is listed twice, or with size %d", f.Name, f.Size)
		}
		seen[f.Name] = true
	}
	if !seen[m.Catalog] || !strings.HasPrefix(m.Catalog, catalogPrefix) {
		return errors.New("the catalogue is not among the files")
	}
	return nil
}

func checkName(name string) error {
	for _, prefix := range [...]string{blobPrefix, metricsPrefix} {
		if inner, ok := strings.CutPrefix(name, prefix); ok {
			return blob.CheckName(inner)
		}
	}
	if !strings.HasPrefix(name, catalogPrefix) || strings.Contains(name, "/") {
		return fmt.Errorf("file name %.100q is none of a backup", name)
	}
	return blob.CheckName(name)
}

func decodeManifest(data []byte) (*Manifest, error) {
	m := &Manifest{}
	if err := json.Unmarshal(data, m); err != nil {
		return nil, fmt.Errorf("read %s: %w", ManifestName, err)
	}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("read %s: %w", ManifestName, err)
	}
	return m, nil
}

// immutable reports whether a file of that name never changes: blobs, and blocks of time series, whose folders are named by ULIDs.
func immutable(name string) bool {
	inner, ok := strings.CutPrefix(name, metricsPrefix)
	if !ok {
		return strings.HasPrefix(name, blobPrefix)
	}
	folder, _, below := strings.Cut(inner, "/")
	const ulid = 26
	return below && len(folder) == ulid && strings.Trim(folder, "0123456789ABCDEFGHJKMNPQRSTVWXYZ") == ""
}
