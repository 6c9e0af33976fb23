package vulns

import (
	"archive/zip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
)

// Limits of a database. The real one has 5,000 entries of 15 MiB in all, and an index of 1 MiB.
const (
	maxIndexBytes  = 16 << 20
	maxEntries     = 200_000
	maxMemoryBytes = 256 << 20 // of the entries that are kept, about
)

const (
	modulesIndex = "index/modules.json"
	databaseInfo = "index/db.json"
)

// ErrNoDatabase says that a directory or file holds no vulnerability database.
var ErrNoDatabase = errors.New("no Go vulnerability database")

// ErrTooLarge says that a database is larger than one is.
var ErrTooLarge = errors.New("the vulnerability database is too large")

// Database is a copy of the Go vulnerability database. Entries are read when a module is asked for, and kept.
type Database struct {
	files    fs.FS
	closer   io.Closer // nil: nothing is open
	modified time.Time
	modules  map[string][]string // ids by module
	ids      int

	mu      sync.Mutex
	entries map[string]*Entry // nil: it could not be read
	memory  int64             // of entries, about
}

// Open opens the database in the directory or zip file at name.
func Open(name string) (*Database, error) {
	st, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("open vulnerability database: %w", err)
	}
	d := &Database{entries: map[string]*Entry{}, modules: map[string][]string{}}
	if st.IsDir() {
		d.files = os.DirFS(name)
	} else {
		z, err := zip.OpenReader(name)
		if err != nil {
			return nil, fmt.Errorf("open vulnerability database %s: %w: %w", name, ErrNoDatabase, err)
		}
		d.files, d.closer = z, z
	}
	if err := d.readIndex(); err != nil {
		return nil, errors.Join(fmt.Errorf("open vulnerability database %s: %w", name, err), d.Close())
	}
	return d, nil
}

// OpenZip opens the database in a zip file of size bytes. r is used as long as the database is.
func OpenZip(r io.ReaderAt, size int64) (*Database, error) {
	z, err := zip.NewReader(r, size)
	if err != nil {
		return nil, fmt.Errorf("open vulnerability database: %w: %w", ErrNoDatabase, err)
	}
	d := &Database{files: z, entries: map[string]*Entry{}, modules: map[string][]string{}}
	if err := d.readIndex(); err != nil {
		return nil, fmt.Errorf("open vulnerability database: %w", err)
	}
	return d, nil
}

// Zip writes the database at name, a directory or a zip file, as a zip file.
func Zip(w io.Writer, name string) error {
	st, err := os.Stat(name)
	if err != nil {
		return fmt.Errorf("pack vulnerability database: %w", err)
	}
	if !st.IsDir() {
		f, err := os.Open(name)
		if err == nil {
			_, err = io.Copy(w, f)
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			return fmt.Errorf("pack vulnerability database: %w", err)
		}
		return nil
	}
	z := zip.NewWriter(w)
	root := os.DirFS(name)
	for _, pattern := range []string{"index/*.json", "ID/*.json", "*.json"} {
		files, err := fs.Glob(root, pattern)
		for i := 0; i < len(files) && err == nil; i++ {
			err = addToZip(z, root, files[i])
		}
		if err != nil {
			return fmt.Errorf("pack vulnerability database %s: %w", name, err)
		}
	}
	if err := z.Close(); err != nil {
		return fmt.Errorf("pack vulnerability database: %w", err)
	}
	return nil
}

func addToZip(z *zip.Writer, root fs.FS, name string) error {
	b, err := fs.ReadFile(root, name)
	if err != nil {
		return err
	}
	w, err := z.Create(name)
	if err == nil {
		_, err = w.Write(b)
	}
	return err
}

// Close closes the file. The database must not be asked any more. It may be called again.
func (d *Database) Close() error {
	if d.closer == nil {
		return nil
	}
	err := d.closer.Close()
	d.closer = nil
	return err
}

// Modified returns when the database was last changed by those who keep it, zero where it does not say.
func (d *Database) Modified() time.Time { return d.modified }

// Entries returns the number of vulnerabilities in it.
func (d *Database) Entries() int { return d.ids }

