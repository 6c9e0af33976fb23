package sd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

const (
	filePoll    = 5 * time.Second // files are looked at so often
	fileRefresh = 5 * time.Minute // and read again at least so often, should their times not tell
)

// fileState is what is known of one file.
type fileState struct {
	stamp  string
	groups []Group // last good
	read   time.Time
	err    error
}

// files follows the files of one file_sd_config.
type files struct {
	cfg   FileSD
	known map[string]*fileState
}

// refresh looks at every file that matches and reports what they list, and the first thing that is wrong with one: that one keeps its last good list.
func (f *files) refresh(now time.Time) ([]set, error) {
	var bad error
	here := map[string]bool{}
	for _, pattern := range f.cfg.Files {
		names, err := filepath.Glob(pattern)
		if err != nil {
			return nil, fmt.Errorf("find files: %w", err)
		}
		if len(names) > maxFiles {
			bad = errors.Join(bad, fmt.Errorf("find files: %s matches %d, more than %d", pattern, len(names), maxFiles))
			names = names[:maxFiles]
		}
		for _, name := range names {
			here[name] = true
			bad = errors.Join(bad, f.look(name, now))
		}
	}
	maps.DeleteFunc(f.known, func(name string, _ *fileState) bool { return !here[name] })
	var out []set
	for _, name := range slices.Sorted(maps.Keys(f.known)) {
		out = append(out, groupSets(f.known[name].groups, set{"__meta_filepath": name})...)
	}
	return out, bad
}

// look reads a file if it changed.
func (f *files) look(name string, now time.Time) error {
	st, err := os.Stat(name)
	if err != nil {
		return nil // it went away between the two looks
	}
	stamp := st.ModTime().String() + " " + strconv.FormatInt(st.Size(), 10)
	k := f.known[name]
	again := time.Duration(f.cfg.Refresh)
	if again == 0 {
		again = fileRefresh
	}
	if k != nil && k.stamp == stamp && now.Sub(k.read) < again {
		return k.err
	}
	if k == nil {
		k = &fileState{}
		f.known[name] = k
	}
	k.stamp, k.read = stamp, now
	groups, err := readFile(name)
	if k.err = err; err == nil {
		k.groups = groups
	}
	return err
}

func readFile(name string) ([]Group, error) {
	r, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read targets: %w", err)
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read targets: %w", err)
	}
	groups, err := parseGroups(b, filepath.Ext(name))
	if err != nil {
		return nil, fmt.Errorf("read targets of %s: %w", name, err)
	}
	return groups, nil
}

// parseGroups reads a list of groups, as JSON or YAML by the file's ending.
func parseGroups(b []byte, ext string) (groups []Group, err error) {
	if len(b) > maxFile {
		return nil, fmt.Errorf("larger than %d bytes", maxFile)
	}
	var list []*Group
	if strings.EqualFold(ext, ".json") {
		dec := json.NewDecoder(bytes.NewReader(b))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&list); err != nil {
			return nil, err
		}
		if _, err := dec.Token(); !errors.Is(err, io.EOF) {
			return nil, errors.New("something follows the list")
		}
	} else {
		dec := yaml.NewDecoder(bytes.NewReader(b))
		dec.KnownFields(true)
		if err := dec.Decode(&list); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
	}
	n := 0
	for i, g := range list {
		if g == nil {
			return nil, fmt.Errorf("group %d is empty", i+1)
		}
		if err := g.validate(); err != nil {
			return nil, fmt.Errorf("group %d: %w", i+1, err)
		}
		if n += len(g.Targets); n > maxTargets {
			return nil, fmt.Errorf("more than %d targets", maxTargets)
		}
		groups = append(groups, *g)
	}
	return groups, nil
}

// groupSets makes a set of each target of groups.
func groupSets(groups []Group, meta set) (out []set) {
	for _, g := range groups {
		for _, t := range g.Targets {
			s := maps.Clone(g.Labels)
			if s == nil {
				s = set{}
			}
			maps.Copy(s, meta)
			s[addressLabel] = t
			out = append(out, s)
		}
	}
	return out
}

// runFiles follows the files until ctx is done.
func (m *Manager) runFiles(ctx context.Context, j *job, p *provider, cfg FileSD) {
	f := &files{cfg: cfg, known: map[string]*fileState{}}
	poll := filePoll
	if r := time.Duration(cfg.Refresh); r > 0 {
		poll = min(poll, r)
	}
	for {
		sets, err := f.refresh(time.Now())
		m.update(j, p, sets, err)
		if !sleep(ctx, poll) {
			return
		}
	}
}
