package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sonde-io/sonde/cmd/sonde/internal/client"
	"github.com/sonde-io/sonde/collector"
	"github.com/sonde-io/sonde/internal/backup"
	"github.com/sonde-io/sonde/internal/blob"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/internal/fsys"
)

// backedUp is what `sonde backup` and `sonde restore` say.
type backedUp struct {
	Path    string `json:"path"`
	Created int64  `json:"created"` // Unix ms: all that was acknowledged before is in it
	Files   int    `json:"files"`
	Bytes   int64  `json:"bytes"`
	Fetched int64  `json:"fetched"` // bytes that were read; the others were there from before
}

func (a *app) backupCommand() *cobra.Command {
	var data string
	cmd := &cobra.Command{
		Use:   "backup DIR|FILE.tar",
		Short: "Copy all that a collector stores, while it runs",
		Long: `Copy all that a collector stores, while it runs: what was acknowledged before the command began is in the copy, whole.

Into a directory the copy may be carried on where it was interrupted, and made again later: what is there is not read again, and
what is gone since is removed once the new copy is whole. A name that ends in .tar is one file. Either has a manifest with the
checksum of every file, without which it is not taken for a backup. With --data the directory of a collector that is stopped is
copied.`,
		Example: `  sonde backup /backups/sonde
  sonde backup /backups/sonde-2026-11-21.tar --server https://sonde.example:7070
  sonde backup /backups/sonde --data ~/.local/share/sonde`,
		Args: cobra.ExactArgs(1),
	}
	cmd.Flags().StringVar(&data, "data", "", "data directory of a collector that is stopped, instead of asking one that runs")
	out := outputFlag(cmd, "table", "json")
	a.serverFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		b, err := a.backup(cmd.Context(), args[0], data)
		if err != nil {
			return err
		}
		if out.value == "json" {
			return writeJSON(a.stdout, b)
		}
		_, err = fmt.Fprintf(a.stdout, "%s: %s, %d bytes (%d read), as of %s\n", b.Path, plural(int64(b.Files), "file"), b.Bytes, b.Fetched, stamp(b.Created))
		return err
	}
	return cmd
}

func (a *app) backup(ctx context.Context, to, data string) (_ *backedUp, err error) {
	var s *backup.Session
	var src backup.Source
	var end func() error
	if data != "" {
		s, src, end, err = stoppedSource(ctx, data)
	} else {
		s, src, end, err = a.remoteSource(ctx)
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, end()) }()
	write := backup.ToDir
	if strings.HasSuffix(to, ".tar") {
		write = backup.ToTar
	}
	w, err := write(ctx, s.Manifest, src, to)
	if err != nil {
		return nil, err
	}
	return &backedUp{Path: to, Created: w.Created, Files: len(w.Files), Bytes: w.Bytes(), Fetched: w.Fetched}, nil
}

// endTimeout bounds giving a backup up, also where it was interrupted: the collector does it by itself after some minutes.
const endTimeout = 5 * time.Second

// remote reads a backup of a collector that runs.
type remote struct {
	c  *client.Client
	id string
}

func (r remote) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	return r.c.Get(ctx, "/api/v1/backups/"+r.id+"/files/"+name, nil)
}

func (a *app) remoteSource(ctx context.Context) (*backup.Session, backup.Source, func() error, error) {
	c, err := a.client()
	if err != nil {
		return nil, nil, nil, err
	}
	s := &backup.Session{}
	if err := c.Change(ctx, http.MethodPost, "/api/v1/backups", nil, s); err != nil {
		return nil, nil, nil, err
	}
	end := func() error {
		defer c.Close()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
		defer cancel()
		var answer struct{}
		return c.Change(ctx, http.MethodDelete, "/api/v1/backups/"+s.ID, nil, &answer)
	}
	return s, remote{c, s.ID}, end, nil
}

// stopped is the catalogue of a collector that does not run: nothing is deleted meanwhile.
type stopped struct{ *catalog.DB }

func (stopped) Hold(context.Context, string, time.Duration) error { return nil }

// local reads a backup of a directory.
type local struct {
	h  *backup.Host
	id string
}

func (l local) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	r, _, err := l.h.Open(ctx, l.id, name)
	return r, err
}

