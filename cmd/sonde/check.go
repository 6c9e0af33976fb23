package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/sonde-io/sonde/collector"
	"github.com/sonde-io/sonde/collector/capture"
	"github.com/sonde-io/sonde/internal/blob"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/internal/fsys"
	"github.com/sonde-io/sonde/profiles/store"
)

// checked is what `sonde check` found.
type checked struct {
	Dir      string    `json:"dir"`
	Checked  int       `json:"checked"` // blobs
	Problems []problem `json:"problems"`
}

type problem struct {
	Blob string `json:"blob"` // "" for the catalogue's own
	What string `json:"what"`
}

func (a *app) checkCommand() *cobra.Command {
	var grace time.Duration
	var again bool
	cmd := &cobra.Command{
		Use:   "check DIR",
		Short: "Verify every checksum and reference of a data directory",
		Long: `Verify every checksum and reference of a collector's data directory (--data of sonde serve), and the catalogue itself.
Nothing is changed; the collector may be running or not. The exit code is 1 where a problem was found.

With --rebuild the catalogue is made anew where it is lost or damaged: what it says of profiles from the segments and blocks alone, the rest (processes, builds,
events, pins, keys of pushes) from the old catalogue as far as that can be read. The old one is kept as catalog.db.bak-TIME. The collector must not be running. Without
the old one's keys an agent's push that was stored, and whose answer it did not get, is stored again when it sends it again.`,
		Example: `  sonde check ~/.local/share/sonde
  sonde check --rebuild ~/.local/share/sonde`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("want one data directory, got %d", len(args))
			}
			return nil
		},
	}
	out := outputFlag(cmd, "table", "json")
	cmd.Flags().BoolVar(&again, "rebuild", false, "make the catalogue anew from the segments and blocks")
	cmd.Flags().DurationVar(&grace, "grace", time.Hour, "age from which a file that the catalogue does not know is a problem")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if again {
			r, err := rebuild(cmd.Context(), args[0], a.now())
			if err != nil {
				return err
			}
			if err := a.writeRebuilt(out.value, r); err != nil || len(r.Problems) == 0 {
				return err
			}
			return errProblems
		}
		r, err := check(cmd.Context(), args[0], grace)
		if err != nil {
			return err
		}
		if err := a.writeChecked(out.value, r); err != nil {
			return err
		}
		if len(r.Problems) > 0 {
			return errProblems
		}
		return nil
	}
	return cmd
}

func (a *app) writeChecked(format string, r *checked) error {
	if format == "json" {
		return writeJSON(a.stdout, r)
	}
	if len(r.Problems) > 0 {
		tab := a.newTable("BLOB", "PROBLEM")
		for _, p := range r.Problems {
			tab.add(dash(p.Blob), clean(p.What))
		}
		if err := tab.write(a.stdout); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(a.stdout, "%s: %s checked, %s\n", r.Dir, plural(int64(r.Checked), "blob"), plural(int64(len(r.Problems)), "problem"))
	return err
}

// check reads the data directory dir without changing it.
func check(ctx context.Context, dir string, grace time.Duration) (*checked, error) {
	file := filepath.Join(dir, collector.CatalogFile)
	cat, err := catalog.ReadSQLite(ctx, file)
	if err != nil {
		err = fmt.Errorf("check %s: %w", dir, err)
		f, oerr := os.Open(file)
		switch {
		case errors.Is(err, catalog.ErrNotCatalogue):
			err = withHint(err, "DIR is what sonde serve has in --data; where its catalogue was overwritten, `sonde check --rebuild %s` makes a new one", dir)
		case errors.Is(err, catalog.ErrDamaged):
			err = withHint(err, "`sonde check --rebuild %s` makes a new one from the segments and blocks", dir)
		case errors.Is(oerr, os.ErrNotExist):
			return nil, withHint(err, "DIR is what sonde serve has in --data; it holds %s. Where that was lost, `sonde check --rebuild %s` makes a new one", collector.CatalogFile, dir)
		case errors.Is(oerr, os.ErrPermission):
			return nil, withHint(err, "it may not be read: run the check as the user who runs sonde serve")
		}
		if oerr == nil {
			f.Close()
		}
		return nil, err
	}
	defer cat.Close()
	blobs, err := blob.ReadFiles(fsys.OS{}, filepath.Join(dir, collector.BlobDir))
	if err != nil {
		return nil, fmt.Errorf("check %s: %w", dir, err)
	}
	n, problems, err := store.Check(ctx, blobs, cat, grace)
	if err != nil {
		err = fmt.Errorf("check %s: %w", dir, err)
		if errors.Is(err, catalog.ErrDamaged) {
			err = withHint(err, "`sonde check --rebuild %s` makes a new catalogue from the segments and blocks", dir)
		}
		return nil, err
	}
	captures, more, err := capture.Check(ctx, blobs, cat, grace)
	if err != nil {
		return nil, fmt.Errorf("check %s: %w", dir, err)
	}
	r := &checked{Dir: dir, Checked: n + captures, Problems: []problem{}}
	for _, p := range problems {
		r.Problems = append(r.Problems, problem{Blob: p.Blob, What: p.What})
	}
	for _, p := range more {
		r.Problems = append(r.Problems, problem{Blob: p.Blob, What: p.What})
	}
	return r, nil
}
