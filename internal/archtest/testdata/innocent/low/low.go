// Package low has a word.
package low

import (
	"example.com/x/sys"
	"example.com/zip/v2"
)

// Word is the word.
var Word = zip.Short(sys.Name)
