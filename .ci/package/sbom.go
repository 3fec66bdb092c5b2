// Sbom writes the bill of materials of a Go binary on stdout: CycloneDX 1.5 as
// JSON (https://cyclonedx.org/docs/1.5/json/), made from what the linker noted
// in the binary and from the licences of the modules as go.sum pins them. The
// same binary gives the same bytes.
//
//	go run .ci/package/sbom.go VERSION BINARY
package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: sbom VERSION BINARY")
		os.Exit(2)
	}
	if err := write(os.Stdout, os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

// The parts of CycloneDX that are used.
type (
	bom struct {
		Format       string       `json:"bomFormat"`
		Spec         string       `json:"specVersion"`
		Version      int          `json:"version"`
		Metadata     metadata     `json:"metadata"`
		Components   []component  `json:"components"`
		Dependencies []dependency `json:"dependencies"`
	}
	metadata struct {
		Timestamp string    `json:"timestamp,omitempty"`
		Component component `json:"component"`
	}
	component struct {
		Type       string     `json:"type"`
		Ref        string     `json:"bom-ref"`
		Name       string     `json:"name"`
		Version    string     `json:"version"`
		PURL       string     `json:"purl,omitempty"`
		Hashes     []hash     `json:"hashes,omitempty"`
		Licenses   []license  `json:"licenses,omitempty"`
		Properties []property `json:"properties,omitempty"`
	}
	hash struct {
		Algorithm string `json:"alg"`
		Content   string `json:"content"`
	}
	license struct {
		Expression string `json:"expression"` // SPDX
	}
	property struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
	dependency struct {
		Ref       string   `json:"ref"`
		DependsOn []string `json:"dependsOn"`
	}
)

func write(out io.Writer, version, binary string) error {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return err
	}
	content, err := os.ReadFile(binary)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(content)
	b := bom{
		Format: "CycloneDX", Spec: "1.5", Version: 1,
		Metadata: metadata{Component: component{
			Type: "application", Ref: "banmesh", Name: "banmesh", Version: version,
			Hashes: []hash{{"SHA-256", hex.EncodeToString(sum[:])}}, Properties: settings(info),
		}},
	}
	if seconds := os.Getenv("SOURCE_DATE_EPOCH"); seconds != "" {
		var unix int64
		if _, err := fmt.Sscan(seconds, &unix); err != nil {
			return fmt.Errorf("SOURCE_DATE_EPOCH %q is no number of seconds", seconds)
		}
		b.Metadata.Timestamp = time.Unix(unix, 0).UTC().Format(time.RFC3339)
	}
	// The toolchain's own library is in every binary.
	goVersion := strings.TrimPrefix(info.GoVersion, "go")
	b.Components = append(b.Components, component{
		Type: "library", Ref: "pkg:golang/std@" + goVersion, Name: "std", Version: goVersion, PURL: "pkg:golang/std@" + goVersion,
		Licenses: []license{{"BSD-3-Clause"}},
	})
	for _, m := range info.Deps {
		c, err := module(m)
		if err != nil {
			return fmt.Errorf("module %s: %w", m.Path, err)
		}
		b.Components = append(b.Components, c)
	}
	refs := []string{}
	for _, c := range b.Components {
		refs = append(refs, c.Ref)
	}
	b.Dependencies = []dependency{{"banmesh", refs}}
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(b)
}

// settings are those of the build that say which machine it is for.
func settings(info *debug.BuildInfo) []property {
	var out []property
	for _, s := range info.Settings {
		switch s.Key {
		case "GOOS", "GOARCH", "CGO_ENABLED":
			out = append(out, property{"build:" + s.Key, s.Value})
		}
	}
	return out
}

func module(m *debug.Module) (component, error) {
	if m.Replace != nil {
		m = m.Replace
	}
	if m.Sum == "" {
		return component{}, errors.New("go.sum does not pin it")
	}
	license, err := licenseOf(m)
	if err != nil {
		return component{}, err
	}
	purl := "pkg:golang/" + m.Path + "@" + m.Version
	return component{
		Type: "library", Ref: purl, Name: m.Path, Version: m.Version, PURL: purl, Licenses: license,
		// go.sum's sum is over the list of the module's files, not over one file: no hash in CycloneDX's sense.
		Properties: []property{{"go:sum", m.Sum}},
	}, nil
}

// licenseOf finds the licence among the module's files.
func licenseOf(m *debug.Module) ([]license, error) {
	out, err := exec.Command("go", "mod", "download", "-json", m.Path+"@"+m.Version).Output()
	if err != nil {
		return nil, fmt.Errorf("go mod download: %w", err)
	}
	var at struct{ Dir, Sum string }
	if err := json.Unmarshal(out, &at); err != nil {
		return nil, err
	}
	if at.Sum != m.Sum {
		return nil, fmt.Errorf("the sum of what was downloaded is %s, of what was linked %s", at.Sum, m.Sum)
	}
	for _, name := range []string{"LICENSE", "LICENSE.md", "LICENSE.txt", "LICENCE", "COPYING"} {
		text, err := os.ReadFile(filepath.Join(at.Dir, name))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if id := recognize(string(text)); id != "" {
			return []license{{id}}, nil
		}
		return nil, fmt.Errorf("the licence in %s is none that is known here: look at it, then teach recognize", name)
	}
	return nil, errors.New("it has no file with a licence")
}

// recognize names a licence by the words that only it has, in SPDX's terms.
func recognize(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	var found []string
	add := func(id string, words ...string) {
		for _, w := range words {
			if !strings.Contains(text, w) {
				return
			}
		}
		found = append(found, id)
	}
	add("MIT", "Permission is hereby granted, free of charge")
	add("ISC", "Permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is hereby granted")
	add("Apache-2.0", "Apache License", "ersion 2.0")
	add("MPL-2.0", "Mozilla Public License", "ersion 2.0")
	switch bsd := "Redistribution and use in source and binary forms"; {
	case strings.Contains(text, "Neither the name"):
		add("BSD-3-Clause", bsd)
	default:
		add("BSD-2-Clause", bsd)
	}
	return strings.Join(found, " AND ")
}
