package backup

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sonde-io/sonde/internal/fsys"
)

// Source gives the files of one backup out: a Host's session, or the same over the network.
type Source interface {
	// Open returns the file of that name in the session's list.
	Open(ctx context.Context, name string) (io.ReadCloser, error)
}

// Written says what a backup took.
type Written struct {
	Manifest
	Fetched int64 // bytes that were read; the others were there
}

const partSuffix = ".part"

// ToDir writes the backup m, read from src, into dir. Files of an earlier or interrupted backup that are there are not read again. The manifest of an earlier one stays in force until the
// new backup is whole; then what only the earlier one had is removed.
func ToDir(ctx context.Context, m Manifest, src Source, dir string) (Written, error) {
	out, err := toDir(ctx, m, src, dir)
	if err != nil {
		return out, fmt.Errorf("write backup %s: %w", dir, err)
	}
	return out, nil
}

func toDir(ctx context.Context, m Manifest, src Source, dir string) (Written, error) {
	if err := m.check(); err != nil {
		return Written{}, err
	}
	if err := ours(dir); err != nil {
		return Written{}, err
	}
	before := map[string]File{}
	if old, err := readManifest(dir); err == nil {
		for _, f := range old.Files {
			before[f.Name] = f
		}
	}
	out := Written{Manifest: m}
	folders := map[string]bool{dir: true}
	for i := range out.Files {
		f := &out.Files[i]
		path := filepath.Join(dir, filepath.FromSlash(f.Name))
		if sum, err := sumOf(path, f.Size); err == nil && immutable(f.Name) && (before[f.Name].SHA256 == "" || before[f.Name].SHA256 == sum) {
			f.SHA256 = sum
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return out, err
		}
		folders[filepath.Dir(path)] = true
		sum, err := fetch(ctx, src, *f, path)
		if err != nil {
			return out, err
		}
		f.SHA256 = sum
		out.Fetched += f.Size
	}
	for folder := range folders {
		if err := (fsys.OS{}).SyncDir(folder); err != nil {
			return out, err
		}
	}
	data, err := json.MarshalIndent(out.Manifest, "", " ")
	if err != nil {
		return out, err
	}
	if _, err := put(filepath.Join(dir, ManifestName), strings.NewReader(string(data)), int64(len(data))); err != nil {
		return out, err
	}
	if err := (fsys.OS{}).SyncDir(dir); err != nil {
		return out, err
	}
	return out, prune(dir, &out.Manifest)
}

// ours returns an error where dir holds what no backup left there.
func ours(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := strings.TrimSuffix(e.Name(), partSuffix)
		if name != ManifestName && name+"/" != blobPrefix && name+"/" != metricsPrefix && checkName(name) != nil {
			return fmt.Errorf("there is %s in it: name a directory that is empty or holds a backup", e.Name())
		}
	}
	return nil
}

// sumOf returns the checksum of the file at path if it has that size.
func sumOf(path string, size int64) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err == nil && n != size {
		err = errors.New("it has another size")
	}
	return hex.EncodeToString(h.Sum(nil)), err
}

// fetch reads a file of the source into path.
func fetch(ctx context.Context, src Source, f File, path string) (string, error) {
	r, err := src.Open(ctx, f.Name)
	if err != nil {
		return "", err
	}
	defer r.Close()
	sum, err := put(path, r, f.Size)
	if err != nil {
		return "", fmt.Errorf("file %s: %w", f.Name, err)
	}
	return sum, nil
}

// put writes size bytes of r to path, under another name until they are synced, and returns their checksum.
func put(path string, r io.Reader, size int64) (sum string, err error) {
	f, err := os.OpenFile(path+partSuffix, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(path + partSuffix)
		}
	}()
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, h), io.LimitReader(r, size+1))
	if err != nil {
		return "", err
	}
	if n != size {
		return "", fmt.Errorf("it has another size than %d bytes", size)
	}
	if err = errors.Join(f.Sync(), f.Close()); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), os.Rename(path+partSuffix, path)
}

// prune removes what m does not name: of earlier backups, and of one that was interrupted.
func prune(dir string, m *Manifest) error {
	keep := map[string]bool{ManifestName: true}
	for _, f := range m.Files {
		keep[f.Name] = true
	}
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil || keep[filepath.ToSlash(rel)] {
			return err
		}
		return os.Remove(path)
	})
}

// ToTar writes the backup m, read from src, to the file path, which appears when it is whole.
func ToTar(ctx context.Context, m Manifest, src Source, path string) (Written, error) {
	out := Written{Manifest: m}
	err := toTar(ctx, src, path, &out)
	if err != nil {
		return out, fmt.Errorf("write backup %s: %w", path, err)
	}
	return out, nil
}

func toTar(ctx context.Context, src Source, path string, out *Written) (err error) {
	if err := out.check(); err != nil {
		return err
	}
	f, err := os.OpenFile(path+partSuffix, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(path + partSuffix)
		}
	}()
	w := tar.NewWriter(f)
	at := time.UnixMilli(out.Created)
	for i := range out.Files {
		if err := addTar(ctx, w, src, &out.Files[i], at); err != nil {
			return err
		}
		out.Fetched += out.Files[i].Size
	}
	data, err := json.Marshal(out.Manifest)
	if err != nil {
		return err
	}
	if err := w.WriteHeader(header(ManifestName, int64(len(data)), at)); err != nil {
		return err
	}
	if _, err := w.Write(data); err != nil {
		return err
	}
	if err := errors.Join(w.Close(), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+partSuffix, path); err != nil {
		return err
	}
	return (fsys.OS{}).SyncDir(filepath.Dir(path))
}

func header(name string, size int64, at time.Time) *tar.Header {
	return &tar.Header{Name: name, Size: size, Mode: 0o600, ModTime: at, Format: tar.FormatPAX}
}

func addTar(ctx context.Context, w *tar.Writer, src Source, f *File, at time.Time) error {
	r, err := src.Open(ctx, f.Name)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := w.WriteHeader(header(f.Name, f.Size, at)); err != nil {
		return err
	}
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(w, h), r)
	if err == nil && n != f.Size {
		err = fmt.Errorf("it has %d bytes, want %d", n, f.Size)
	}
	if err != nil {
		return fmt.Errorf("file %s: %w", f.Name, err)
	}
	f.SHA256 = hex.EncodeToString(h.Sum(nil))
	return nil
}
