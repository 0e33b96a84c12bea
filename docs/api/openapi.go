// Package openapi holds the description of the API, so that the daemon can serve
// the file that stands in this directory.
package openapi

import _ "embed"

// YAML is openapi.yaml.
//
//go:embed openapi.yaml
var YAML []byte
