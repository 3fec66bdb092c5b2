// Package examples holds what an operator copies.
package examples

import _ "embed"

// Configuration is banmesh.yaml: every key with its default and what it means.
//
//go:embed banmesh.yaml
var Configuration string
