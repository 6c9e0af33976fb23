package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/sonde-io/sonde/collector"
	"github.com/sonde-io/sonde/internal/blob"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/internal/fsys"
	"github.com/sonde-io/sonde/profiles/store"
)

// earlierSchema is the schema of the catalogue that the release before this one knows.
const earlierSchema = 1

// backSuffix names the catalogue of the earlier release while it is being written.
const backSuffix = ".back"

// migrated is what `sonde migrate --back` did.
type migrated struct {
	Dir       string   `json:"dir"`
	Rewritten int      `json:"rewritten"` // segments and blocks
	Kept      int      `json:"kept"`      // those that the earlier release reads as they are
	Lost      []string `json:"lost"`
	Old       string   `json:"old"` // where the catalogue is as it was
}

func (a *app) migrateCommand() *cobra.Command {
	var back bool
	cmd := &cobra.Command{
		Use:   "migrate --back DIR",
		Short: "Take a data directory back to what the release before this one can open",
		Long: `Take a collector's data directory (--data of sonde serve) back to what the release before this one can open: segments and blocks are written anew in version 1 of the
format, and the catalogue's schema goes back to 1. What that release cannot hold is dropped, and said. The collector must not be running; afterwards only the earlier release
should be started on the directory: this one would bring it up to date again. Forward there is nothing to do: sonde serve does it by itself.`,
		Example: `  sonde migrate --back ~/.local/share/sonde`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("want one data directory, got %d", len(args))
			}
			return nil
		},
	}
	out := outputFlag(cmd, "table", "json")
	cmd.Flags().BoolVar(&back, "back", false, "to the release before this one")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !back {
			return usage(cmd, "--back is required: forward a directory goes by itself when sonde serve opens it")
		}
		m, err := migrateBack(cmd.Context(), args[0], a.now())
		if err != nil {
			return fmt.Errorf("migrate %s back: %w", args[0], err)
		}
		return a.writeMigrated(out.value, m)
	}
	return cmd
}

// migrateBack changes the data directory dir. Until the last step it is one that this release opens too, so that it can be called again after it failed.
func migrateBack(ctx context.Context, dir string, now time.Time) (_ *migrated, err error) {
	// Opening creates what is missing, which must not happen to a directory that was misspelt.
	read, err := catalog.ReadSQLite(ctx, filepath.Join(dir, collector.CatalogFile))
	if err != nil {
		return nil, withHint(err, "DIR is what sonde serve has in --data; it holds %s", collector.CatalogFile)
	}
	if err := read.Close(); err != nil {
		return nil, err
	}
	lock, err := collector.LockData(dir)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	path := filepath.Join(dir, collector.CatalogFile)
	m, err := rewriteBack(ctx, dir, path, path+backSuffix)
	if err != nil {
		return nil, err
	}
	m.Old, err = replaceCatalogue(path, path+backSuffix, path+".bak-"+now.UTC().Format(bakTime))
	return m, err
}

// rewriteBack migrates the blobs and writes the catalogue of the earlier release to the file back.
func rewriteBack(ctx context.Context, dir, path, back string) (_ *migrated, err error) {
	for _, suffix := range sqliteSuffixes {
		if err := os.Remove(back + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	cat, err := catalog.OpenSQLite(ctx, path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, cat.Close()) }()
	blobs, err := blob.OpenFiles(fsys.OS{}, filepath.Join(dir, collector.BlobDir))
	if err != nil {
		return nil, err
	}
	r, err := store.MigrateBack(ctx, blobs, cat)
	if err != nil {
		return nil, err
	}
	m := &migrated{Dir: dir, Rewritten: r.Rewritten, Kept: r.Kept, Lost: append([]string{}, r.Lost...)}
	captures, _, err := cat.CaptureBytes(ctx)
	if err != nil {
		return nil, err
	}
	if captures > 0 {
		m.Lost = append(m.Lost, plural(captures, "capture")+": the earlier release does not know them; the files stay under captures/, where this release finds them again")
	}
	return m, cat.CopyAtSchema(ctx, back, earlierSchema)
}

func (a *app) writeMigrated(format string, m *migrated) error {
	if format == "json" {
		return writeJSON(a.stdout, m)
	}
	text := fmt.Sprintf("%s: %s written anew, %s left as they were; the release before this one can open it\n", m.Dir, plural(int64(m.Rewritten), "blob"), plural(int64(m.Kept), "blob"))
	for _, l := range m.Lost {
		text += "lost: " + clean(l) + "\n"
	}
	text += "settings that it does not know are errors to it: take retention_rules and limits out of its configuration\n"
	text += "the catalogue as it was is " + m.Old + "\n"
	_, err := fmt.Fprint(a.stdout, text)
	return err
}
