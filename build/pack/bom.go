package main

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// bom lists what is in the handler, in CycloneDX's JSON: the modules that were
// linked, by the word of the binary itself, and the Go they were built with. It
// holds no time and no serial number, so that it repeats too.
func bom(handler string, zip []byte) ([]byte, error) {
	info, err := buildinfo.ReadFile(handler)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", handler, err)
	}
	sum := sha256.Sum256(zip)
	b := cdx.NewBOM()
	b.Metadata = &cdx.Metadata{Component: &cdx.Component{
		BOMRef: "portcullis.zip", Type: cdx.ComponentTypeApplication, Name: info.Main.Path,
		Hashes: &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(sum[:])}},
	}}
	components := []cdx.Component{library("std", strings.TrimPrefix(info.GoVersion, "go"), "")}
	for _, m := range info.Deps {
		components = append(components, module(m))
	}
	slices.SortFunc(components, func(a, b cdx.Component) int { return strings.Compare(a.BOMRef, b.BOMRef) })
	b.Components = &components
	var needs []string
	for _, c := range components {
		needs = append(needs, c.BOMRef)
	}
	b.Dependencies = &[]cdx.Dependency{{Ref: "portcullis.zip", Dependencies: &needs}}
	var out bytes.Buffer
	e := cdx.NewBOMEncoder(&out, cdx.BOMFileFormatJSON).SetPretty(true).SetEscapeHTML(false)
	// Not the newest version: what reads such lists lags behind.
	if err := e.EncodeVersion(b, cdx.SpecVersion1_6); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// module is what was linked for a module: its replacement, where it has one.
func module(m *debug.Module) cdx.Component {
	if m.Replace != nil {
		m = m.Replace
	}
	return library(m.Path, m.Version, m.Sum)
}

func library(path, version, sum string) cdx.Component {
	url := "pkg:golang/" + path + "@" + version
	c := cdx.Component{BOMRef: url, Type: cdx.ComponentTypeLibrary, Name: path, Version: version, PackageURL: url, Scope: cdx.ScopeRequired}
	if sum != "" {
		// The sum of go.sum, which is over a module's files and not over one archive.
		c.Properties = &[]cdx.Property{{Name: "golang:sum", Value: sum}}
	}
	return c
}
