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
	cmd := &cobra.Command{
		Use:   "check DIR",
		Short: "Verify every checksum and reference of a data directory",
		Long: `Verify every checksum and reference of a collector's data directory (--data of sonde serve), and the catalogue itself.
Nothing is changed; the collector may be running or not. The exit code is 1 where a problem was found.`,
		Example: `  sonde check ~/.local/share/sonde`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("want one data directory, got %d", len(args))
			}
			return nil
		},
	}
	out := outputFlag(cmd, "table", "json")
	cmd.Flags().DurationVar(&grace, "grace", time.Hour, "age from which a file that the catalogue does not know is a problem")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
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
		case errors.Is(oerr, os.ErrNotExist):
			return nil, withHint(err, "DIR is what sonde serve has in --data; it holds %s", collector.CatalogFile)
		case errors.Is(oerr, os.ErrPermission):
			return nil, withHint(err, "it may not be read: run the check as the user who runs sonde serve")
		case oerr == nil:
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
		return nil, fmt.Errorf("check %s: %w", dir, err)
	}
	r := &checked{Dir: dir, Checked: n, Problems: []problem{}}
	for _, p := range problems {
		r.Problems = append(r.Problems, problem{Blob: p.Blob, What: p.What})
	}
	return r, nil
}
