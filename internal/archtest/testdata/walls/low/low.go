// Package low stays.
package low

import _ "example.com/zip/v2"