// readIndex reads which entries there are; where there is no index, all entries themselves.
func (d *Database) readIndex() error {
	data, err := d.read(modulesIndex, maxIndexBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return d.readAll()
	}
	if err != nil {
		return err
	}
	var index []struct {
		Path  string `json:"path"`
		Vulns []struct {
			ID string `json:"id"`
		} `json:"vulns"`
	}
	if err := json.Unmarshal(data, &index); err != nil {
		return fmt.Errorf("read %s: %w", modulesIndex, err)
	}
	seen := map[string]bool{}
	for _, m := range index {
		for _, v := range m.Vulns {
			if !validID(v.ID) {
				return fmt.Errorf("read %s: %.64q is no id", modulesIndex, v.ID)
			}
			d.modules[m.Path] = append(d.modules[m.Path], v.ID)
			seen[v.ID] = true
		}
	}
	if d.ids = len(seen); d.ids > maxEntries {
		return fmt.Errorf("read %s: %d vulnerabilities, at most %d are read", modulesIndex, d.ids, maxEntries)
	}
	if data, err := d.read(databaseInfo, maxEntryBytes); err == nil {
		var info struct {
			Modified time.Time `json:"modified"`
		}
		if err := json.Unmarshal(data, &info); err != nil {
			return fmt.Errorf("read %s: %w", databaseInfo, err)
		}
		d.modified = info.Modified
	}
	return nil
}

// readAll reads a database that is entries only, in ID/ or at the top.
func (d *Database) readAll() error {
	for _, folder := range []string{"ID", "."} {
		files, err := fs.ReadDir(d.files, folder)
		if err != nil {
			continue
		}
		for _, f := range files {
			id, ok := strings.CutSuffix(f.Name(), ".json")
			if !ok || !validID(id) {
				continue
			}
			if d.ids++; d.ids > maxEntries {
				return fmt.Errorf("more than %d vulnerabilities", maxEntries)
			}
			e, err := d.entry(folder, id)
			if err != nil {
				return err
			}
			if err := d.keep(id, e); err != nil {
				return err
			}
			if e.Modified.After(d.modified) {
				d.modified = e.Modified
			}
			for i := range e.Affected {
				if p := e.Affected[i].Module.Path; !slices.Contains(d.modules[p], id) {
					d.modules[p] = append(d.modules[p], id)
				}
			}
		}
		if d.ids > 0 {
			return nil
		}
	}
	return fmt.Errorf("%w: there is neither %s nor ID/*.json", ErrNoDatabase, modulesIndex)
}

func (d *Database) entry(folder, id string) (*Entry, error) {
	name := path.Join(folder, id+".json")
	data, err := d.read(name, maxEntryBytes)
	if err != nil {
		return nil, err
	}
	e, err := ParseEntry(data)
	if err == nil && e.ID != id {
		err = fmt.Errorf("it says that it is %.64q", e.ID)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return e, nil
}

// keep keeps an entry, within what a database may take: a small zip file can hold large ones.
func (d *Database) keep(id string, e *Entry) error {
	if d.memory += e.memory; d.memory > maxMemoryBytes {
		return fmt.Errorf("%w: its entries take more than %d bytes of memory", ErrTooLarge, int64(maxMemoryBytes))
	}
	d.entries[id] = e
	return nil
}

// read reads a file of at most most bytes.
func (d *Database) read(name string, most int64) ([]byte, error) {
	f, err := d.files.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(data)) > most {
		err = fmt.Errorf("more than %d bytes", most)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return data, nil
}

// Module returns the vulnerabilities of the module, but those that were withdrawn.
func (d *Database) Module(module string) ([]*Entry, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []*Entry
	for _, id := range d.modules[module] {
		e := d.entries[id]
		if e == nil {
			var err error
			if e, err = d.entry("ID", id); err != nil {
				return nil, fmt.Errorf("look up vulnerabilities of %s: %w", module, err)
			}
			if err := d.keep(id, e); err != nil {
				return nil, fmt.Errorf("look up vulnerabilities of %s: %w", module, err)
			}
		}
		if e.Withdrawn == nil {
			out = append(out, e)
		}
	}
	return out, nil
}
