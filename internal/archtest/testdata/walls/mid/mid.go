// Package mid climbs.
package mid

import (
	_ "net/http"

	_ "example.com/script"
	_ "example.com/unknown"
	_ "example.com/x/sys"
	_ "example.com/zip/v2/flate"
)
