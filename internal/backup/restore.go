package backup

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/sonde-io/sonde/internal/fsys"
)

// Layout says where in a data directory things are.
type Layout struct {
	Catalog string // file name of the catalogue
	Blobs   string // folder of the blobs
	Metrics string // folder of the time series database
	Lock    string // a lock file, which an empty directory may hold
}

// Restore puts the backup at from, a directory or a tar file, into the directory data, which must be empty or missing. Every checksum is verified. The catalogue gets its name
// last: a directory that was not wholly restored is none that a collector takes for one with data, and what was written is removed again.
func Restore(ctx context.Context, from, data string, l Layout) (*Manifest, error) {
	m, err := restore(ctx, from, data, l)
	if err != nil {
		return nil, fmt.Errorf("restore backup %s: %w", from, err)
	}
	return m, nil
}

func restore(ctx context.Context, from, data string, l Layout) (_ *Manifest, err error) {
	if err := empty(data, l); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(filepath.Join(data, l.Blobs)), os.RemoveAll(filepath.Join(data, l.Metrics)), remove(filepath.Join(data, l.Catalog+partSuffix)))
		}
	}()
	st, err := os.Stat(from)
	if err != nil {
		return nil, err
	}
	r := &restorer{data: data, l: l, sums: map[string]string{}, folders: map[string]bool{data: true}}
	if st.IsDir() {
		err = r.dir(ctx, from)
	} else {
		err = r.tar(ctx, from)
	}
	if err == nil {
		err = r.verify()
	}
	if err != nil {
		return nil, err
	}
	for folder := range r.folders {
		if err := (fsys.OS{}).SyncDir(folder); err != nil {
			return nil, err
		}
	}
	if err := os.Rename(filepath.Join(data, l.Catalog+partSuffix), filepath.Join(data, l.Catalog)); err != nil {
		return nil, err
	}
	return r.m, (fsys.OS{}).SyncDir(data)
}

func remove(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func empty(data string, l Layout) error {
	if err := os.MkdirAll(data, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(data)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() != l.Lock {
			return fmt.Errorf("directory %s is not empty: there is %s in it", data, e.Name())
		}
	}
	return nil
}

type restorer struct {
	data    string
	l       Layout
	m       *Manifest
	sums    map[string]string // of the files written
	catalog string            // which of them is the catalogue, under its own name with the suffix
	folders map[string]bool
}

// dir copies the files of a backup in a directory.
func (r *restorer) dir(ctx context.Context, from string) error {
	m, err := readManifest(from)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no %s in it: it is no backup, or one that was not finished (sonde backup finishes it)", ManifestName)
	}
	if err != nil {
		return err
	}
	r.m = m
	for _, f := range m.Files {
		if err := ctx.Err(); err != nil {
			return err
		}
		in, err := os.Open(filepath.Join(from, filepath.FromSlash(f.Name)))
		if err != nil {
			return err
		}
		err = r.put(f.Name, in, f.Size)
		in.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

func readManifest(dir string) (*Manifest, error) {
	data, err := os.ReadFile(filepath.Join(dir, ManifestName))
	if err != nil {
		return nil, err
	}
	return decodeManifest(data)
}

// tar copies the files of a backup in a tar file, whose manifest comes last.
func (r *restorer) tar(ctx context.Context, from string) error {
	file, err := os.Open(from)
	if err != nil {
		return err
	}
	defer file.Close()
	in := tar.NewReader(file)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if h.Name != ManifestName {
			if err := checkName(h.Name); err != nil {
				return err
			}
			if err := r.put(h.Name, in, h.Size); err != nil {
				return err
			}
			continue
		}
		data, err := io.ReadAll(io.LimitReader(in, maxManifest))
		if err != nil {
			return err
		}
		if r.m, err = decodeManifest(data); err != nil {
			return err
		}
	}
	if r.m == nil {
		return fmt.Errorf("there is no %s at its end: it is no backup, or cut short", ManifestName)
	}
	return nil
}

// put writes one file to where it belongs.
func (r *restorer) put(name string, in io.Reader, size int64) error {
	path := filepath.Join(r.data, r.l.Catalog+partSuffix)
	if inner, ok := strings.CutPrefix(name, blobPrefix); ok {
		path = filepath.Join(r.data, r.l.Blobs, filepath.FromSlash(inner))
	} else if inner, ok := strings.CutPrefix(name, metricsPrefix); ok {
		path = filepath.Join(r.data, r.l.Metrics, filepath.FromSlash(inner))
	} else if r.catalog != "" {
		return fmt.Errorf("there are two catalogues: %s and %s", r.catalog, name)
	} else {
		r.catalog = name
	}
	for dir := filepath.Dir(path); !r.folders[dir]; dir = filepath.Dir(dir) {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		r.folders[dir] = true
	}
	sum, err := put(path, in, size)
	if err != nil {
		return fmt.Errorf("file %s: %w", name, err)
	}
	r.sums[name] = sum
	return nil
}

// verify compares what was written with the manifest.
func (r *restorer) verify() error {
	for _, f := range r.m.Files {
		switch sum, ok := r.sums[f.Name]; {
		case !ok:
			return fmt.Errorf("file %s is missing", f.Name)
		case sum != f.SHA256:
			return fmt.Errorf("file %s has checksum %s, the manifest says %s: it was damaged", f.Name, sum, f.SHA256)
		}
	}
	if len(r.sums) != len(r.m.Files) {
		return fmt.Errorf("it has %d files, the manifest lists %d", len(r.sums), len(r.m.Files))
	}
	return nil
}
