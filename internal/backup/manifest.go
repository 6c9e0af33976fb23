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
	manifestVersion = 1
	blobPrefix      = "blobs/"
	catalogPrefix   = "catalog-" // and the backup's id: a backup into the directory of an earlier one must not write over its catalogue
	maxManifest     = 256 << 20
)

// Manifest lists what a backup holds.
type Manifest struct {
	Version int    `json:"v"`
	Created int64  `json:"created"` // Unix ms: what was acknowledged before is in it
	Catalog string `json:"catalog"` // the file of the catalogue
	Files   []File `json:"files"`   // the catalogue's and those of the blobs
}

// File is one file of a backup: catalog-ID.db, or blobs/ and the name of a blob.
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
	if m.Version != manifestVersion {
		return fmt.Errorf("the backup has version %d, this program reads %d", m.Version, manifestVersion)
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
	if inner, ok := strings.CutPrefix(name, blobPrefix); ok {
		return blob.CheckName(inner)
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
