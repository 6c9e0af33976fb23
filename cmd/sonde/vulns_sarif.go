package main

import (
	"fmt"
	"strings"

	"github.com/sonde-io/sonde/collector/audit"
)

// SARIF 2.1.0 (https://docs.oasis-open.org/sarif/sarif/v2.1.0/), as much of it as code scanners read. They want a file for each result: it is go.mod, where the cure goes.
type sarifLog struct {
	Schema  string     `json:"$schema"`
	Version string     `json:"version"`
	Runs    []sarifRun `json:"runs"`
}

type sarifRun struct {
	Tool struct {
		Driver sarifDriver `json:"driver"`
	} `json:"tool"`
	Results []sarifResult `json:"results"`
}

type sarifDriver struct {
	Name           string      `json:"name"`
	Version        string      `json:"semanticVersion,omitempty"`
	InformationURI string      `json:"informationUri"`
	Rules          []sarifRule `json:"rules"`
}

type sarifRule struct {
	ID         string         `json:"id"`
	Short      sarifText      `json:"shortDescription"`
	Full       sarifText      `json:"fullDescription"`
	HelpURI    string         `json:"helpUri,omitempty"`
	Properties map[string]any `json:"properties,omitempty"`
}

type sarifText struct {
	Text string `json:"text"`
}

type sarifResult struct {
	RuleID       string            `json:"ruleId"`
	Level        string            `json:"level"` // error: seen running; warning: it may; note: it is not in the binary
	Message      sarifText         `json:"message"`
	Locations    []sarifLocation   `json:"locations"`
	Fingerprints map[string]string `json:"partialFingerprints"`
	Properties   map[string]any    `json:"properties"`
}

type sarifLocation struct {
	Physical struct {
		Artifact struct {
			URI string `json:"uri"`
		} `json:"artifactLocation"`
		Region struct {
			StartLine int `json:"startLine"`
		} `json:"region"`
	} `json:"physicalLocation"`
	Logical []sarifLogical `json:"logicalLocations,omitempty"`
}

type sarifLogical struct {
	Name string `json:"fullyQualifiedName"`
	Kind string `json:"kind"`
}

func sarifOf(r *audit.Report) *sarifLog {
	run := sarifRun{Results: []sarifResult{}}
	run.Tool.Driver = sarifDriver{Name: "sonde", InformationURI: "https://github.com/sonde-io/sonde", Rules: []sarifRule{}}
	if v := currentVersion().Version; v != "devel" {
		run.Tool.Driver.Version = strings.TrimPrefix(v, "v")
	}
	known := map[string]bool{}
	rule := func(id, short, url string, tags ...string) {
		if !known[id] {
			known[id] = true
			run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, sarifRule{ID: id, Short: sarifText{id}, Full: sarifText{short}, HelpURI: url, Properties: map[string]any{"tags": tags}})
		}
	}
	for _, v := range r.Vulns {
		rule(v.ID, v.Summary, v.URL, v.Aliases...)
		run.Results = append(run.Results, sarifVuln(&v))
	}
	const unsupported = "go-unsupported"
	for _, u := range r.Unsupported {
		rule(unsupported, "The Go version is out of support and gets no security fixes.", "https://go.dev/doc/devel/release#policy")
		run.Results = append(run.Results, sarifResult{RuleID: unsupported, Level: "warning", Locations: sarifPlace(nil),
			Message:      sarifText{fmt.Sprintf("Build %s of %s is built with %s, which is out of support since %s.", u.Build, strings.Join(u.Services, ", "), u.Go, u.Since)},
			Fingerprints: map[string]string{"sonde/v1": unsupported + "/" + strings.Join(u.Services, ",")},
			Properties:   map[string]any{"build": u.Build, "services": u.Services}})
	}
	return &sarifLog{Schema: "https://json.schemastore.org/sarif-2.1.0.json", Version: "2.1.0", Runs: []sarifRun{run}}
}

func sarifVuln(v *audit.Vuln) sarifResult {
	level, state := "warning", "It is not known whether a vulnerable function is in the binary."
	switch {
	case len(v.Seen) > 0:
		s := v.Seen[0]
		level, state = "error", fmt.Sprintf("%s was seen running in %s, last at %s.", s.Function, s.Service, rfc3339(s.Last))
	case v.InBinary == "yes":
		state = "A vulnerable function is in the binary; profiles did not see it run."
	case v.InBinary == "no":
		level, state = "note", "No vulnerable function is in the binary."
	}
	fix := "There is no fixed version yet."
	if v.Fixed != "" {
		fix = "Fixed in " + v.Fixed + "."
	}
	functions := v.Present
	for _, s := range v.Seen {
		functions = append([]string{s.Function}, functions...)
		break
	}
	return sarifResult{RuleID: v.ID, Level: level, Locations: sarifPlace(functions),
		Message:      sarifText{fmt.Sprintf("%s %s in build %s of %s: %s %s %s", v.Module, v.Found, v.Build, strings.Join(v.Services, ", "), strings.TrimSuffix(v.Summary, ".")+".", state, fix)},
		Fingerprints: map[string]string{"sonde/v1": v.ID + "/" + v.Module + "/" + strings.Join(v.Services, ",")},
		Properties:   map[string]any{"build": v.Build, "services": v.Services, "in_binary": v.InBinary, "seen": v.Seen}}
}

// sarifPlace is go.mod and the first of the functions.
func sarifPlace(functions []string) []sarifLocation {
	var l sarifLocation
	l.Physical.Artifact.URI, l.Physical.Region.StartLine = "go.mod", 1
	for _, f := range functions[:min(len(functions), 1)] {
		l.Logical = append(l.Logical, sarifLogical{f, "function"})
	}
	return []sarifLocation{l}
}
