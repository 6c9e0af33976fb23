package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/sonde-io/sonde/collector/audit"
	"github.com/sonde-io/sonde/internal/catalog"
	"github.com/sonde-io/sonde/profiles/store"
	"github.com/sonde-io/sonde/symbols/binaries"
	"github.com/sonde-io/sonde/symbols/build"
	"github.com/sonde-io/sonde/symbols/pclntab"
	"github.com/sonde-io/sonde/symbols/vulns"
)

// fileFleet makes files look like a fleet in which each file is a service that was never profiled, so that they are judged as builds of a collector are.
type fileFleet struct {
	builds    []catalog.Build
	processes []catalog.FleetProcess
	paths     map[string]string // by build
}

func (f *fileFleet) FleetProcesses(context.Context, int64, int) ([]catalog.FleetProcess, error) {
	return f.processes, nil
}
func (f *fileFleet) Builds(context.Context, string) ([]catalog.Build, error) { return f.builds, nil }
func (f *fileFleet) Types(context.Context, store.Query) ([]store.TypeInfo, error) {
	return nil, nil
}
func (f *fileFleet) SeenFunctions(context.Context, store.FunctionsQuery) ([]store.SeenFunction, error) {
	return nil, nil
}
func (f *fileFleet) Functions(id string) (binaries.Functions, error) {
	return pclntab.Open(f.paths[id])
}

// vulnsOfFiles judges binaries of this machine. Files that are no Go programs are passed over with a word.
func (a *app) vulnsOfFiles(ctx context.Context, files []string, db, releases string) (r audit.Report, err error) {
	if db == "" {
		return r, withHint(errors.New("look for vulnerabilities: no database is named"), "download https://vuln.go.dev/vulndb.zip, and name it with --db")
	}
	if err := a.checkDatabase(db); err != nil {
		return r, err
	}
	f := &fileFleet{paths: map[string]string{}}
	for _, path := range files {
		info, err := build.ReadFile(path)
		if errors.Is(err, build.ErrNotGo) && len(files) > 1 {
			fmt.Fprintf(a.stderr, "%s is not a Go program\n", clean(path))
			continue
		}
		if err != nil {
			return r, err
		}
		id := info.Key()
		if id == "" {
			id = path // the linker was told to leave ids out
		}
		if f.paths[id] == "" {
			f.paths[id] = path
			f.builds = append(f.builds, catalog.Build{ID: id, GoVersion: info.GoVersion, Module: info.Module(), Version: info.Version(), Info: info.Mod.String()})
		}
		f.processes = append(f.processes, catalog.FleetProcess{Process: catalog.Process{Instance: path, Service: path, BuildID: id}})
	}
	auditor, err := audit.New(audit.Config{Catalog: f, Profiles: f, Binaries: f, Settings: vulns.Settings{Database: db, Releases: releases}, Now: a.now})
	if err != nil {
		return r, err
	}
	defer auditor.Close()
	now := a.now()
	made, err := auditor.Report(ctx, "", now.AddDate(0, 0, -1), now)
	if err != nil {
		return r, err
	}
	return *made, nil
}