// stoppedSource locks a data directory and changes nothing in it.
func stoppedSource(ctx context.Context, data string) (_ *backup.Session, _ backup.Source, _ func() error, err error) {
	var closers []func() error
	end := func() (err error) {
		for len(closers) > 0 {
			last := len(closers) - 1
			err = errors.Join(err, closers[last]())
			closers = closers[:last]
		}
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, end())
		}
	}()
	if _, err := os.Stat(filepath.Join(data, collector.CatalogFile)); err != nil {
		return nil, nil, nil, withHint(fmt.Errorf("back up %s: %w", data, err), "--data is what sonde serve has in --data; it holds %s", collector.CatalogFile)
	}
	lock, err := collector.LockData(data)
	if err != nil {
		return nil, nil, nil, err
	}
	closers = append(closers, lock.Close)
	cat, err := catalog.ReadSQLite(ctx, filepath.Join(data, collector.CatalogFile))
	if err != nil {
		return nil, nil, nil, err
	}
	closers = append(closers, cat.Close)
	blobs, err := blob.ReadFiles(fsys.OS{}, filepath.Join(data, collector.BlobDir))
	if err != nil {
		return nil, nil, nil, err
	}
	temp, err := os.MkdirTemp("", "sonde-backup-")
	if err != nil {
		return nil, nil, nil, err
	}
	closers = append(closers, func() error { return os.RemoveAll(temp) })
	h := &backup.Host{Dir: temp, Catalog: stopped{cat}, Blobs: blobs}
	if series := filepath.Join(data, collector.MetricsDir); exists(series) {
		h.Metrics = func(context.Context, string) (string, error) { return series, nil }
	}
	closers = append(closers, h.Close)
	s, err := h.Begin(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	return s, local{h, s.ID}, end, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func (a *app) restoreCommand() *cobra.Command {
	var data string
	cmd := &cobra.Command{
		Use:   "restore BACKUP",
		Short: "Put a backup into an empty data directory",
		Long: `Put a backup, a directory or a .tar, into an empty data directory, and verify it: the checksum of every file against the
manifest, and then all that sonde check verifies. Where a checksum is wrong nothing is left behind.

A collector that is started on it applies its retention once it has received profiles for an hour: to look at what is older,
start it with --retention-age 0, or pin it first.`,
		Example: `  sonde restore /backups/sonde --data /var/lib/sonde && sonde serve --data /var/lib/sonde`,
		Args:    cobra.ExactArgs(1),
	}
	cmd.Flags().StringVar(&data, "data", "", "data directory to make; it must be empty or missing (required)")
	out := outputFlag(cmd, "table", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if data == "" {
			return usage(cmd, "--data is required: the directory to restore into")
		}
		b, r, err := restore(cmd.Context(), args[0], data)
		if err != nil {
			return err
		}
		if out.value == "json" {
			err = writeJSON(a.stdout, struct {
				*backedUp
				Problems []problem `json:"problems"`
			}{b, r.Problems})
		} else if err = a.writeChecked("table", r); err == nil {
			_, err = fmt.Fprintf(a.stdout, "%s: %s, %d bytes, as of %s\n", b.Path, plural(int64(b.Files), "file"), b.Bytes, stamp(b.Created))
		}
		if err == nil && len(r.Problems) > 0 {
			err = errProblems
		}
		return err
	}
	return cmd
}

func restore(ctx context.Context, from, data string) (*backedUp, *checked, error) {
	if _, err := os.Stat(from); errors.Is(err, fs.ErrNotExist) {
		return nil, nil, withHint(fmt.Errorf("restore backup: %w", err), "BACKUP is what sonde backup wrote: a directory or a .tar")
	}
	m, err := backup.Restore(ctx, from, data, backup.Layout{Catalog: collector.CatalogFile, Blobs: collector.BlobDir, Metrics: collector.MetricsDir, Lock: collector.LockFile})
	if err != nil {
		return nil, nil, err
	}
	lock, err := collector.LockData(data)
	if err != nil {
		return nil, nil, err
	}
	defer lock.Close()
	// The backup may be of an older version: this brings its schema up to date, as starting a collector would.
	cat, err := catalog.OpenSQLite(ctx, filepath.Join(data, collector.CatalogFile))
	if err != nil {
		return nil, nil, err
	}
	if err := cat.Close(); err != nil {
		return nil, nil, err
	}
	r, err := check(ctx, data, 0)
	if err != nil {
		return nil, nil, err
	}
	return &backedUp{Path: data, Created: m.Created, Files: len(m.Files), Bytes: m.Bytes(), Fetched: m.Bytes()}, r, nil
}
